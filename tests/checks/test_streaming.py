"""Passes are checked as they come: nothing of them is kept, and what they tell is the same."""

from __future__ import annotations

import gc
import textwrap

from gradtrace.checks.checker import Checker, run
from gradtrace.model import BackwardPass
from tests.checking import recorded, restored

CODE = """
w = nn.Parameter(torch.ones(3))
for i in range({passes}):
    x = torch.rand(3)
    if i % 5 == 2:
        x[1] = 0.
    (w * x).sqrt().sum().backward()
    w.grad = None
"""


def _consumed(code, folder, consume):
    from gradtrace.recording.recorder import Options  # noqa: PLC0415 - torch
    from gradtrace.recording.script.program import read_script  # noqa: PLC0415
    from gradtrace.recording.script.session import run_recorded  # noqa: PLC0415

    path = folder / "train.py"
    path.write_text(f"import torch\nfrom torch import nn\ntorch.manual_seed(0)\n{textwrap.dedent(code)}")
    with restored():
        return run_recorded(read_script(str(path)), [], Options(facts=True, consume=consume), None)


def test_passes_that_are_handed_over_give_the_findings_of_a_whole_trace(tmp_path):
    checker = Checker()
    session = _consumed(CODE.format(passes=50), tmp_path, checker.see)
    (found,) = checker.found(session.trace)
    assert (found,) == run(recorded(CODE.format(passes=50), tmp_path))
    assert (found.pass_index, found.count) == (3, 10)


def test_each_pass_is_handed_over_once_in_order_and_let_go(tmp_path):
    seen, most = [], 0

    def consume(graph):
        nonlocal most
        seen.append(graph.index)
        if graph.index % 50 == 0:
            most = max(most, sum(type(found) is BackwardPass for found in gc.get_objects()))

    session = _consumed(CODE.format(passes=200), tmp_path, consume)
    assert seen == list(range(1, 201))
    assert [graph.index for graph in session.trace.passes] == [200]
    assert 0 < most < 40
