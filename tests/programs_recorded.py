"""Random programs, plain, under hooks of the test's own, and recorded: a child process, so that a crash is a result.

    python -m tests.programs_recorded RESULTS FIRST COUNT

Writes a line of JSON to RESULTS before each program and after it.
"""

from __future__ import annotations

import json
import math
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from gradtrace.recording.recorder import Options, Recorder
from gradtrace.tracefile import dumps, loads
from tests.programs import Program, quiet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, TensorStats

Norms = list[float | None]
PLACES = (torch.autograd, torch.autograd.graph)


class Run(NamedTuple):
    """A node that ran: its op, the norms of what arrived, and of what it sent on."""

    op: str
    arrived: Norms
    sent: Norms


class Pass(NamedTuple):
    """A call of the engine, as hooks on all of its nodes saw it."""

    runs: list[Run]
    nodes: int
    links: int


def norm(gradient: Any) -> float | None:
    """Return the norm of the finite elements of a gradient; NaN where it is of no kind that has one."""
    if gradient is None:
        return None
    try:
        dense = gradient.detach().to_dense() if gradient.layout is not torch.strided else gradient.detach()
        wide = dense.to(torch.complex128 if dense.is_complex() else torch.float64)
        return float(torch.linalg.vector_norm(wide[torch.isfinite(wide)]))
    except (RuntimeError, NotImplementedError, TypeError):
        return math.nan


class Oracle:
    """Hooks of the test's own on each node of each call of the engine."""

    def __init__(self) -> None:
        self.passes: list[Pass] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch all calls of the engine."""
        engine = torch.autograd._engine_run_backward

        def run(outputs: Any, *args: Any, **kwargs: Any) -> Any:
            with torch._C.DisableTorchFunction():
                try:
                    seen, handles = self._watch(outputs)
                except RuntimeError:  # an output has no graph: the engine will say so
                    seen, handles = Pass([], 0, 0), []
            self.passes.append(seen)
            try:
                return engine(outputs, *args, **kwargs)
            finally:
                for handle in handles:
                    handle.remove()

        for place in PLACES:
            place._engine_run_backward = run
        try:
            yield
        finally:
            for place in PLACES:
                place._engine_run_backward = engine

    def _watch(self, outputs: Any) -> tuple[Pass, list[Any]]:
        roots = [torch.autograd.graph.get_gradient_edge(output).node for output in outputs]
        nodes = list(dict.fromkeys(roots))
        links = len(roots)
        for node in nodes:
            after = [target for target, _ in node.next_functions if target is not None]
            links += len(after)
            nodes += [target for target in dict.fromkeys(after) if target not in set(nodes)]
        runs: list[Run] = []
        handles = []
        for node in nodes:
            name = type(node).__name__
            if name == "AccumulateGrad":
                handles.append(node.register_prehook(lambda g, n=name: runs.append(Run(n, [norm(x) for x in g], []))))
            else:
                handles.append(
                    node.register_hook(lambda s, a, n=name: runs.append(Run(n, [*map(norm, a)], [*map(norm, s)])))
                )
        return Pass(runs, len(nodes), links), handles


def same(one: Any, other: Any) -> bool:
    """Tell whether two results are the same to the last bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.layout is not torch.strided or other.layout is not torch.strided:
            one, other = one.to_dense(), other.to_dense()
        return (
            one.shape == other.shape
            and one.dtype == other.dtype
            and bool(((one == other) | (one.isnan() & other.isnan())).all())
        )
    return type(one) is type(other) and one == other


def close(stats: TensorStats | None, expected: float | None) -> bool:
    """Tell whether a recorded gradient has the norm that a hook saw."""
    if stats is None or expected is None:
        return stats is None and expected is None
    if stats.norm is None or math.isnan(expected):
        return bool(stats.note or stats.nan or stats.inf) or math.isnan(expected)
    return math.isclose(stats.norm, expected, rel_tol=1e-3, abs_tol=1e-6)


def differences(graph: BackwardPass, expected: Pass) -> Iterator[str]:
    """Yield what a recorded pass has otherwise than hooks saw it."""
    functions = [node for node in graph.nodes if node.kind != "output"]
    if len(functions) != expected.nodes or len(graph.edges) != expected.links:
        yield f"{len(functions)} nodes and {len(graph.edges)} edges, not {expected.nodes} and {expected.links}"
    ran = sorted((node for node in functions if node.order is not None), key=lambda node: node.order)
    if [node.op for node in ran] != [run.op for run in expected.runs]:
        yield f"{[node.op for node in ran]} ran, not {[run.op for run in expected.runs]}"
        return
    for node, run in zip(ran, expected.runs, strict=True):
        if len(node.grads) != len(run.arrived) or not all(map(close, node.grads, run.arrived)):
            yield f"{node.op} {node.id}: {[s and s.norm for s in node.grads]} arrived, not {run.arrived}"
        for edge in graph.edges_from[node.id]:
            if not close(edge.grad, run.sent[edge.source_index]):
                yield f"{node.op} {node.id}: {edge.grad} sent on, not {run.sent[edge.source_index]}"


def tried(seed: int) -> tuple[int, int, list[str]]:
    """Run a program three times; return how many nodes and edges were compared, and what is wrong."""
    plain, hooked, recorded, oracle = Program(seed), Program(seed), Program(seed), Oracle()
    plain.run()
    with oracle.watching():
        hooked.run()
    with Recorder(Options(facts=True)) as recorder:
        recorded.run()
    trace = recorder.trace
    wrong = [f"passes {len(trace.passes)}, not {len(oracle.passes)}"] if len(trace.passes) != len(oracle.passes) else []
    if len(plain.told) != len(recorded.told) or not all(map(same, plain.told, recorded.told)):
        wrong += [f"{a!r} was {b!r}"[:500] for a, b in zip(plain.told, recorded.told, strict=False) if not same(a, b)]
        wrong.append("other results")
    for graph, expected in zip(trace.passes, oracle.passes, strict=False):
        wrong += [f"pass {graph.index}: {told}" for told in differences(graph, expected)]
    if loads(dumps(trace)) != trace:
        wrong.append("not the same when it was saved and loaded")
    nodes = sum(len(graph.nodes) for graph in trace.passes)
    return nodes, sum(len(graph.edges) for graph in trace.passes), wrong


def main(results: str, first: int, count: int) -> None:
    """Try these programs."""
    quiet()
    torch.set_num_threads(1)
    with Path(results).open("w", encoding="utf-8") as out:
        for seed in range(first, first + count):
            print(json.dumps({"started": seed}), file=out, flush=True)
            nodes, edges, wrong = tried(seed)
            print(json.dumps({"seed": seed, "nodes": nodes, "edges": edges, "wrong": wrong}), file=out, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
