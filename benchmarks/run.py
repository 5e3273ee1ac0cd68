"""``make bench``: measure everything, and write the table to docs/benchmarks.md."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from rows import ROWS, Row, Size

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
OTHERS = ("anomaly mode", "torchviz", "torchlens")
HOW = """\
One process per row, one thread. Ratios are CPU time of forward and backward (`time.process_time`) against the
plain run in the same process, all contenders taking turns, the median of {rounds} turns. Python's garbage
collector is frozen once before the first turn, for all alike. The first figure of ours is the run of the script;
the second has the making of the trace from what was noted, which begins when the script has ended. Times of
commands are wall time; memory is the peak of the whole process, as the system tells it. A dash: not installed, or
no such thing.
"""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes; print the table, write no file")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the rows with this in their name; to stdout")
    options = parser.parse_args()
    size = Size(quick=options.quick)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        rows = [_told(make(size)) for what, make in ROWS.items() if options.only in what]
    page = _page(rows, size)
    if options.quick or options.only:
        print(page, end="")
    else:
        PAGE.write_text(page, encoding="utf-8")
        print(f"wrote {PAGE.relative_to(ROOT)}", file=sys.stderr)


def _told(row: Row) -> Row:
    print(f"{row.what}: {row.ours} (target {row.target})", file=sys.stderr)
    return row


def _page(rows: list[Row], size: Size) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; not by hand.",
        "",
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}: {_machine()}.",
        "",
        HOW.format(rounds=size.rounds),
        _line(["what", "gradtrace", "target", "plain", *OTHERS]),
        _line(["---"] * (4 + len(OTHERS))),
        *(_line([r.what, r.ours, r.target, r.plain, *(r.others.get(name, "–") for name in OTHERS)]) for r in rows),
    ]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _machine() -> str:
    """Return the processor, its cores and the versions."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    python = f"Python {platform.python_version()}, torch {version('torch')}"
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, {python}"


if __name__ == "__main__":
    main()
