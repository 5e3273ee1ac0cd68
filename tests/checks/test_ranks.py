"""Findings about several processes, and what is none: on traces made by hand; trainings are in tests/distributed."""

import pytest
from msgspec.structs import replace

from gradtrace.checks.base import Thresholds
from gradtrace.checks.checker import run
from gradtrace.model import BackwardPass, ErrorInfo, Fact, World
from gradtrace.processes.merging import merge
from tests.builders import edge, leaf, partials, scalar, trace

RANKS = 4
NAN = scalar(None)


def one(rank, index, own=2.0, reduced=2.5, value=4.0, **more):
    """A pass of one rank: an op that sends ``own`` to a leaf w, whose gradient is then reduced."""
    start = partials()
    nodes = (
        *start.nodes[:2],
        replace(leaf("n2", "w", value, own), reduced=None if reduced is None else scalar(reduced)),
    )
    fields = {"seconds": 0.1, "waiting": 0.01, "step": index - 1, **more}
    return BackwardPass(index, "backward", nodes, (start.edges[0], edge("n1", "n2", own)), start.call, rank, **fields)


def several(make, ranks=RANKS, passes=3):
    """The merged trace of some ranks; ``make`` gives what a rank's pass has that others have not."""
    parts = []
    for rank in range(ranks):
        graphs = [one(rank, index, **make(rank, index)) for index in range(1, passes + 1)]
        parts.append(replace(trace(), passes=tuple(graphs), world=World(ranks, (rank,), (f"node{rank}",))))
    return merge(parts)


def names(found):
    return [(finding.check, finding.ranks, finding.pass_index) for finding in found]


def test_ranks_that_agree_have_no_finding():
    assert run(several(lambda rank, index: {"own": float(rank + 1)})) == ()


def test_the_rank_is_found_that_spoilt_the_gradients_of_all():
    def make(rank, index):
        return {"own": None if (rank, index) == (2, 2) else 2.0, "reduced": None if index >= 2 else 2.5}

    bad = several(make)
    passes = [replace(g, nodes=tuple(_broken(n, g) for n in g.nodes)) for g in bad.passes]
    found = [f for f in run(replace(bad, passes=tuple(passes))) if f.check == "nonfinite-from-rank"]
    assert names(found) == [("nonfinite-from-rank", (2, 0, 1, 3), 2)]
    assert "came from rank 2: on ranks 0, 1, 3 they were finite" in found[0].message


def _broken(node, graph):
    if node.name != "w" or graph.index < 2:
        return node
    own = NAN if (graph.rank, graph.index) == (2, 2) else node.grads[0]
    return replace(node, grads=(own,), reduced=NAN)


def test_what_an_earlier_pass_had_left_in_a_gradient_is_not_blamed_on_another_rank():
    graph = one(0, 1)
    nodes = tuple(replace(node, reduced=NAN) if node.name == "w" else node for node in graph.nodes)
    alone = replace(trace(), passes=(replace(graph, nodes=nodes),))
    assert names(run(alone)) == [("nonfinite-from-rank", (0,), 1)]
    held = replace(graph, nodes=nodes, facts=(Fact("held", ("n2",), data={"passes": 2}),))
    assert run(replace(alone, passes=(held,))) == ()


@pytest.mark.parametrize(("factor", "is_found"), [(1.0, False), (1 + 1e-7, False), (1.001, True)])
def test_rounding_is_no_divergence(factor, is_found):
    found = run(several(lambda rank, index: {"value": 4.0 * (factor if rank == 3 and index == 3 else 1)}))
    assert names(found) == ([("rank-divergence", (3, 0, 1, 2), 3)] if is_found else [])
    assert run(several(lambda rank, _: {"value": 4.0 + rank}), Thresholds(divergence=10)) == ()


def test_a_divergence_tells_of_a_step_that_one_rank_did_not_take():
    def make(rank, index):
        return {"value": 4.0 + (rank == 1 and index == 3), "step": index - 1 - (rank == 1 and index == 3)}

    assert "rank 1 had taken 1 optimizer steps, rank 0 2" in run(several(make))[0].message


def test_reduced_gradients_that_differ_are_a_divergence():
    found = run(several(lambda rank, index: {"reduced": 2.5 + (rank == 0)}))
    assert found[0].message.startswith(
        "reduced gradients that all ranks should have alike differ in pass 1, those of rank 0"
    )


def test_parameters_that_are_not_reduced_may_differ():
    assert run(several(lambda rank, index: {"value": float(rank), "reduced": None})) == ()


def test_ranks_that_reduce_nothing_may_make_as_many_passes_as_they_like():
    made = several(lambda rank, index: {"reduced": None})
    assert run(replace(made, passes=made.passes[:-1])) == ()


def test_passes_that_a_rank_lost_by_a_restart_are_no_end_of_it():
    first = several(lambda rank, index: {})
    killed = replace(first, passes=tuple(g for g in first.passes if (g.rank, g.index) != (1, 2)))
    assert run(killed, names=["rank-desync"]) == ()


@pytest.mark.parametrize(
    ("make", "is_found"),
    [
        (lambda rank, index: {"waiting": 0.01 if rank == 2 else 0.06}, True),
        (lambda rank, index: {"waiting": 0.01 if rank == index % RANKS else 0.06}, False),  # now this one, now that
        (lambda rank, index: {"waiting": 0.001 if rank == 2 else 0.006}, False),  # next to nothing
        (lambda rank, index: {"waiting": 0.01 if index <= 2 and rank == 2 else 0.06}, False),  # only while it warms up
    ],
)
def test_a_straggler_is_the_same_rank_nearly_always(make, is_found):
    found = run(several(make, passes=12), names=["straggler"])
    assert names(found) == ([("straggler", (2, 0, 1, 3), 3)] if is_found else [])


def test_sixty_four_ranks_are_told_in_a_line():
    found = run(several(lambda rank, index: {"value": 4.0 + (rank == 40)}, ranks=64))
    assert names(found) == [("rank-divergence", (40, *(r for r in range(64) if r != 40)), 1)]


def test_a_rank_that_makes_passes_of_its_own_is_neither_ahead_nor_behind():
    """As where rank 0 alone looks at saliency, or logs a penalty."""

    def more(graph):
        own = replace(graph, index=2 * graph.index - 1, nodes=tuple(replace(n, reduced=None) for n in graph.nodes))
        return (own, replace(graph, index=2 * graph.index)) if graph.rank == 0 else (graph,)

    made = several(lambda rank, index: {"value": 4.0 + index})
    shifted = replace(made, passes=tuple(each for graph in made.passes for each in more(graph)))
    assert run(shifted) == ()
    shorter = replace(shifted, passes=tuple(g for g in shifted.passes if (g.rank, g.index) != (2, 3)))
    assert names(run(shorter)) == [("rank-desync", (0, 2), 6)]
    odd = [_valued(g, 9.0) if (g.rank, g.index) == (3, 2) else g for g in shifted.passes]
    assert names(run(replace(shifted, passes=tuple(odd)))) == [("rank-divergence", (3, 0, 1, 2), 2)]
    kept = replace(shifted, passes=tuple(g for g in shifted.passes if g.index == 2))  # record --pass 2
    assert run(kept) == ()


def _valued(graph, value):
    nodes = (replace(n, values=(scalar(value),)) if n.name == "w" else n for n in graph.nodes)
    return replace(graph, nodes=tuple(nodes))


def test_ranks_are_compared_with_those_of_their_process_group():
    def make(rank, index):
        group = Fact("group", ("n2",), data={"ranks": [0, 1] if rank < 2 else [2, 3]})
        return {"value": 4.0 + (rank > 1) + (rank == 3 and index == 3), "facts": (group,)}

    assert names(run(several(make))) == [("rank-divergence", (3, 2), 3)]
    assert run(several(make, passes=2)) == ()


def test_ranks_that_stop_in_graphs_that_differ_are_found():
    def stopped(used):
        made = several(lambda rank, index: {})
        last = [_renamed(g, used(g.rank)) if g.index == 3 else g for g in made.passes]
        return replace(made, passes=tuple(last))

    found = run(stopped(lambda rank: "other" if rank == 1 else "w"), names=["rank-desync"])
    assert names(found) == [("rank-desync", (0, 1), 3)]
    assert "rank 0 used w and waits for rank 1, which did not" in found[0].message
    assert run(stopped(lambda rank: "w"), names=["rank-desync"]) == ()


def _renamed(graph, name):
    """The pass as it is where it died before anything was reduced."""
    nodes = (replace(n, name=name, reduced=None) if n.name == "w" else n for n in graph.nodes)
    return replace(graph, nodes=tuple(nodes), error=ErrorInfo("RuntimeError", "connection closed"))


def test_collectives_in_the_backward_are_the_same_on_all_ranks():
    def calling(made, *ranks):
        return replace(made, passes=tuple(_calling(g) if g.rank in ranks else g for g in made.passes))

    made = several(lambda rank, index: {})
    assert run(calling(made, 0, 1, 2, 3)) == ()
    found = run(calling(made, 0, 1, 3))
    assert names(found) == [("rank-desync", (0, 2), 1)]
    assert "rank 0 AllReduceBackward and rank 2 none" in found[0].message


def _calling(graph):
    return replace(graph, nodes=tuple(replace(n, op="_AllReduceBackward") if n.id == "n1" else n for n in graph.nodes))
