"""The traces of several processes as one, and one process's part of that again."""

from __future__ import annotations

from collections import Counter
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from gradtrace import tracefile
from gradtrace.errors import TraceFileError, UnknownNameError
from gradtrace.model import Trace, World
from gradtrace.processes.journal import UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gradtrace.model import BackwardPass, Fact, Node, PassSeries

__all__ = ["is_trace_source", "merge", "of_rank", "ranks_of", "read_all"]


def is_trace_source(name: str) -> bool:
    """Tell whether ``name`` is meant as a trace or as several: a file, a folder that holds some, or a pattern.

    A folder with a ``__main__.py`` is a program, whatever it holds beside it.
    """
    if Path(name).is_dir():
        return bool(_in_folder(name)) and not Path(name, "__main__.py").exists()
    return tracefile.is_trace(name)


def _in_folder(name: str) -> list[str]:
    named = (path for path in Path(name).iterdir() if path.name.endswith(tracefile.SUFFIXES))
    return sorted(str(path) for path in named if tracefile.begins_as_trace(path))


def _files(name: str) -> list[str]:
    """Return the files that a folder, or a pattern that no shell has expanded, stands for."""
    if Path(name).is_dir():
        return _in_folder(name)
    has_pattern = has_magic(name) and not Path(name).exists()
    return (sorted(glob(name)) if has_pattern else []) or [name]  # noqa: PTH207 - a folder may stand in the pattern


def read_all(names: Iterable[str], tell: Callable[[str], None]) -> Trace:
    """Return the traces in these files and folders as one; raises TraceFileError if none can be read.

    Args:
        names: files, folders and patterns.
        tell: is told in a line what is missing: a file that can't be read, a rank that has none.
    """
    files = list(dict.fromkeys(file for name in names for file in _files(name)))
    if len(files) == 1:
        return tracefile.load(files[0])
    found, problems = list[tuple[str, Trace]](), list[TraceFileError]()
    for file in files:
        try:
            found.append((file, tracefile.load(file)))
        except TraceFileError as error:
            problems.append(error)
    if not found:
        raise problems[0] if problems else TraceFileError("no trace file was named")
    for problem in problems:
        tell(f"left out: {problem.message}")
    merged = merge([trace for _, trace in _told_apart(found, tell)])
    _tell_missing(merged, tell)
    return merged


def _told_apart(found: list[tuple[str, Trace]], tell: Callable[[str], None]) -> list[tuple[str, Trace]]:
    """Return those of which none other is the same process of the same start."""
    first: dict[tuple[int, int], str] = {}
    kept = []
    for file, trace in found:
        key = (trace.world.restarts, ranks_of(trace)[0]) if trace.world is not None else None
        if key is not None and first.setdefault(key, file) != file:
            tell(f"left out: {file!r} is of rank {key[1]}, as {first[key]!r} is")
        else:
            kept.append((file, trace))
    return kept


def _tell_missing(trace: Trace, tell: Callable[[str], None]) -> None:
    size = trace.world.size if trace.world is not None else 0
    missing = sorted({*range(size)} - {*ranks_of(trace)})
    if missing:
        listed = ", ".join(map(str, missing[:8])) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")  # noqa: PLR2004
        tell(f"no trace of rank {listed} of {size}")
    for rank in (fact.rank for fact in trace.facts if fact.kind == UNFINISHED):
        tell(f"rank {rank} was killed: of it there is what it had recorded until then")


def merge(traces: Sequence[Trace]) -> Trace:
    """Return several traces as one, each pass with its rank.

    What a process recorded after the launcher had started it again follows what it had recorded before, its passes
    counted on. Processes that are of no group are counted in their order.
    """
    if len(traces) == 1:
        return traces[0]
    grouped = sorted((t for t in traces if t.world is not None), key=lambda t: t.world.restarts if t.world else 0)
    alone = [trace for trace in traces if trace.world is None]
    used = {rank for trace in grouped for rank in ranks_of(trace)}
    free = iter(rank for rank in range(len(used) + len(traces)) if rank not in used)
    parts = [*_counted_on(grouped), *(_as_rank(trace, next(free)) for trace in alone)]
    parts.sort(key=lambda part: ranks_of(part)[0])
    errors = [error for part in parts for error in (part.errors or ((part.error,) if part.error else ()))]
    return Trace(
        max(part.format_version for part in parts),
        parts[0].command,
        parts[0].versions,
        tuple(sorted((g for part in parts for g in part.passes), key=lambda graph: (graph.rank, graph.index))),
        tuple(series for part in parts for series in part.series),
        errors[0] if errors else None,
        tuple(fact for part in parts for fact in part.facts),
        _world([trace.world for trace in grouped if trace.world is not None]),
        tuple(errors),
        tuple(series for part in parts for series in part.pass_series),
        tuple(series for part in parts for series in part.updates),
    )


def _world(worlds: list[World]) -> World | None:
    hosts = {rank: host for world in worlds for rank, host in zip(world.ranks, world.hosts, strict=False)}
    if not worlds:
        return None
    ranks = tuple(sorted({rank for world in worlds for rank in world.ranks}))
    size = max(worlds[-1].size, ranks[-1] + 1 if ranks else 0)
    return World(size, ranks, tuple(hosts.get(rank, "") for rank in ranks), worlds[-1].restarts)


def _counted_on(traces: list[Trace]) -> list[Trace]:
    """Return the traces with passes that are counted on from start to start."""
    made: Counter[int] = Counter()  # by all ranks of a start, so that the same pass has the same number on each
    for trace in traces:
        start = trace.world.restarts if trace.world is not None else 0
        made[start] = max(made[start], trace.made)
    before = {start: sum(count for other, count in made.items() if other < start) for start in made}
    starts = [trace.world.restarts if trace.world is not None else 0 for trace in traces]
    return [_shifted(t, before[start]) if before[start] else t for t, start in zip(traces, starts, strict=True)]


def _shifted(trace: Trace, by: int) -> Trace:
    """Return the trace with ``by`` added to the index of each pass, wherever it stands."""

    def node(node: Node) -> Node:
        origin = node.origin
        return node if origin is None else replace(node, origin=replace(origin, pass_index=origin.pass_index + by))

    def fact(fact: Fact) -> Fact:
        index = fact.data.get("pass")
        return replace(fact, data={**fact.data, "pass": index + by}) if isinstance(index, int) else fact

    def graph(graph: BackwardPass) -> BackwardPass:
        return replace(
            graph,
            index=graph.index + by,
            parent=None if graph.parent is None else graph.parent + by,
            nodes=tuple(map(node, graph.nodes)) if any(n.origin for n in graph.nodes) else graph.nodes,
            facts=tuple(map(fact, graph.facts)),
        )

    return replace(
        trace,
        passes=tuple(map(graph, trace.passes)),
        series=tuple(replace(rows, passes=[index + by for index in rows.passes]) for rows in trace.series),
        pass_series=tuple(_later(series, by) for series in trace.pass_series),
        facts=tuple(map(fact, trace.facts)),
    )


def _later(series: PassSeries, by: int) -> PassSeries:
    passes, broken = ([index + by for index in indices] for indices in (series.passes, series.not_finite))
    return replace(series, passes=passes, not_finite=broken)


def _as_rank(trace: Trace, rank: int) -> Trace:
    """Return the trace of one process under another rank."""
    return replace(
        trace,
        passes=tuple(replace(graph, rank=rank) for graph in trace.passes),
        series=tuple(replace(series, rank=rank) for series in trace.series),
        pass_series=tuple(replace(series, rank=rank) for series in trace.pass_series),
        updates=tuple(replace(series, rank=rank) for series in trace.updates),
        error=None if trace.error is None else replace(trace.error, rank=rank),
        facts=tuple(replace(fact, rank=rank) for fact in trace.facts),
        errors=(),
    )


def ranks_of(trace: Trace) -> tuple[int, ...]:
    """Return the ranks of the processes that a trace is of, at least one."""
    known = {*(graph.rank for graph in trace.passes), *(trace.world.ranks if trace.world is not None else ())}
    return tuple(sorted(known or {fact.rank for fact in trace.facts})) or (0,)


def of_rank(trace: Trace, rank: int) -> Trace:
    """Return one process's part of a trace; raises UnknownNameError if there is none of this rank."""
    ranks = ranks_of(trace)
    if rank not in ranks:
        raise UnknownNameError.of("rank", rank, ranks)
    if len(ranks) == 1:
        return trace
    ended = [error for error in trace.errors or ((trace.error,) if trace.error else ()) if error.rank == rank]
    world = trace.world
    hosts = dict(zip(world.ranks, world.hosts, strict=False)) if world is not None else {}
    return replace(
        trace,
        world=None if world is None else replace(world, ranks=(rank,), hosts=(hosts.get(rank, ""),)),
        passes=tuple(graph for graph in trace.passes if graph.rank == rank),
        series=tuple(series for series in trace.series if series.rank == rank),
        pass_series=tuple(series for series in trace.pass_series if series.rank == rank),
        updates=tuple(series for series in trace.updates if series.rank == rank),
        facts=tuple(fact for fact in trace.facts if fact.rank == rank),
        error=ended[0] if ended else None,
        errors=(),
    )
