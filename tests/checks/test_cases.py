"""Faults of real training code, rebuilt in small scripts: what is said of each, and what must not be said.

The first line of each script in ``cases`` says what is expected of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checking import findings

# PyTorch warns of some of the faults itself, with no line of the script.
pytestmark = pytest.mark.filterwarnings(
    "ignore:std\\(\\)", "ignore:The .grad attribute", "ignore:Converting a tensor with requires_grad"
)
CASES = Path(__file__).parent / "cases"

CLIP = "nn.utils.clip_grad_norm_(net.parameters(), 1.0)"
# The check and its line's text; words of its message or hint; and words that are wrong there.
SAID = {
    "bf16-lost-update": (
        "step-without-effect", "opt.step()", ["below the resolution", "10 times", "for w", "master weights"], ["lr="],
    ),
    "ce-all-ignored": (
        "nonfinite-forward", "F.cross_entropy(head(torch.randn(3, 8)), y)", ["every target is -100", "0/0"], ["clamp"],
    ),
    "divided-by-zero-fact": ("nonfinite-forward", "x / y", ["x[1] is 5", "y[1] is 0", "a division by 0"], ["x[1] is 0"]),
    "all-frozen": (
        "no-grad-output", "loss.backward()", ["net.0.weight, net.0.bias, net.2.weight, net.2.bias", "train.py:11"], ["argmax"],
    ),
    "clip-after-step": ("clip-misplaced", CLIP, ["runs after step()", "backward(), clip, step()"], ["before backward()"]),
    "clip-before-backward": ("clip-misplaced", CLIP, ["runs before backward()"], ["after step()"]),
    "ddp-unused": ("unreached-leaf", "", ["spare.weight", "spare.bias", "never used in the forward"], ["detach"]),
    "dtensor-nan": ("nonfinite-forward", "", ["w itself holds NaN"], ["turned finite"]),
    "embedding-max-norm": (
        "modified-in-place", "emb(torch.tensor([0, 3]))", ["max_norm", "`proj(emb.weight)`", "emb.weight.clone()"], ["x = x"],
    ),
    "encoder-detached": ("detached", "encoder(x).detach()", ["encoder.weight, encoder.bias"], []),
    "generator-detached": ("detached", "fake.detach()", ["train.py:25", "g.weight, g.bias"], ["train.py:19"]),
    "graph-kept-by-total": ("graph-kept", "total += loss", ["20 passes", "loss.item()"], []),
    "gumbel-by-hand": ("nonfinite-forward", "torch.log(-torch.log(u))", ["log of 0 is -infinity"], ["masked later"]),
    "head-replaced-after-optimizer": (
        "trained-by-nobody", "net(x)", ["net.2.bias, net.2.weight", "(10, 8) and (10,)", "add_param_group"], [],
    ),
    "hypernet-parameter": (
        "detached", "nn.Parameter(hyper(z).view(3, 4))", ["hyper.weight, hyper.bias", "functional_call"], ["no_grad()"],
    ),
    "layers-in-a-list": (
        "trained-by-nobody", "layer(x)", ["(4,), (4, 4)", "no optimizer", "nn.ModuleList"], ["add_param_group"],
    ),
    "loss-made-a-leaf": (
        "detached", "torch.tensor(losses, requires_grad=True)", ["net.weight, net.bias", "torch.stack(losses)"], [],
    ),
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
    "not-a-leaf": (
        "not-a-leaf", "x.to(torch.float64)", ["x.grad is None at train.py:13", "x.retain_grad()", "x is no leaf"], [],
    ),
    "one-class": (
        "zero-gradient", "torch.nn.functional.cross_entropy(net(x), y)", ["one class, which is always 0"], ["saturated"],
    ),
    "overflow-in-add-half": (
        "nonfinite-forward", "h + branch", ["40000 + 40000 is 80000, and float16 ends at 65504", "bfloat16"], ["div"],
    ),
    "overflow-in-add": ("nonfinite-forward", "c + d", ["3e+38 + 1e+38 is 4e+38"], []),
    "rms-norm-half": (
        "nonfinite-forward", "x.pow(2)", ["float16 ends at 65504", "RsqrtBackward0", "makes 0 of that"], ["log"],
    ),
    "sdpa-twice": (
        "autograd-error", "F.scaled_dot_product_attention(critic(x), x, x)", ["no second", "SDPBackend.MATH"], [],
    ),
    "softmax-twice": (
        "activation-twice", "torch.softmax(out, dim=1)", ["log_softmax of probabilities", "the logits"], [],
    ),
    "std-of-one": (
        "nonfinite-forward", "reward.std(dim=1, keepdim=True)", ["over one element", "unbiased=False"], ["input data"],
    ),
    "supcon-zero-times-inf": (
        "nonfinite-forward", "pos * logp", ["pos[0, 0] is 0", "logp[0, 0] is -inf", "0 times infinity is NaN"], ["clamp"],
    ),
}  # fmt: skip

QUIET = {"expanded_weights", "fsdp-names", "numeric-causal-mask", "reptile"}


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
    assert sorted(path.stem for path in CASES.glob("*.py")) == sorted({*SAID, *QUIET})


@pytest.mark.parametrize("name", sorted(QUIET))
def test_a_healthy_case_has_no_finding(name, tmp_path):
    assert found_in(name, tmp_path) == ()
