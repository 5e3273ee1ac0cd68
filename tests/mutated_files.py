"""Damaged trace files, each given to a command as a user would: run as a process of its own, with limits.

    python -m tests.mutated_files WHOLE.json RESULTS FIRST COUNT

Writes a line of JSON to RESULTS for each file: its number, whether it was refused, and what was wrong with the answer.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import resource
import sys
import tempfile
import traceback
from pathlib import Path

from gradtrace import cli, tracefile
from gradtrace.errors import TraceFileError
from tests.mutations import mutated

MEMORY = 3 * 2**30  # of addresses: torch's own are half of that
SECONDS = 3  # of processor time a file, on average; what never ends is stopped by it
COMMANDS = (
    ["render", "-f", "dot", "-o", "-"], ["render", "-f", "mermaid", "-o", "-", "--depth", "1"],
    ["render", "-f", "markdown", "-o", "-"], ["render", "-f", "text", "-o", "-", "--full"],
    ["render", "-f", "json", "-o", "-"], ["render", "-f", "tikz", "-o", "-"],
    ["render", "-f", "dot", "-o", "-", "--full"],
    ["render", "-f", "dot", "-o", "-", "--depth", "2", "--max-nodes", "3", "--formulas"],
    ["render", "--pass", "all", "-f", "svg", "-o", "picture.svg"],
    ["check"], ["check", "--json"], ["check", "-f", "sarif"], ["check", "-f", "github"], ["check", "--numeric"],
    ["explain"], ["explain", "-f", "latex", "--order", "2"], ["explain", "-f", "markdown", "--pass", "all"],
    ["render", "-f", "html", "-o", "page.html"], ["history"], ["history", "--update"], ["history", "-o", "table.csv"],
    ["history", "-o", "norms.svg"], ["render", "--focus", "n3", "-f", "dot", "-o", "-"], ["render", "--slopes"],
)  # fmt: skip


def answer(command: list[str], file: Path) -> tuple[int, str]:
    """Run a command; return its exit code and what it said, a traceback included."""
    said = io.StringIO()
    sys.argv = ["gradtrace", *command, str(file)]
    try:
        with contextlib.redirect_stderr(said):
            cli.main()
    except SystemExit as end:
        return int(end.code or 0), said.getvalue()
    except BaseException:  # noqa: BLE001 - the answer that must not be
        return -1, traceback.format_exc()
    return 0, said.getvalue()


def wrong(number: int, file: Path, generator: random.Random) -> tuple[bool, str]:
    """Return whether a file was refused, and what is wrong with the answers to it, if anything."""
    try:
        tracefile.load(file)
        refused = False
    except TraceFileError:
        refused = True
    except Exception:  # noqa: BLE001 - a fault
        return False, traceback.format_exc()
    for command in generator.sample(COMMANDS, 1 if refused else 2):
        code, said = answer(command, file)
        fine = code in ({2} if refused else {0, 1, 2, 3}) and "Traceback" not in said
        if not fine or (refused and said.count("\n") != 1) or (code == 2 and "\ngradtrace: " not in f"\n{said}"):
            return refused, f"{' '.join(command)} ended with {code}: {said[-3000:]}"
    return refused, ""


def main(whole: str, results: str, first: int, count: int) -> None:
    """Try these files."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (20 + SECONDS * count, 30 + SECONDS * count))
    trace = json.loads(Path(whole).read_bytes())
    with (
        Path(results).open("w", encoding="utf-8") as out,
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
    ):
        for number in range(first, first + count):
            generator = random.Random(number)
            data = mutated(trace, generator)
            file = Path(folder, "run.json")
            file.write_bytes(data)
            print(json.dumps({"started": number}), file=out, flush=True)
            refused, fault = wrong(number, file, generator)
            print(json.dumps({"number": number, "refused": refused, "fault": fault}), file=out, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
