"""Traces for the viewer's tests: a net of blocks with a NaN in it, and a run of several passes."""

from gradtrace.model import (
    FORMAT_VERSION,
    BackwardPass,
    Edge,
    LeafSeries,
    ModuleCall,
    Node,
    SavedTensor,
    Source,
    TensorStats,
    Trace,
)
from tests import builders

BROKEN = 5  # the block whose gradient is NaN, and that of all after it


def blocks(count=24, each=8, index=1):
    """A pass through blocks of modules, each with parameters; the later ones have no finite gradient."""
    calls = [ModuleCall("model", "Net"), *(ModuleCall(f"model.h.{at}", "Block", 0) for at in range(count))]
    nodes = [Node("n0", "output", "output", "loss", values=(builders.scalar(2.0),), grads=(builders.scalar(1.0),))]
    edges = []
    for block in reversed(range(count)):
        for at in range(each):
            number = len(nodes)
            nodes.append(_function(number, at, block))
            edges.append(Edge(_user(nodes), f"n{number}", 0, 0, _grad(block)))
            if at % 3 == 0:
                name = f"model.h.{block}.{at}.weight"
                nodes.append(
                    Node(f"n{number + 1}", "leaf", "AccumulateGrad", name, grads=(_grad(block),), order=number)
                )
                edges.append(Edge(f"n{number}", f"n{number + 1}", 1, 0, _grad(block)))
    return BackwardPass(index, "backward", tuple(nodes), tuple(edges), calls=tuple(calls))


def _user(nodes):
    return next(node.id for node in reversed(nodes[:-1]) if node.kind != "leaf")


def _grad(block):
    nan = 3 if block <= BROKEN else 0
    return TensorStats((4, 4), norm=0.1 * (block + 1), mean=0.01, min=-0.2, max=0.3, nan=nan)


def _function(number, at, block):
    source = Source("net.py", 10 + at, 10 + at, 8, 21, "forward", f"step{at}(x)")
    module = f"model.h.{block}"
    return Node(
        f"n{number}",
        "function",
        f"Op{at}Backward0",
        module=module,
        call=1 + block,
        source=source,
        grads=(_grad(block),),
        order=number,
        seconds=1e-4,
        saved=(SavedTensor("self", (4, 4), bytes=64),),
    )


def partials_run(count=6):
    """A run of several passes of the partials example."""
    graphs = [builders.partials()] + [_again(index) for index in range(2, count + 1)]
    numbers = list(range(1, count + 1))
    series = (
        LeafSeries("v", (), numbers, [50.0 / n for n in numbers], [True] * count),
        LeafSeries("u", (), numbers, [8.0, None, 0.0, *[1.0] * count][:count], [number != 4 for number in numbers]),
    )
    return Trace(FORMAT_VERSION, ("examples/partials.py",), {"torch": "2.13.0"}, tuple(graphs), series)


def _again(index):
    graph = builders.partials()
    nodes = tuple(
        node if node.id != "n5" else builders.leaf("n5", "v", 4.0, 50.0 / index, order=4) for node in graph.nodes
    )
    return BackwardPass(index, "backward", nodes, graph.edges)


def trace(*graphs):
    """A trace of these passes."""
    return Trace(FORMAT_VERSION, ("net.py",), {}, graphs)
