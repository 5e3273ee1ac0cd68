"""Random passes, and passes of repeated segments with a difference here and there."""

from __future__ import annotations

from hypothesis import strategies as st

from gradtrace.model import BackwardPass, Edge, ModuleCall, Node, TensorStats


def tensor(size=4, norm=1.0):
    return TensorStats((size, size), norm=norm, mean=0.0, min=-norm, max=norm)


def function(at, op="MulBackward0", size=4, norm=1.0, **more):
    return Node(f"n{at}", "function", op, grads=(tensor(size, norm),), order=at, **more)


def structure(graph):
    """What an expanded fold has to give back."""
    return {node.id for node in graph.nodes}, sorted(
        (e.source, e.target, e.source_index, e.target_index) for e in graph.edges
    )


@st.composite
def passes(draw, most=40):
    """Any acyclic pass: leaves, views, parallel edges, several outputs, module calls."""
    size = draw(st.integers(1, most))
    ops = st.sampled_from(["MulBackward0", "ViewBackward0", "TBackward0", "AddBackward0"])
    calls = (ModuleCall("net", "Net"), ModuleCall("net.a", "A", 0), ModuleCall("net.b", "B", 0))
    nodes, edges = [], []
    for at in range(size):
        leaf = at > 0 and draw(st.integers(0, 3)) == 0
        call = draw(st.sampled_from([None, 0, 1, 2]))
        place = {} if call is None or leaf else {"call": call, "module": calls[call].path}
        made = function(at, draw(ops), draw(st.sampled_from([4, 4, 4, 5])), **place)
        nodes.append(Node(made.id, "leaf", "AccumulateGrad", grads=made.grads) if leaf else made)
    for at in range(1, size):
        functions = [k for k in range(at) if nodes[k].kind != "leaf"]
        ways = range(draw(st.integers(0, 2)))
        edges += [(draw(st.sampled_from(functions)) if functions else 0, at) for _ in ways]
    found = []
    leaving = [0] * size
    for source, target in edges:
        found.append(Edge(f"n{source}", f"n{target}", leaving[source], 0, tensor()))
        leaving[source] += 1
    return BackwardPass(1, "backward", tuple(nodes), tuple(sorted(found, key=lambda e: int(e.source[1:]))), calls=calls)


DIFFERENCES = ("op", "shape", "attribute", "wire", "use", "leaf")


def repeated(width, count, skips=(), change=None):
    """``count`` segments of ``width`` functions, each with a parameter, and an end; ``change``: what, where."""
    total = width * count
    ops = [f"Op{at % width}Backward0" for at in range(total)]
    what, where = change or (None, -1)
    nodes = []
    for at in range(total):
        more = {"attributes": {"alpha": 2 if what == "attribute" and at == where else 1}}
        op = "OddBackward0" if what == "op" and at == where else ops[at]
        nodes.append(function(at, op, 5 if what == "shape" and at == where else 4, **more))
    nodes.append(function(total, "EndBackward0"))
    edges = [Edge(f"n{at}", f"n{at + 1}", 0, 0, tensor()) for at in range(total)]
    edges += [Edge(f"n{at}", f"n{min(total, at + skip)}", 1 + i, 0, tensor()) for at in range(0, total, width)
              for i, skip in enumerate(skips)]  # fmt: skip
    for segment in range(count):  # in order: nodes and edges alike
        own = f"n{total + 1 + segment}"
        nodes.append(Node(own, "leaf", "AccumulateGrad", f"h.{segment}.weight", grads=(tensor(),)))
        edges.append(Edge(f"n{segment * width}", own, 7, 0, tensor()))
    if what == "wire" and where + 2 < total:
        edges.append(Edge(f"n{where}", f"n{where + 2}", 8, 0, tensor()))
    if what == "use":
        nodes.insert(0, function("x", "StackBackward0"))
        edges.append(Edge("nx", f"n{where}", 0, 0, tensor()))
    if what == "leaf":
        edges.append(Edge(f"n{where}", f"n{total + 1}", 9, 0, tensor()))
    return BackwardPass(1, "backward", tuple(nodes), tuple(edges))
