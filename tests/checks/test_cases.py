"""Faults of real training code, rebuilt in small scripts: what is said of each, and what must not be said.

The first line of each script in ``cases`` says what is expected of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checking import findings

# PyTorch warns of some of the faults itself, with no line of the script.
pytestmark = pytest.mark.filterwarnings("ignore:std\\(\\)")
CASES = Path(__file__).parent / "cases"

# The check and its line's text; words of its message or hint; and words that are wrong there.
SAID = {
    "ce-all-ignored": (
        "nonfinite-forward", "F.cross_entropy(head(torch.randn(3, 8)), y)", ["every target is -100", "0/0"], ["clamp"],
    ),
    "divided-by-zero-fact": ("nonfinite-forward", "x / y", ["x[1] is 5", "y[1] is 0", "a division by 0"], ["x[1] is 0"]),
    "dtensor-nan": ("nonfinite-forward", "", ["w itself holds NaN"], ["turned finite"]),
    "gumbel-by-hand": ("nonfinite-forward", "torch.log(-torch.log(u))", ["log of 0 is -infinity"], ["masked later"]),
    "logs": ("nonfinite-forward", "torch.log10(x2)", ["x2[0] is 0", "log10 of 0 is -infinity"], ["overflow", "rate"]),
    "masked-later-where": (
        "nonfinite-origin", "1 / x", ["x[0] is 0", "masked later, at WhereBackward0"], ["at MulBackward0"],
    ),
    "masked-row-then-view": (
        "nonfinite-forward", "torch.softmax(s.view(-1, 3), -1)", ["the row [3, :] is -infinity as a whole"], ["power"],
    ),
    "nan-labels-masked-late": (
        "nonfinite-origin", "(pred - y) ** 2",
        ["`pred - y`[2, 1] is NaN", "a gradient of 0 arrived: 0 times NaN is NaN", "`y[2, 1]`", "pred[valid]"],
        ["power", "clamp"],
    ),
    "nan-target-where": (
        "nonfinite-origin", "(pred - target) ** 2", ["[1] is NaN", '`torch.tensor([1.0, float("nan"), 3.0])`'],
        ["power", "clamp"],
    ),
    "overflow-in-add-half": (
        "nonfinite-forward", "h + branch", ["40000 + 40000 is 80000, and float16 ends at 65504", "bfloat16"], ["div"],
    ),
    "overflow-in-add": ("nonfinite-forward", "c + d", ["3e+38 + 1e+38 is 4e+38"], []),
    "rms-norm-half": (
        "nonfinite-forward", "x.pow(2)", ["float16 ends at 65504", "RsqrtBackward0", "makes 0 of that"], ["log"],
    ),
    "std-of-one": (
        "nonfinite-forward", "reward.std(dim=1, keepdim=True)", ["over one element", "unbiased=False"], ["input data"],
    ),
    "supcon-zero-times-inf": (
        "nonfinite-forward", "pos * logp", ["pos[0, 0] is 0", "logp[0, 0] is -inf", "0 times infinity is NaN"], ["clamp"],
    ),
}  # fmt: skip


def found_in(name, folder):
    """What is found in one of the scripts."""
    return findings((CASES / f"{name}.py").read_text(encoding="utf-8"), folder)


@pytest.mark.parametrize("name", SAID)
def test_a_case_is_told_on_its_line_with_its_reason(name, tmp_path):
    check, line, words, wrong = SAID[name]
    found = found_in(name, tmp_path)
    assert [(f.check, f.source.text if f.source else "") for f in found][:1] == [(check, line)]
    said = f"{found[0].message} -> {found[0].hint}"
    assert [word for word in words if word not in said] == []
    assert [word for word in wrong if word in said] == []


@pytest.mark.parametrize("name", sorted(set(SAID) - {"logs"}))
def test_one_story_is_one_finding(name, tmp_path):
    assert len(found_in(name, tmp_path)) == 1


def test_each_case_has_its_words():
    assert sorted(path.stem for path in CASES.glob("*.py")) == sorted(SAID)
