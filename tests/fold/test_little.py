"""As little is folded as is needed: no fold could be left out and all still fit."""

from hypothesis import strategies as st
from msgspec.structs import replace

from gradtrace.fold import View
from gradtrace.fold.containers import with_containers
from gradtrace.fold.folding import fold
from gradtrace.fold.groups import by_call
from gradtrace.fold.line import line_of
from gradtrace.fold.stages import Plan, Stages
from gradtrace.model import BackwardPass, Edge, ModuleCall
from tests.fold.graphs import function, passes, repeated, tensor
from tests.sweeps import sweep


def blocks(count=12, inner=5):
    """A model that calls the blocks of a list: each an attention of some ops and a norm."""
    calls, nodes = [ModuleCall("model", "GPT")], [function(0, "LossBackward0")]
    for block in reversed(range(count)):
        at = len(calls)
        calls += [ModuleCall(f"model.h.{block}", "Block", 0), ModuleCall(f"model.h.{block}.attn", "Attention", at)]
        for k in range(inner):
            call = at + (k > 1)
            nodes.append(function(len(nodes), f"Op{k}Backward0", call=call, module=calls[call].path))
    nodes.append(function(len(nodes), "EmbeddingBackward0", call=0, module="model"))
    edges = tuple(Edge(f"n{at}", f"n{at + 1}", 0, 0, tensor()) for at in range(len(nodes) - 1))
    return BackwardPass(1, "backward", tuple(nodes), edges, calls=tuple(calls))


GRAPHS = st.one_of(
    passes(60),
    st.builds(repeated, st.integers(1, 5), st.integers(2, 9), st.sampled_from([(), (2,), (3, 5)])),
    st.builds(blocks, st.integers(2, 9), st.integers(2, 6)),
)


@sweep(40, 200, GRAPHS, st.integers(1, 60))
def test_the_budget_is_kept_and_nothing_is_folded_below_it(graph, most):
    folded = fold(graph, View(max_nodes=most))
    assert len(folded.boxes) <= most
    assert folded.is_folded == (len(graph.nodes) > most)


@sweep(40, 200, GRAPHS, st.integers(1, 60))
def test_no_fold_of_the_last_stage_could_be_left_out_and_all_still_fit(graph, most):
    stages = Stages(line_of(with_containers(graph)), View(max_nodes=most))
    units = len(stages.assembled(Plan()))
    functions = len(stages.line.nodes)
    folded = [part for part in stages.parts()[0] if part.kind not in {"node", "op", "open"}]
    if functions <= most:
        assert not folded
    elif units <= most:
        boxes = len(stages.parts()[0])
        assert {part.kind for part in folded} <= {"chain"}
        assert all(boxes + len(part.places) - 1 > most for part in folded)
    else:
        check_plan(stages)


def check_plan(stages):
    plan = stages.plan()
    if not plan.depth:
        for run in plan.runs:
            less = replace(plan, runs=tuple(other for other in plan.runs if other != run))
            assert not stages.fits(stages.assembled(less))
    elif stages.fits(stages.assembled(plan)):
        deeper = by_call(stages.assembled(replace(plan, depth=0)), stages.calls, plan.depth + 1)
        assert not stages.fits(deeper)


def test_one_block_of_twelve_is_shown_open_and_the_rest_is_one_box():
    folded = fold(blocks(), View(max_nodes=10))
    kinds = [box.kind for box in folded.boxes]
    assert kinds == ["node", "run", *["node"] * 6]
    assert folded.boxes[1].count == 11
    assert {folded.graph.by_id[box.nodes[0]].module for box in folded.boxes[2:7]} == {"model.h.0", "model.h.0.attn"}
    assert [box.kind for box in fold(blocks(), View(max_nodes=7)).boxes] == ["node", "run", "node"]


def test_of_each_kind_of_module_one_is_shown_where_it_fits():
    calls, nodes = [ModuleCall("net", "Net")], []
    for block in range(8):  # of different sizes, so that nothing repeats
        calls.append(ModuleCall(f"net.layer{block}", "Even" if block % 2 else "Odd", 0))
        for _ in range(5):
            nodes.append(function(len(nodes), size=len(nodes) + 1, call=block + 1, module=calls[-1].path))
    edges = tuple(Edge(f"n{at}", f"n{at + 1}", 0, 0, tensor()) for at in range(len(nodes) - 1))
    graph = BackwardPass(1, "backward", tuple(nodes), edges, calls=tuple(calls))
    modules = [box.kind for box in fold(graph, View(max_nodes=20)).boxes]
    # Their paths differ by name, so each is a kind of its own: as many open as fit.
    assert modules.count("module") == 5
    assert len(modules) == 20


def test_what_is_shown_depends_on_no_gradient():
    one = blocks()
    other = replace(one, nodes=tuple(replace(node, grads=(tensor(norm=0.1 * i),)) for i, node in enumerate(one.nodes)))
    boxes = [[box.nodes for box in fold(graph, View(max_nodes=12)).boxes] for graph in (one, other)]
    assert boxes[0] == boxes[1]


def test_a_list_that_is_never_called_is_a_group_where_its_members_stand_together():
    graph = with_containers(blocks())
    (made,) = graph.calls[len(blocks().calls) :]
    assert (made.path, made.type, made.parent) == ("model.h", "", 0)
    members = [call for call in graph.calls if call.parent == len(graph.calls) - 1]
    assert [call.path for call in members] == [f"model.h.{block}" for block in reversed(range(12))]
    folded = fold(blocks(), View(depth=2))
    assert [(box.kind, len(box.nodes)) for box in folded.boxes] == [("node", 1), ("module", 60), ("node", 1)]


def test_a_list_whose_members_others_stand_between_is_no_group():
    graph = blocks(3)
    nodes = [replace(n, call=0, module="model") if i in {5, 10} else n for i, n in enumerate(graph.nodes)]
    apart = replace(graph, nodes=tuple(nodes))
    assert len(with_containers(apart).calls) == len(apart.calls)


def test_lists_of_lists_are_groups_in_groups():
    calls, nodes = [ModuleCall("net", "Net")], []
    for stage in range(2):
        for block in range(2):
            calls.append(ModuleCall(f"net.stages.{stage}.{block}", "Block", 0))
            nodes.append(function(len(nodes), call=len(calls) - 1, module=calls[-1].path))
    found = with_containers(BackwardPass(1, "backward", tuple(nodes), (), calls=tuple(calls))).calls
    paths = {at: call.path for at, call in enumerate(found)}
    chains = {call.path: paths.get(call.parent) for call in found}
    assert chains["net.stages.0.1"] == "net.stages.0"
    assert chains["net.stages.1"] == "net.stages"
    assert chains["net.stages"] == "net"


def test_what_is_asked_for_beyond_the_budget_is_drawn_and_said():
    folded = fold(blocks(), View(max_nodes=10, open=("model.h",)))
    assert len(folded.boxes) == 62
    assert "more than 10 boxes, as --open model.h asks for" in [o.what for o in folded.openings]
