"""The functions that a script or a notebook calls: record, draw, load, make_dot."""

from __future__ import annotations

import builtins
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from gradtrace import model, tracefile
from gradtrace.checks.base import Thresholds
from gradtrace.checks.checker import run
from gradtrace.checks.wrong_gradient import wrong_gradient
from gradtrace.errors import FreedGraphError, NothingRecordedError, UnknownNameError
from gradtrace.files import check_writable, write_whole
from gradtrace.formats.base import FORMATS, Style, drawn
from gradtrace.history import columns, update_columns
from gradtrace.processes import merging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import graphviz
    import torch

    from gradtrace.drawing.embedded_page import EmbeddedPage
    from gradtrace.recording.recorder import Recorder
    from gradtrace.registry import Plugin

PLAIN = Style()
IN_NOTEBOOK = Style(width=120, rows=200)
MERMAID = "text/vnd.mermaid"
SVG = "image/svg+xml"
MEDIA = {SVG: "svg", "text/plain": "text", MERMAID: "mermaid"}  # the format of each

__all__ = [
    "GradientReport",
    "Recording",
    "Trace",
    "choose_format",
    "draw",
    "gradcheck",
    "load",
    "make_dot",
    "record",
    "report_of",
    "select",
]


class Trace(model.Trace, frozen=True, omit_defaults=True):
    """A recorded run, to draw, check and save; it shows itself in a notebook."""

    def render(self, path: str | Path, *, number: str | int = "last", style: Style = PLAIN) -> Path:
        """Draw one pass to a file.

        Args:
            path: where to; its ending names the format (``gradtrace formats`` lists them).
            number: the index of the pass, from 1, or ``last``.
            style: the layout engine, its limit in seconds, and how text looks.

        Returns:
            The path of the file, which was written whole.

        Raises:
            UnknownNameError: no such format, or no such pass.
            NothingRecordedError: there is no pass.
            OutputError: the file can't be written there.
            EngineError: Graphviz is missing, failed, or took too long.
        """
        plugin = choose_format(str(path))
        check_writable(path)
        write_whole(path, self.drawn(plugin.name, number=number, style=style))
        return Path(path)

    def drawn(self, name: str, *, number: str | int = "last", style: Style = PLAIN) -> str | bytes:
        """Return one pass in the format called ``name``: text, or a picture's bytes. Raises as ``render``."""
        return drawn(FORMATS[name], report_of(self, select(self, number)), style)

    def check(self, thresholds: Thresholds | None = None) -> tuple[model.Finding, ...]:
        """Return what the checks find in all passes: the worst first, then in order of pass.

        Args:
            thresholds: the limits to measure against; the defaults if None.

        Returns:
            The findings; the same one in several passes is one, with their count.
        """
        return run(self, thresholds)

    def history(self, *, updates: bool = False) -> dict[str, list[Any]]:
        """Return a row for each pass and leaf as columns, which ``pandas.DataFrame`` and ``polars.DataFrame`` take.

        Args:
            updates: weights and their updates by optimizer step instead, which ``record --weights`` measures.

        Returns:
            ``rank``, ``pass``, ``step``, ``leaf``, ``norm`` (None where ``state`` is ``unreached`` or ``not finite``),
            ``true_norm`` (without a GradScaler's ``scale``), ``loss``, ``learning_rate``, ``seconds``; or of updates
            ``rank``, ``step``, ``leaf``, ``weight``, ``update``, ``ratio``, ``zeros``.
        """
        return update_columns(self) if updates else columns(self)

    def save(self, path: str | Path) -> None:
        """Write the trace file (``.json``, or ``.json.gz`` compressed); raises OutputError."""
        tracefile.save(self, path)

    def view(self, *, number: str | int = "last", height: int = 600) -> EmbeddedPage:
        """Return the interactive page of all passes, which a notebook shows in a frame.

        Args:
            number: the pass to begin with: its index, from 1, or ``last``.
            height: of the frame, in pixels.

        Raises:
            UnknownNameError: there is no such pass.
            NothingRecordedError: there is no pass.
            EngineError: Graphviz is missing, failed, or took too long.
        """
        from gradtrace.drawing.embedded_page import EmbeddedPage  # noqa: PLC0415 - only a page needs it

        name = Path(self.command[0]).name if self.command else "backward pass"
        return EmbeddedPage(str(self.drawn("html", number=number)), height, name)

    def bundle(self, include: Any = None, exclude: Any = None, *, number: str | int = "last") -> dict[str, str]:
        """Return one pass as a notebook shows it, by media type: the SVG and the table; never raises.

        Args:
            include: the media types that are wanted; the SVG and the table where it is empty.
                ``text/vnd.mermaid`` is given on request only: a notebook that knows it would prefer it.
            exclude: the media types that are not.
            number: the index of the pass, from 1, or ``last``.
        """
        try:
            wanted = include or [kind for kind in MEDIA if kind != MERMAID]
            kinds = [kind for kind in MEDIA if kind in wanted and kind not in (exclude or ())]
        except Exception:  # noqa: BLE001 - a repr that raises hides the object it should show
            kinds = list(MEDIA)
        shown, problems = {}, []
        for kind in kinds:
            try:
                if MEDIA[kind] in FORMATS:
                    text = str(self.drawn(MEDIA[kind], number=number, style=IN_NOTEBOOK))
                    shown[kind] = _in_page(text) if kind == SVG else text
            except Exception as error:  # noqa: BLE001
                problems.append(f"<gradtrace.Trace, which can't be drawn: {error}>")
        if problems:
            shown.setdefault("text/plain", problems[0])
        return shown

    def __repr__(self) -> str:
        """Return a line that says what it is; all that a trace holds would fill screens."""
        name = f" of {Path(self.command[0]).name}" if self.command else ""
        nodes = sum(len(graph.nodes) for graph in self.passes)
        passes = f"{len(self.passes):,} pass{'' if len(self.passes) == 1 else 'es'}"
        ranks = len(merging.ranks_of(self))
        return f"<gradtrace.Trace{name}: {passes}{f' of {ranks:,} ranks' if ranks > 1 else ''}, {nodes:,} nodes>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return self.bundle(include, exclude)

    @property
    def _repr_html_(self) -> Callable[[], str]:
        """The picture as a part of a page, whose theme it follows: for sphinx-gallery and marimo.

        IPython would add it to the bundle, and Jupyter prefer it; of a notebook that is not trusted yet, it shows
        nothing of an SVG in HTML.
        """
        if hasattr(builtins, "get_ipython"):
            raise AttributeError("_repr_html_")
        return self._html

    def _html(self) -> str:
        from html import escape  # noqa: PLC0415 - only a page needs it

        shown = self.bundle()
        if SVG in shown:
            return f'<div class="gradtrace-graph" style="overflow-x:auto">{shown[SVG]}</div>'
        return f"<pre>{escape(shown.get('text/plain', repr(self)))}</pre>"


def _in_page(svg: str) -> str:
    """Return a picture for a page that puts it in as it is, a notebook's or what nbconvert makes of that."""
    from gradtrace.drawing.page import inline  # noqa: PLC0415 - only a page needs it, and the parser of XML behind it

    return inline(svg)


class Recording:
    """The recording that ``record()`` gives; its trace is complete when the block has ended."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @property
    def trace(self) -> Trace:
        """The passes recorded until now."""
        return _trace(self._recorder.trace)

    def seed(self, variables: dict[str, Any]) -> None:
        """Record a pass from the outputs among these variables, where the block has made no pass yet.

        Outputs are the tensors with a ``grad_fn`` that no other of them depends on; each is seeded with ones
        of its shape, their graph is retained, and no ``.grad`` is touched.
        """
        from gradtrace.recording.seeded_pass import script_outputs, seed  # noqa: PLC0415 - imports torch

        outputs = script_outputs(variables) if not self._recorder.count else ()
        if outputs:
            seed(self._recorder, outputs, [variables])


@contextmanager
def record(
    *, forward: bool = True, command: Sequence[str] = (), model: torch.nn.Module | None = None
) -> Iterator[Recording]:
    """Record every backward pass made in a ``with`` block.

    Args:
        command: what the trace calls the code in the block, for the title of its pictures.
        forward: also record the line, the module and the forward value of each op called in the block.
        model: a module whose parameters and parts are called by their paths in it, as ``named_parameters()`` does,
            and not by those from the variables of the script.

    Returns:
        A context manager that gives a Recording; the gradients, the random state and ``.grad`` are those
        of a run without it, and no hook outlives it.
    """
    from gradtrace.recording.recorder import Options, Recorder  # noqa: PLC0415
    from gradtrace.recording.script.crash import note_error  # noqa: PLC0415 - imports torch

    with Recorder(Options(forward=forward, facts=True), (str(Path.cwd()),)) as recorder:
        recorder.command = tuple(command)
        if model is not None:
            recorder.given[""] = model
        try:
            yield Recording(recorder)
        except Exception as error:
            note_error(recorder, error)
            raise


def draw(*tensors: torch.Tensor) -> Trace:
    """Record a pass from these tensors to their leaves, seeded with ones of each tensor's shape.

    Args:
        tensors: outputs with a graph, of any shape; their graph is retained and no ``.grad`` is touched.

    Returns:
        The trace of that one pass, which shows itself in a notebook.

    Raises:
        TensorError: a tensor has no graph.
    """
    return _seeded(tensors, {})


class GradientReport:
    """Result of ``gradcheck``: true if something was compared and nothing was wrong; ``str()`` tells what.

    ``trace`` holds the pass with its comparisons, ``findings`` what is wrong, one for each op.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.comparisons = trace.passes[-1].comparisons
        self.findings = tuple(wrong_gradient(trace.passes[-1], Thresholds()))

    def __bool__(self) -> bool:
        """Tell whether gradients were compared, and none was wrong."""
        return not self.findings and any(comparison.agrees for comparison in self.comparisons)

    def __str__(self) -> str:
        """Return what was compared, and what is wrong."""
        compared = [each for each in self.comparisons if each.agrees is not None]
        left = {each.note for each in self.comparisons if each.agrees is None}
        lines = [f"{len(compared)} of {len(self.comparisons)} gradients compared, {len(self.findings)} wrong"]
        lines += [f"not compared: {note}" for note in sorted(left)]
        lines += [f"{each.check}: {each.message}; {each.hint}" for each in self.findings]
        return "\n".join(lines)


def gradcheck(fn: Callable[..., Any], inputs: Sequence[Any] | torch.Tensor) -> GradientReport:
    """Check the backward of a function against finite differences of its forward, op by op and input by input.

    Args:
        fn: takes the inputs, returns a tensor or several; it is called once, its torch calls then run again in
            float64, with steps of 6e-6 times the size of what is moved.
        inputs: its arguments, of any shape and dtype; those that require grad are differentiated.

    Returns:
        A report that is true if something was compared and nothing is wrong; it names the op where something is.

    Raises:
        TensorError: no input requires grad, or no output depends on one.
    """
    from gradtrace.recording.replay.gradcheck import checked  # noqa: PLC0415 - imports torch

    given = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
    return GradientReport(_trace(checked(fn, given, str(Path.cwd()))))


def load(path: str | Path, *more: str | Path) -> Trace:
    """Return the trace in a file that ``gradtrace record`` or ``Trace.save`` wrote.

    Args:
        path: the file; or a folder, whose files are those of several processes.
        more: further files, to be read as one trace, each pass with its rank.

    Returns:
        The trace; a warning says which files could not be read, and of which ranks there is none.

    Raises:
        TraceFileError: no file can be read.
    """
    if not more and not Path(path).is_dir():
        return _trace(tracefile.load(path))
    return _trace(merging.read_all([str(path), *map(str, more)], warnings.warn))


def make_dot(  # noqa: PLR0913 - torchviz's signature, and one more
    var: torch.Tensor | list[torch.Tensor] | tuple[torch.Tensor, ...],
    params: dict[str, torch.Tensor] | None = None,
    show_attrs: bool = False,  # noqa: FBT001, FBT002 - torchviz's signature
    show_saved: bool = False,  # noqa: FBT001, FBT002
    max_attr_chars: int = 50,
    *,
    gradients: bool = True,
) -> graphviz.Digraph:
    """Return the graph of ``var`` with its gradients; torchviz's signature, so that one import moves a project.

    Of a graph that ``backward()`` has freed, there is the structure alone.

    Args:
        var: the output, or several, seeded with ones of their shape.
        params: tensors by the name to show, as ``dict(model.named_parameters())``.
        show_attrs: also show the plain attributes that each node keeps, such as ``dim``.
        show_saved: also show the shape of the tensors that each node keeps.
        max_attr_chars: the most characters to show of an attribute.
        gradients: whether to compute them; without, the structure is walked and nothing is run.

    Returns:
        A ``graphviz.Digraph``; its ``render`` and its notebook display need Graphviz's ``dot``.

    Raises:
        TensorError: ``var`` has no graph.
    """
    from gradtrace.drawing.digraph import digraph  # noqa: PLC0415 - imports graphviz

    outputs, names = var if isinstance(var, (list, tuple)) else (var,), dict(params or {})
    if not gradients:
        return _structure(outputs, names)
    try:
        trace = _seeded(outputs, names)
    except FreedGraphError:
        return _structure(outputs, names)
    style = Style(attributes=max_attr_chars if show_attrs else 0, saved=show_saved)
    return digraph(model.Report(trace, trace.passes[-1]), style)


def choose_format(path: str, name: str | None = None) -> Plugin[Any]:
    """Return the format called ``name``, or else the one that the file's ending names; raises UnknownNameError."""
    if name is not None:
        return FORMATS[name]
    plugin = FORMATS.for_suffix(path)
    if plugin is None:
        raise UnknownNameError.of("format", Path(path).suffix or path, FORMATS)
    return plugin


def select(trace: model.Trace, number: str | int = "last") -> model.BackwardPass:
    """Return one pass of the trace, by its index or as ``last``; raises NothingRecordedError, UnknownNameError."""
    if not trace.passes:
        raise NothingRecordedError(
            "no backward pass was recorded",
            "call backward() or autograd.grad(), or leave a tensor with a grad_fn in the script's main module",
        )
    if number == "last":
        # A pass that ran inside another one, as checkpoints do, is a part of it.
        return [graph for graph in trace.passes if graph.parent is None or graph is trace.passes[0]][-1]
    by_index = {str(graph.index): graph for graph in trace.passes}
    if str(number) not in by_index:
        raise UnknownNameError.of("pass", number, (*by_index, "last"))
    return by_index[str(number)]


def report_of(trace: model.Trace, graph: model.BackwardPass, *others: model.BackwardPass) -> model.Report:
    """Return what a format is given to show one pass: the trace, the pass, and its findings and those of others."""
    own = merging.of_rank(trace, graph.rank)
    return model.Report(own, graph, run(msgspec.structs.replace(own, passes=(graph, *others))))


def _seeded(tensors: Sequence[torch.Tensor], names: dict[str, torch.Tensor]) -> Trace:
    from gradtrace.recording.recorder import Options, Recorder  # noqa: PLC0415
    from gradtrace.recording.seeded_pass import seed  # noqa: PLC0415
    from gradtrace.recording.user_code.variable_names import Given  # noqa: PLC0415 - imports torch

    with Recorder(Options(forward=False), (str(Path.cwd()),)) as recorder:
        seed(recorder, tensors, (Given(names),))
    return _trace(recorder.trace)


def _structure(tensors: Sequence[torch.Tensor], names: dict[str, torch.Tensor]) -> graphviz.Digraph:
    from gradtrace.drawing.graph_only import structure_dot  # noqa: PLC0415 - imports graphviz
    from gradtrace.recording.graph_only import structure  # noqa: PLC0415
    from gradtrace.recording.user_code.variable_names import Given  # noqa: PLC0415 - imports torch

    return structure_dot(*structure(tensors, (Given(names),)))


def _trace(plain: model.Trace) -> Trace:
    return Trace(**{name: getattr(plain, name) for name in msgspec.structs.asdict(plain)})
