"""Traces made by hand, without torch: the partials example, and whatever else a test needs."""

from __future__ import annotations

from gradtrace.model import FORMAT_VERSION, BackwardPass, Edge, Node, Report, Source, TensorStats, Trace

FILE = "examples/partials.py"


def scalar(value: float | None) -> TensorStats:
    """Statistics of a 0-d float32 tensor that holds ``value``."""
    if value is None:
        return TensorStats(shape=(), nan=1, zeros=None)
    return TensorStats(
        shape=(), norm=abs(value), mean=value, min=value, max=value, zeros=float(value == 0), values=value
    )


def line(text: str, number: int = 6, column: int = 4) -> Source:
    """A source line of the partials example."""
    return Source(FILE, number, number, column, column + len(text), text=text)


def function(node_id: str, op: str, text: str, value: float, **more: object) -> Node:
    """A backward function of a scalar, whose gradient is 1."""
    fields = {"source": line(text), "values": (scalar(value),), "grads": (scalar(1.0),), **more}
    return Node(id=node_id, kind="function", op=op, **fields)  # type: ignore[arg-type]


def leaf(node_id: str, name: str, value: float, grad: float | None, order: int | None = 9, **more: object) -> Node:
    """A scalar leaf with the gradient that arrived (None: none did)."""
    grads = (None if grad is None else scalar(grad),)
    return Node(
        id=node_id,
        kind="leaf",
        op="AccumulateGrad",
        name=name,
        values=(scalar(value),),
        grads=grads,
        order=order,
        **more,
    )


def edge(source: str, target: str, grad: float | None, source_index: int = 0) -> Edge:
    """An edge with the gradient of a scalar on it."""
    return Edge(source, target, source_index, 0, None if grad is None else scalar(grad))


def partials() -> BackwardPass:
    """The backward pass of f = u**2 + v**3 + u*v at (2, 4)."""
    nodes = (
        Node("n0", "output", "output", name="f", values=(scalar(76.0),), grads=(scalar(1.0),)),
        function("n1", "AddBackward0", "u**2 + v**3 + u*v", 76.0, order=0),
        function("n2", "MulBackward0", "u*v", 8.0, order=1),
        function("n3", "AddBackward0", "u**2 + v**3", 68.0, order=2),
        function("n4", "PowBackward0", "v**3", 64.0, order=3, attributes={"exponent": 3}),
        leaf("n5", "v", 4.0, 50.0, order=4),
        function("n6", "PowBackward0", "u**2", 4.0, order=5, attributes={"exponent": 2}),
        leaf("n7", "u", 2.0, 8.0, order=6),
    )
    edges = (
        edge("n0", "n1", 1.0),
        edge("n1", "n3", 1.0),
        edge("n1", "n2", 1.0, 1),
        edge("n2", "n7", 4.0),
        edge("n2", "n5", 2.0, 1),
        edge("n3", "n6", 1.0),
        edge("n3", "n4", 1.0, 1),
        edge("n4", "n5", 48.0),
        edge("n6", "n7", 4.0),
    )
    return BackwardPass(index=1, kind="backward", nodes=nodes, edges=edges, call=line("f.backward()", 8, 0))


def trace(*passes: BackwardPass) -> Trace:
    """A trace with these passes (the partials example, if none is given)."""
    versions = {"python": "3.11.7", "torch": "2.13.0", "gradtrace": "0.1.0"}
    return Trace(FORMAT_VERSION, (FILE,), versions, passes or (partials(),))


def report(graph: BackwardPass | None = None) -> Report:
    """What a format is given, for this pass (the partials example by default)."""
    shown = graph or partials()
    return Report(trace(shown), shown)
