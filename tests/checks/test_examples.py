"""The examples that ship with gradtrace: healthy ones have no finding, the mistaken one has its own."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from tests.checking import findings

FOLDER = Path(__file__).parent.parent.parent / "examples"
SEEN = {"backward_twice": {"backward-twice"}, "accumulate": {"accumulated", "grad-alias"}, "rnn": {"vanishing"}}


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_an_example_has_the_findings_that_it_should_have(name, tmp_path):
    with contextlib.redirect_stdout(io.StringIO()):
        found = findings((FOLDER / f"{name}.py").read_text(), tmp_path)
    assert {finding.check for finding in found} == SEEN.get(name, set())
