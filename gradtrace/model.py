"""Structs of a recording: plain immutable data, the same in memory and in the trace file.

The words are PyTorch's. A node is a ``grad_fn`` (or an output or a leaf tensor), an edge leads to one
of its ``next_functions``, source and target follow the backward direction. Nothing here imports torch.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from msgspec import Meta, Struct

__all__ = [
    "CHANGED",
    "FORMAT_VERSION",
    "FREED",
    "LOST",
    "NOT_MEASURED",
    "Attribute",
    "BackwardPass",
    "Comparison",
    "Edge",
    "ErrorInfo",
    "Fact",
    "Finding",
    "ForwardCall",
    "Held",
    "LeafSeries",
    "LearningRate",
    "ModuleCall",
    "Node",
    "Operand",
    "Origin",
    "PassSeries",
    "Report",
    "SavedTensor",
    "Severity",
    "Source",
    "TensorStats",
    "Trace",
    "UpdateSeries",
    "Values",
    "World",
]

# History of the trace file; a reader refuses what is newer than itself.
# 1: the first.
FORMAT_VERSION = 1

# What PyTorch says of memory that changed after a node had saved it, and of a graph that was run and freed.
CHANGED = "modified by an inplace operation"
FREED = "backward through the graph a second time"
# With what the note of a tensor begins whose numbers a device could not tell any more, or that was not to be measured.
LOST = "lost: "
NOT_MEASURED = "not measured: "

# msgspec decodes no recursive alias, so at run time a nested list is anything that JSON holds.
if TYPE_CHECKING:
    Values = float | bool | None | list["Values"]
    Attribute = float | bool | str | None | list["Attribute"]
else:
    Values = Attribute = Any
Severity = Literal["error", "warning", "info"]

# Ranges that a loaded file is held to; what must fit together is in validation.py.
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Position = Annotated[int, Meta(ge=0, le=2**31 - 1)]  # in a file, a list or a tuple
Fraction = Annotated[float, Meta(ge=0, le=1)]
Amount = Annotated[float, Meta(ge=0)]
Shape = Annotated[tuple[Count, ...], Meta(max_length=64)]  # PyTorch's limit


class TensorStats(Struct, frozen=True, omit_defaults=True, gc=False):
    """Statistics of a tensor: its kind, and numbers over its finite elements.

    ``norm`` is the Euclidean norm, ``zeros`` the fraction of elements equal to zero, ``nan`` and ``inf``
    are counts, and ``values`` holds all elements, nested like the tensor, where there are at most 16
    (a bare number for a 0-d tensor; NaN and infinity as None). A number is None where it does not exist:
    no finite element, or a kind of tensor that has no such number (then ``note`` says which).
    """

    shape: Shape
    dtype: str = "float32"
    device: str = "cpu"
    norm: Amount | None = None
    mean: float | None = None
    min: float | None = None
    max: float | None = None
    zeros: Fraction | None = 0.0
    nan: Count = 0
    inf: Count = 0
    values: Values = None
    note: str = ""


class Source(Struct, frozen=True, omit_defaults=True, gc=False):
    """A stretch of source text: lines from 1, columns from 0 in characters, ends exclusive."""

    filename: str
    line: Position
    end_line: Position = 0
    column: Position = 0
    end_column: Position = 0
    function: str = "<module>"
    text: str = ""


class SavedTensor(Struct, frozen=True, omit_defaults=True, gc=False):
    """A tensor that a node keeps for its backward."""

    name: str
    shape: Shape = ()
    dtype: str = "float32"
    bytes: Count = 0


class Origin(Struct, frozen=True, omit_defaults=True, gc=False):
    """The backward node whose run made a node of a higher-order graph: its pass, id and op.

    The id is empty where that pass was not kept. The ``source`` of the node that was made is always that of the
    forward expression which the backward node belongs to.
    """

    pass_index: Count
    node: str
    op: str


class ModuleCall(Struct, frozen=True, omit_defaults=True, gc=False):
    """A call of a module: its path, its class, and the position of the call around it."""

    path: str
    type: str
    parent: Position | None = None


class Node(Struct, frozen=True, omit_defaults=True, gc=False):
    """A backward function, an output that backward started from, or a leaf that it ended at.

    ``values`` and ``grads`` have one entry per forward output: what the forward computed, and the
    gradient that arrived. None means that there was none, which differs from zero. ``order`` is the
    rank of execution, None if the node never ran. ``source`` is the user's own line; ``library`` the
    line of the library that made the op, where the user's frame is further out. ``call`` is the position
    of the module call in the pass's ``calls``, which tells two calls of one module apart. ``formula`` is
    what a picture says of the node's derivative; it is put in when it is drawn, and never recorded. ``reduced``
    is what a leaf's ``.grad`` held after the processes had reduced it, where that is not what arrived;
    ``accumulated`` what it held when the pass had ended, where gradients of earlier passes were in it.
    """

    id: str
    kind: Literal["output", "function", "leaf"]
    op: str
    name: str = ""
    module: str = ""
    call: Position | None = None
    source: Source | None = None
    library: Source | None = None
    values: tuple[TensorStats | None, ...] = ()
    grads: tuple[TensorStats | None, ...] = ()
    saved: tuple[SavedTensor, ...] = ()
    attributes: dict[str, Attribute] = {}
    order: Count | None = None
    seconds: Amount | None = None
    origin: Origin | None = None
    formula: str = ""
    reduced: TensorStats | None = None
    accumulated: TensorStats | None = None


class Edge(Struct, frozen=True, omit_defaults=True, gc=False):
    """The way of a gradient: from one of the source's grad_inputs to one of the target's outputs."""

    source: str
    target: str
    source_index: Position = 0
    target_index: Position = 0
    grad: TensorStats | None = None


class Operand(Struct, frozen=True, omit_defaults=True, gc=False):
    """An argument of a forward call: a node's output, a tensor outside the graph, several, or a plain value.

    ``node`` is the id of the node (or leaf) whose output it is. A tensor that no gradient flows to has its
    statistics in ``tensor``, its variable in ``name``, and a ``key`` that is the same wherever it is used.
    """

    node: str = ""
    output: Position = 0
    tensor: TensorStats | None = None
    name: str = ""
    key: int = 0
    items: tuple[Operand, ...] | None = None
    value: Attribute = None


class ForwardCall(Struct, frozen=True, omit_defaults=True, gc=False):
    """A torch call of the script: its function, its arguments, and what it returned, in their order.

    ``nodes`` are all nodes that the call made. Recorded where ``explain`` or ``check --numeric`` asked for it.
    """

    function: str
    args: tuple[Operand, ...] = ()
    kwargs: dict[str, Operand] = {}
    results: tuple[Operand, ...] = ()
    nodes: tuple[str, ...] = ()


class Held(Struct, frozen=True, omit_defaults=True, gc=False):
    """Elements of a tensor that a formula is put in numbers with, and of the gradient that arrived at it.

    It is the ``output`` of a ``node``, or the tensor outside the graph with this ``key`` (see Operand). ``dtype``
    is f4 or f8: the bytes are numbers of four or eight bytes, little-endian, in the order of the elements. They
    are empty where the tensor was not kept, being one of too many or complex.
    """

    node: str = ""
    output: Position = 0
    key: int = 0
    dtype: Literal["f4", "f8"] = "f4"
    value: bytes = b""
    grad: bytes = b""


class Comparison(Struct, frozen=True, omit_defaults=True, gc=False):
    """A derivative that autograd computed, beside finite differences of the forward, run again in float64.

    For a leaf: of the outputs by it, weighted with the seeds. For a function: of its own call alone, by the
    input ``index`` of those it has, weighted with the gradients that arrived. ``elements`` were compared
    one by one, or else that many random ``directions``; ``autograd`` and ``numeric`` hold the derivatives where
    they are 16 at most, ``error`` is the largest difference of what was compared, ``step`` that of the differences.
    ``worst`` are both where they are furthest apart, of one element or direction.
    ``factor`` is what autograd's is of the true one, where that is all that is wrong. ``backward`` is where a
    custom Function's backward stands, ``target`` what the input is called. ``agrees`` is None
    where nothing was compared, and ``note`` says why.
    """

    node: str
    of: Literal["leaf", "function"]
    index: Position = 0
    target: str = ""
    agrees: bool | None = None
    autograd: Values = None
    numeric: Values = None
    error: float | None = None
    tolerance: float | None = None
    step: float | None = None
    elements: Count = 0
    directions: Count = 0
    factor: float | None = None
    backward: Source | None = None
    note: str = ""
    worst: tuple[float, float] | None = None


class ErrorInfo(Struct, frozen=True, omit_defaults=True):
    """An exception: its type and message, the user's line, the node that was running, and the process."""

    type: str
    message: str
    source: Source | None = None
    node: str | None = None
    rank: Position = 0


class Fact(Struct, frozen=True, omit_defaults=True):
    """An act of the script that no gradient shows, recorded for the checks.

    ``kind`` says what; ``recording/facts/collector.py`` and ``recording/script/crash.py`` list the kinds and what
    ``data`` holds for each. ``nodes`` are ids in the fact's pass, ``source`` is where it was done.
    """

    kind: str
    nodes: tuple[str, ...] = ()
    source: Source | None = None
    data: dict[str, Attribute] = {}
    rank: Position = 0


class BackwardPass(Struct, frozen=True, omit_defaults=True, dict=True):
    """A call of ``backward()`` or ``autograd.grad()``, or one that gradtrace made (``seeded``).

    ``forward`` are the calls that made the graph, in their order, ``held`` what their tensors held, and
    ``comparisons`` finite differences of them; all are there only if they were asked for. ``step`` is the number of
    optimizer steps before it. ``seconds`` are those of the whole call; ``waiting`` are those after the last node ran,
    where the processes wait for each other (None where there is one process).
    """

    index: Count
    kind: Literal["backward", "grad", "seeded"]
    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()
    call: Source | None = None
    rank: Position = 0
    parent: Count | None = None
    calls: tuple[ModuleCall, ...] = ()
    error: ErrorInfo | None = None
    forward: tuple[ForwardCall, ...] = ()
    held: tuple[Held, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    facts: tuple[Fact, ...] = ()
    step: Count | None = None
    seconds: Amount | None = None
    waiting: Amount | None = None

    @cached_property
    def by_id(self) -> dict[str, Node]:
        """The nodes by their id."""
        return {node.id: node for node in self.nodes}

    @cached_property
    def edges_from(self) -> dict[str, list[Edge]]:
        """The edges that leave each node, in their order; every node has an entry."""
        edges: dict[str, list[Edge]] = {node.id: [] for node in self.nodes}
        for edge in self.edges:
            edges[edge.source].append(edge)
        return edges

    @cached_property
    def edges_into(self) -> dict[str, list[Edge]]:
        """The edges that reach each node, in their order; every node has an entry."""
        edges: dict[str, list[Edge]] = {node.id: [] for node in self.nodes}
        for edge in self.edges:
            edges[edge.target].append(edge)
        return edges


class LeafSeries(Struct, frozen=True, omit_defaults=True):
    """A leaf over many passes: index of each pass, gradient norm (None: not finite or not reached)."""

    name: str
    shape: Shape = ()
    passes: list[Count] = []
    norms: list[Amount | None] = []
    reached: list[bool] = []
    rank: Position = 0


class LearningRate(NamedTuple):
    """The learning rate from an optimizer step on, until the next one."""

    step: Count
    rate: Amount


class PassSeries(Struct, frozen=True, omit_defaults=True):
    """The passes of a process, those that were not kept included: what each began with.

    ``losses`` are the values of the outputs, null where there are several or none is a scalar, or where it was not
    finite: then the pass is in ``not_finite``. ``steps`` are the optimizer steps made before, ``seconds`` count from
    the beginning of the recording, ``scales`` are those of a GradScaler (empty without one).
    """

    passes: list[Count] = []
    losses: list[float | None] = []
    steps: list[Count] = []
    seconds: list[Amount] = []
    not_finite: list[Count] = []
    rates: tuple[LearningRate, ...] = ()
    scales: list[Amount | None] = []
    rank: Position = 0


class UpdateSeries(Struct, frozen=True, omit_defaults=True):
    """A parameter over optimizer steps: norm of the weight before each, norm of the change, fraction of zeros."""

    name: str
    shape: Shape = ()
    steps: list[Count] = []
    weights: list[Amount | None] = []
    updates: list[Amount | None] = []
    zeros: list[Amount | None] = []
    rank: Position = 0


class World(Struct, frozen=True, omit_defaults=True):
    """The processes that train together: how many there are, and those recorded, each with its host.

    ``restarts`` is how often the launcher had started them again.
    """

    size: Count
    ranks: tuple[Position, ...] = ()
    hosts: tuple[str, ...] = ()
    restarts: Count = 0


class Trace(Struct, frozen=True, omit_defaults=True):
    """Recording of a run; ``facts`` are those about the whole run.

    ``errors`` are those of all processes that died, where several were merged; ``error`` is then the first.
    """

    format_version: int
    command: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    passes: tuple[BackwardPass, ...] = ()
    series: tuple[LeafSeries, ...] = ()
    error: ErrorInfo | None = None
    facts: tuple[Fact, ...] = ()
    world: World | None = None
    errors: tuple[ErrorInfo, ...] = ()
    pass_series: tuple[PassSeries, ...] = ()
    updates: tuple[UpdateSeries, ...] = ()

    @property
    def made(self) -> int:
        """The number of passes that the run made, those that were not kept included."""
        rows = (series.passes[-1] for series in self.series if series.passes)
        return max([*(graph.index for graph in self.passes), *rows], default=0)


class Finding(Struct, frozen=True, omit_defaults=True):
    """A fault of a backward pass: where, the proof, and what to do.

    ``pass_index`` is the first pass that has it (0: the run as a whole), ``count`` the number of passes
    that do, ``nodes`` are ids in the first. ``thresholds`` are the limits that it was measured against, ``ranks``
    the processes that have it, the one of that first pass in front; none where there is one process.
    """

    check: str
    severity: Severity
    message: str
    hint: str = ""
    nodes: tuple[str, ...] = ()
    source: Source | None = None
    pass_index: int = 0
    count: int = 1
    thresholds: dict[str, float] = {}
    ranks: tuple[int, ...] = ()


class Report(Struct, frozen=True):
    """Input of a format: the trace, the pass to show, and what the checks found in it."""

    trace: Trace
    graph: BackwardPass
    findings: tuple[Finding, ...] = ()
