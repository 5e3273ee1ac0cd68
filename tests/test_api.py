"""What a script or a notebook calls, against PyTorch's own gradients."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import graphviz
import pytest
import torch

import gradtrace
from gradtrace import api, tracefile
from gradtrace.errors import FreedGraphError, NothingRecordedError, OutputError, TensorError, UnknownNameError
from tests.builders import trace

PUBLIC = [
    "GradientReport",
    "GradtraceError",
    "Recording",
    "Style",
    "Theme",
    "Trace",
    "View",
    "__version__",
    "draw",
    "gradcheck",
    "load",
    "make_dot",
    "record",
    "watch",
]

# Runs in a child: tells on its last line whether torch was imported.
LIGHT = "import sys\n{code}\nprint('torch' in sys.modules)"


def leaves(graph):
    return {node.name: node for node in graph.nodes if node.kind == "leaf"}


def imports_torch(code):
    done = subprocess.run([sys.executable, "-c", LIGHT.format(code=code)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1].lower())


def test_the_public_names_are_these():
    assert sorted(gradtrace.__all__) == PUBLIC == sorted(dir(gradtrace))
    assert all(hasattr(gradtrace, name) for name in PUBLIC)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gradtrace.nothing


def test_a_block_records_the_gradients_that_backward_computes():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    with gradtrace.record() as recording:
        (x**3).sum().backward()
    assert leaves(recording.trace.passes[0])["x"].grads[0].values == x.grad.tolist()


def test_a_trace_renders_to_the_format_of_the_file_name(tmp_path):
    x = torch.tensor(2.0, requires_grad=True)
    with gradtrace.record() as recording:
        (x * x).backward()
    for name, start in (("a.svg", b"<svg"), ("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.txt", b"")):
        path = recording.trace.render(tmp_path / name)
        assert path.read_bytes().lstrip().startswith(start)


def test_a_saved_trace_loads_as_it_was(tmp_path):
    x = torch.tensor(2.0, requires_grad=True)
    with gradtrace.record() as recording:
        x.sin().backward()
    recording.trace.save(tmp_path / "t.json.gz")
    assert gradtrace.load(tmp_path / "t.json.gz") == recording.trace


def test_drawing_a_tensor_touches_no_grad_and_keeps_the_graph():
    x = torch.tensor(2.0, requires_grad=True)
    h = x * 3
    h.retain_grad()
    y = h.sin()
    found = leaves(gradtrace.draw(y).passes[0])["x"].grads[0].values
    assert x.grad is None
    assert h.grad is None
    y.backward()
    assert found == x.grad.item()


def test_drawing_several_tensors_seeds_each_with_ones():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    a, b = x * 2, x.exp()
    expected = torch.autograd.grad([a, b], x, [torch.ones(2), torch.ones(2)], retain_graph=True)[0]
    assert leaves(gradtrace.draw(a, b).passes[0])["x"].grads[0].values == expected.tolist()


def test_a_tensor_without_a_graph_is_refused_with_its_shape():
    with pytest.raises(TensorError, match=r"shape \[2\] has no graph"):
        gradtrace.draw(torch.ones(2))


def test_make_dot_takes_torchviz_arguments_and_names_the_params():
    x = torch.tensor(2.0, requires_grad=True)
    dot = gradtrace.make_dot(x.sin(), params={"weight of mine": x})
    assert isinstance(dot, graphviz.Digraph)
    assert "weight of mine" in dot.source
    assert "SinBackward0" in dot.source


@pytest.mark.filterwarnings("ignore:.*distutils.*:DeprecationWarning")
def test_the_structure_alone_has_the_nodes_and_edges_of_torchviz_and_runs_nothing():
    import torchviz  # noqa: PLC0415

    model = torch.nn.LSTMCell(3, 4)
    x, ran = torch.randn(2, 3, requires_grad=True), []
    x.register_hook(ran.append)
    loss = sum(part.square().sum() for part in model(x))
    params = {**dict(model.named_parameters()), 'quote " of mine': x}
    ours = gradtrace.make_dot(loss, params, gradients=False).source
    theirs = torchviz.make_dot(loss, params).source
    assert not ran
    assert sorted(re.findall(r"(\w+Backward\d+|AccumulateGrad)", theirs.replace("AccumulateGrad", ""))) == sorted(
        re.findall(r"\w+Backward\d+", ours)
    )
    # torchviz draws a leaf as two nodes, and an edge between them; both have one for the output.
    assert ours.count(" -> ") == theirs.count(" -> ") - len(params)
    assert all(f"{name} ({', '.join(map(str, p.shape))})" in label(ours) for name, p in params.items())


def label(source):
    """The text as Graphviz reads it, a line break as a space."""
    return source.replace('\\"', '"').replace("\\n", " ")


def test_make_dot_shows_the_structure_of_a_graph_that_backward_has_freed():
    x = torch.tensor([2.0, 3.0], requires_grad=True)
    y = (x**2).sum()
    y.backward()
    assert {"PowBackward0", "SumBackward0", "x\\n(2)", "y\\n()"} <= set(
        re.findall(r'label="([^"]*)"', gradtrace.make_dot(y).source)
    )
    with pytest.raises(FreedGraphError, match="freed by backward"):
        gradtrace.draw(y)
    assert x.grad.tolist() == [4.0, 6.0]


def test_a_notebook_gets_what_it_asks_for_and_never_an_exception():
    shown = api.Trace(**{name: getattr(trace(), name) for name in trace().__struct_fields__})
    assert set(shown._repr_mimebundle_()) == {"image/svg+xml", "text/plain"}
    assert set(shown._repr_mimebundle_(include=["text/plain"])) == {"text/plain"}
    assert set(shown._repr_mimebundle_(exclude=["image/svg+xml"])) == {"text/plain"}
    empty = api.Trace(1)
    assert "can't be drawn" in empty._repr_mimebundle_()["text/plain"]


def test_a_pass_that_is_not_there_lists_those_that_are():
    with pytest.raises(UnknownNameError, match="unknown pass 7; choose from 1, last"):
        api.select(trace(), 7)
    with pytest.raises(NothingRecordedError):
        api.select(api.Trace(1))


def test_the_last_pass_is_not_one_that_ran_inside_another():
    x = torch.ones(3, requires_grad=True)
    from torch.utils.checkpoint import checkpoint  # noqa: PLC0415

    with gradtrace.record() as recording:
        checkpoint(torch.sin, x, use_reentrant=True).sum().backward()
    assert [graph.parent for graph in recording.trace.passes] == [None, 1]
    assert api.select(recording.trace).index == 1


def test_a_folder_that_does_not_exist_is_told(tmp_path):
    shown = api.Trace(**{name: getattr(trace(), name) for name in trace().__struct_fields__})
    with pytest.raises(OutputError, match="no such folder"):
        shown.render(tmp_path / "nowhere" / "a.svg")


def test_importing_gradtrace_and_drawing_a_saved_trace_imports_no_torch(tmp_path):
    tracefile.save(trace(), tmp_path / "t.json")
    out = str(tmp_path / "t.svg")
    assert not imports_torch("import gradtrace")
    assert not imports_torch(f"import gradtrace; gradtrace.load({str(tmp_path / 't.json')!r}).render({out!r})")
    run = "from gradtrace.cli import main; sys.argv = ['gradtrace', {!r}]\ntry: main()\nexcept SystemExit: pass"
    assert not imports_torch(run.format("formats"))
    assert not imports_torch(run.format("--help"))
