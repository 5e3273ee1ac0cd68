"""How lines are set: as a table where they fit, and never wider than asked for."""

from __future__ import annotations

import pytest

from gradtrace.explain.layout import beside, derivation

ROWS = [
    ("f = u**2 + u*v", "= 12", "", "", "script.py:6"),
    ("∂f/∂u = 2·u + v", "= 8", "autograd 8", "finite differences 8.000", ""),
    ("∂f/∂v = " + " + ".join(f"v{n}" for n in range(20)), "= 50", "autograd 50", "finite differences 50.00", ""),
]


def test_rows_that_fit_stand_in_columns():
    first, second = derivation(ROWS[:2], 80)
    assert first == "f = u**2 + u*v    = 12   script.py:6"
    assert second == "∂f/∂u = 2·u + v   = 8    autograd 8   finite differences 8.000"


@pytest.mark.parametrize("width", [60, 80, 120, 300])
def test_no_line_is_wider_than_asked_for(width):
    lines = derivation(ROWS, width) + beside("    out    48 → v", "grad · n · " * 20, width)
    assert max(map(len, lines)) <= width
    assert sum("finite differences" in line for line in lines) == 2


def test_a_formula_stands_beside_what_went_out_if_there_is_room():
    assert beside("    out    48 → v", "grad · 3", 80) == [f"{'    out    48 → v':34} grad · 3"]
    assert len(beside("    out    48 → v", "grad · 3 " * 9, 80)) > 1
