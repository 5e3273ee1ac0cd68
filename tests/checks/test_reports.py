"""Faults that people reported in public, each rebuilt in a few lines of ours, and what gradtrace says.

docs/checks.md shows these as a table; the last test holds the two together.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.checking import findings

DOCS = Path(__file__).parent.parent.parent / "docs" / "checks.md"
PYTORCH = "https://github.com/pytorch/pytorch/issues"


class Case(NamedTuple):
    """A report: where, what it was about, its fault in our words, and the check, line and words that answer it."""

    url: str
    fault: str
    code: str
    check: str
    line: str = ""
    said: str = ""


CASES = [
    Case(
        f"{PYTORCH}/68425",
        "`where` picks a finite branch, the other one overflowed",
        "a = torch.tensor(100., requires_grad=True)\nb = torch.where(a <= 0, torch.exp(a), 1 + a)\nb.backward()",
        "nonfinite-origin",
        "torch.exp(a)",
        "masked later, at WhereBackward0",
    ),
    Case(
        f"{PYTORCH}/187297",
        "square root of negatives on the branch that `where` drops",
        "x = torch.tensor([-1., -4.], requires_grad=True)\ntorch.where(x > 0, torch.sqrt(x), x).sum().backward()",
        "nonfinite-origin",
        "torch.sqrt(x)",
        "sqrt has no derivative below 0",
    ),
    Case(
        f"{PYTORCH}/16317",
        "0/0 replaced by `where` after the division",
        "x = torch.tensor([0., 1.], requires_grad=True)\nn = torch.tensor([0., 2.])\n"
        "y = x / n\ntorch.where(n == 0, torch.zeros_like(y), y).sum().backward()",
        "nonfinite-origin",
        "x / n",
        "masked later",
    ),
    Case(
        f"{PYTORCH}/4132",
        "x/0, then the element overwritten in place",
        "x = torch.tensor([1., 1.], requires_grad=True)\nd = torch.tensor([0., 1.])\n"
        "y = x / d\ny[d == 0] = 0\ny.sum().backward()",
        "nonfinite-origin",
        "x / d",
        "dividing by 0",
    ),
    Case(
        f"{PYTORCH}/17455",
        "log(exp(x) + 1) overflows, then is overwritten",
        "x = torch.tensor([0., 100.], requires_grad=True)\nf = torch.log(torch.exp(x) + 1)\n"
        "f[1] = 0\nf.sum().backward()",
        "nonfinite-origin",
        "torch.exp(x)",
        "x[1] is 100",
    ),
    Case(
        f"{PYTORCH}/18287",
        "cos of an infinity that a mask removes",
        "x = torch.tensor([0.5, torch.inf], requires_grad=True)\n"
        "torch.where(x < 1, torch.cos(x), torch.zeros(2)).sum().backward()",
        "nonfinite-origin",
        "torch.cos(x)",
        "masked later",
    ),
    Case(
        f"{PYTORCH}/6394",
        "sqrt((x - 1)²) at 1",
        "x = torch.tensor([1.], requires_grad=True)\ntorch.sqrt((x - 1) ** 2).backward()",
        "nonfinite-origin",
        "torch.sqrt((x - 1) ** 2)",
        "NaN, first in PowBackward0",
    ),
    Case(
        f"{PYTORCH}/41508",
        "an attention row in which everything is masked",
        "attn = nn.MultiheadAttention(4, 1)\nx = torch.randn(3, 1, 4)\nmask = torch.zeros(3, 3)\n"
        "mask[1] = -torch.inf\nout, _ = attn(x, x, x, attn_mask=mask)\nout.sum().backward()",
        "nonfinite-forward",
        "attn(x, x, x, attn_mask=mask)",
        "into NaN",
    ),
    Case(
        f"{PYTORCH}/16045",
        "MSE between (N, 1) and (N): trains, learns the mean",
        "net, x, y = nn.Linear(3, 1), torch.randn(10, 3), torch.randn(10)\n"
        "loss = (net(x) - y).pow(2).mean()\nloss.backward()",
        "broadcast",
        "net(x) - y",
        "10 × 10 pairs",
    ),
    Case(
        "https://discuss.pytorch.org/t/runtimeerror-trying-to-backward-through-the-graph-a-second-time-but-the-"
        "buffers-have-already-been-freed-specify-retain-graph-true-when-calling-backward-the-first-time/6795",
        "backward twice on one loss",
        "x = torch.randn(3, requires_grad=True)\nloss = x.pow(2).sum()\nloss.backward()\nloss.backward()",
        "backward-twice",
        "loss.backward()",
        "pass 1, `loss.backward()` (train.py:6)",
    ),
    Case(
        "https://discuss.pytorch.org/t/can-not-create-a-new-calculation-graph-after-the-backward-propagation/45026",
        "two losses (DQN, DDPG) share one encoder's output",
        "encoder, dqn, actor = nn.LSTM(2, 4), nn.Linear(4, 1), nn.Linear(4, 1)\n"
        "state, _ = encoder(torch.randn(3, 1, 2))\ndqn(state).mean().backward()\nactor(state).mean().backward()",
        "backward-twice",
        "actor(state).mean().backward()",
        "both passes go through 'state'",
    ),
    Case(
        "https://github.com/Seanny123/da-rnn/issues/14",
        "`+=` on an activation that backward needs",
        "net = nn.Linear(3, 3)\nh = torch.tanh(net(torch.randn(2, 3)))\nh += 1\nh.sum().backward()",
        "modified-in-place",
        "h += 1",
        "TanhBackward0 `torch.tanh(net(torch.randn(2, 3)))`",
    ),
    Case(
        "https://github.com/NVlabs/FUNIT/issues/23",
        'a step between two backward passes of a GAN ("TBackward is at version 2; expected 1")',
        "d, g = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1)), nn.Linear(2, 2)\n"
        "opt = torch.optim.Adam(d.parameters())\nfake = g(torch.randn(5, 2))\nscore = d(fake).mean()\n"
        "score.backward(retain_graph=True)\nopt.step()\n(-score).backward()",
        "modified-in-place",
        "opt.step()",
        "AddmmBackward0 `d(fake)`",
    ),
    Case(
        "https://github.com/nianticlabs/monodepth2/issues/24",
        "backward on a loss that validation computed under no_grad",
        "net = nn.Linear(2, 1)\ndef validate(x):\n    with torch.no_grad():\n        return net(x).abs().mean()\n"
        "loss = validate(torch.randn(4, 2))\nloss.backward()",
        "no-grad-output",
        "net(x)",
        "computed under torch.no_grad()",
    ),
    Case(
        "https://github.com/JunMa11/SegLossOdyssey/issues/17",
        "a loss that leaves torch for numpy and comes back",
        "net = nn.Linear(2, 1)\npred = net(torch.randn(4, 2))\n"
        "loss = torch.from_numpy(pred.detach().numpy() ** 2).mean()\nloss.backward()",
        "no-grad-output",
        "loss.backward()",
        "left torch on the way",
    ),
    Case(
        "https://stackoverflow.com/questions/54754153/autograd-grad-for-tensor-in-pytorch",
        "grad() of a matrix",
        "x = torch.ones(2, 2, requires_grad=True)\ny = (x + 2) ** 2\ntorch.autograd.grad(y, x)",
        "not-scalar",
        "torch.autograd.grad(y, x)",
        "y has the shape (2, 2)",
    ),
    Case(
        f"{PYTORCH}/73697",
        "which of the parameters is the one that was not used?",
        "net = nn.ModuleDict({'body': nn.Linear(2, 2), 'head': nn.Linear(2, 1), 'spare': nn.Linear(2, 1)})\n"
        "loss = net['head'](net['body'](torch.randn(3, 2))).mean()\n"
        "torch.autograd.grad(loss, list(net.parameters()))",
        "unused-input",
        "torch.autograd.grad(loss, list(net.parameters()))",
        "net.spare.weight of shape (1, 2), net.spare.bias",
    ),
    Case(
        "https://stackoverflow.com/questions/48001598/why-do-we-need-to-call-zero-grad-in-pytorch",
        "no zero_grad() in the loop",
        "net = nn.Linear(2, 1)\nopt = torch.optim.Adam(net.parameters(), lr=0.01)\nfor _ in range(5):\n"
        "    net(torch.randn(8, 2)).pow(2).mean().backward()\n    opt.step()",
        "accumulated",
        "opt.step()",
        "nothing zeroed it",
    ),
    Case(
        f"{PYTORCH}/58509",
        "an intermediate kept on ctx: the second derivative is silently wrong",
        "class Bad(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x):\n"
        "        ctx.foo = x * 2\n        return ctx.foo ** 2\n    @staticmethod\n    def backward(ctx, g):\n"
        "        return 2 * 2 * ctx.foo * g\n"
        "x = torch.rand(2, requires_grad=True)\ng, = torch.autograd.grad(Bad.apply(x).sum(), x, create_graph=True)",
        "lost-second-order",
        "Bad.apply(x)",
        "BadBackward",
    ),
    Case(
        f"{PYTORCH}/2421",
        "the norm of a zero vector (mended in PyTorch since: its gradient is 0)",
        "x = torch.zeros(3, requires_grad=True)\nx.norm().backward()",
        "",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.url.rpartition("github.com/")[2] or case.url)
def test_a_reported_fault_is_named_on_its_line(case, tmp_path):
    found = findings(case.code, tmp_path)
    if not case.check:
        assert found == ()
        return
    assert [f.check for f in found] == [case.check]
    assert found[0].source.text == case.line
    assert case.said in found[0].message


def row(case):
    """The case as a row of the table in the docs."""
    said = f"`{case.check}` on `{case.line}`: {case.said.replace('`', '')}" if case.check else "nothing"
    return f"| [{case.url.split('//')[1].partition('/')[2][:28]}…]({case.url}) | {case.fault} | {said} |"


def test_the_table_in_the_docs_is_this_one():
    text = DOCS.read_text(encoding="utf-8")
    assert [row(case) for case in CASES if row(case) not in text] == []
