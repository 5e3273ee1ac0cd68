"""The page on the inside: each function that it names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROW = re.compile(r"^\| \d+ \| `([\w/]+\.py)(?:: ([\w.]+))?`(?: \(in C: `([\w/]+\.c)`\))?", re.MULTILINE)


def ways():
    page = (ROOT / "docs" / "inside.md").read_text()
    return [section for section in page.split("\n## ") if " way from " in section.splitlines()[0]]


def test_the_ways_name_functions_that_exist():
    rows = [found for way in ways() for found in ROW.findall(way)]
    for file, name, source in rows:
        text = (ROOT / "gradtrace" / file).read_text()
        for part in filter(None, name.split(".")):
            assert re.search(rf"^ *(def|class|async def) {part}\b|^{part}\b.* = ", text, re.MULTILINE), (file, part)
        assert not source or (ROOT / "gradtrace" / "recording" / source).is_file()


def test_a_gradient_goes_at_most_25_hops_and_a_finding_12():
    gradient, finding = (len(ROW.findall(way)) for way in ways())
    assert 10 < gradient <= 25
    assert 4 < finding <= 12
