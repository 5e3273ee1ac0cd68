"""torch.compile: exactly the graphs that it would compile without us, and the region as one node."""

from __future__ import annotations

import contextlib
import warnings

import pytest
import torch
from torch import nn

import gradtrace

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def train(backend, fullgraph, watching):
    """Train a compiled model for three steps, the last of another size; return all that dynamo did."""
    from torch._dynamo.utils import counters  # noqa: PLC0415 - takes a second

    torch._dynamo.reset()
    counters.clear()
    graphs = []

    def counted(graph, inputs):
        graphs.append([str(node) for node in graph.graph.nodes])
        return graph.forward

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 1))

    def loss_of(x):
        return torch.nn.functional.softplus(model(x).square().mean()) + x.sin().sum()

    with watching, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        compiled = torch.compile(loss_of, backend=counted if backend == "counted" else backend, fullgraph=fullgraph)
        whole = torch.compile(model, backend="eager")
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for size in (3, 3, 5):
            optimizer.zero_grad()
            (compiled(torch.ones(size, 4)) + whole(torch.ones(size, 4)).sum()).backward()
            optimizer.step()
    did = {name: dict(values) for name, values in counters.items() if name != "inductor"}
    numbers = [parameter.tolist() for parameter in model.parameters()]
    return graphs, did, numbers, sorted(str(w.message) for w in warned if "deprecat" not in str(w.message))


@pytest.mark.parametrize(
    ("backend", "fullgraph"),
    [
        ("counted", True),
        ("counted", False),
        ("aot_eager", True),
        pytest.param("inductor", True, marks=pytest.mark.slow),
    ],
)
def test_the_same_graphs_are_compiled_with_no_break_recompile_or_warning_more(backend, fullgraph):
    if backend == "inductor":
        train(backend, fullgraph, contextlib.nullcontext())  # what it compiles is kept on the disk, and counted
    expected = train(backend, fullgraph, contextlib.nullcontext())
    assert expected[1]["stats"]["unique_graphs"] >= 2
    assert train(backend, fullgraph, gradtrace.record()) == expected


def test_the_compiled_region_is_one_node_with_its_line():
    torch._dynamo.reset()
    w = torch.ones(3, requires_grad=True)

    @torch.compile(backend="aot_eager", fullgraph=True)
    def region(x):
        return (x * w).sin().sum()

    with gradtrace.record() as recording:
        loss = region(torch.ones(3)) * 2
        loss.backward()
    (graph,) = recording.trace.passes
    nodes = {node.op: node for node in graph.nodes}
    assert set(nodes) == {"output", "MulBackward0", "CompiledFunctionBackward", "AccumulateGrad"}
    assert nodes["CompiledFunctionBackward"].source.text == "region(torch.ones(3))"
    leaf = nodes["AccumulateGrad"]
    assert (leaf.name, leaf.grads[0].values) == ("w", w.grad.tolist())


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_a_break_in_the_graph_leaves_what_is_between_in_sight():
    torch._dynamo.reset()

    @torch.compile(backend="aot_eager")
    def region(x):
        y = x.sin()
        torch._dynamo.graph_break()
        return y.cos().sum()

    x = torch.ones(3, requires_grad=True)
    with gradtrace.record() as recording:
        region(x).backward()
    assert [n.op for n in recording.trace.passes[0].nodes].count("CompiledFunctionBackward") == 2
    assert torch.allclose(x.grad, -torch.sin(torch.sin(x)).detach() * torch.cos(x).detach())


def counted(work):
    """Run it after a reset; return what dynamo counted, other than what is kept on the disk, and the frames it met."""
    from torch._dynamo.utils import counters  # noqa: PLC0415 - takes a second

    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    found = work()
    return found, {name: dict(values) for name, values in counters.items() if name not in {"inductor", "frames"}}


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def dynamic():
    model = torch.compile(network(), backend="eager", dynamic=True)
    for size in (2, 3, 5):
        model(torch.ones(size, 3)).sum().backward()
    return [p.grad.tolist() for p in model.parameters()]


def no_recompile():
    model = torch.compile(network(), backend="aot_eager", dynamic=False)
    with torch._dynamo.config.patch(error_on_recompile=True):
        model(torch.ones(2, 3)).sum().backward()
        with pytest.raises(torch._dynamo.exc.RecompileError):
            model(torch.ones(3, 3))
    return [p.grad.tolist() for p in model.parameters()]


def in_place():
    model = network()
    model[0].register_forward_hook(lambda *_: None)
    model.compile(backend="eager", fullgraph=True)
    model(torch.ones(2, 3)).sum().backward()
    return [p.grad.tolist() for p in model.parameters()]


def whole_step():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    @torch.compile(backend="eager")
    def step(x):
        optimizer.zero_grad()
        loss = model(x).square().sum()
        loss.backward()
        optimizer.step()
        return loss

    return [step(torch.ones(2, 3)).item() for _ in range(3)]


def compiled_backward():
    model = network()

    def step(x):
        loss = model(x).sum()
        loss.backward()
        return loss

    with torch._dynamo.config.patch(compiled_autograd=True):
        torch.compile(step, backend="aot_eager")(torch.ones(2, 3))
    assert torch._dynamo.utils.counters["compiled_autograd"]["captures"] == 1
    return [p.grad.tolist() for p in model.parameters()]


def exported():
    program = torch.export.export(network(), (torch.ones(2, 3),), strict=True)
    return [str(node) for node in program.graph.nodes]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("work", [dynamic, no_recompile, in_place, whole_step, compiled_backward, exported])
def test_each_way_to_compile_makes_what_it_makes_without_us(work):
    counted(work)  # the first time, dynamo also finds out what it can't trace, and remembers it
    expected = counted(work)
    assert expected[1]["stats"]["unique_graphs"] >= 1
    with gradtrace.record():
        found = counted(work)
    assert found == expected


@pytest.mark.filterwarnings("ignore")
def test_a_backward_that_is_compiled_tells_its_leaves_and_notes_what_it_hides():
    with gradtrace.record() as recording:
        gradients, _ = counted(compiled_backward)
    graph = recording.trace.passes[-1]
    leaves = {node.name: node.grads[0] for node in graph.nodes if node.kind == "leaf"}
    assert [leaves[f"model.{name}"].norm for name in ("0.weight", "0.bias", "2.weight", "2.bias")] == [
        pytest.approx(torch.tensor(gradient).norm().item()) for gradient in gradients
    ]
    hidden = [node for node in graph.nodes if node.kind == "function"]
    assert hidden
    assert {node.grads[0].note for node in hidden} == {"compiled: not seen"}
