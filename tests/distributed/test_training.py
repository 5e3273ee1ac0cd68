"""What real trainings on several ranks leave in their traces, and what the checks say of them, and do not say."""

import json
import math
from pathlib import Path

import pytest
from msgspec.structs import replace

import gradtrace
from gradtrace.checks.base import CHECKS, Thresholds
from gradtrace.checks.checker import run
from gradtrace.model import ErrorInfo, Fact
from gradtrace.processes.joining import joined
from gradtrace.processes.merging import of_rank
from gradtrace.validation import flaws
from tests.distributed.launching import torchrun

SCRIPT = str(Path(__file__).with_name("scenarios.py"))
HEALTHY = [
    "ddp", "ddp_comm_hook",
    "ddp_views", "ddp_find_unused", "ddp_static_graph", "ddp_no_sync", "ddp_join", "fsdp", "fsdp_transformer",
    "tensor_parallel", "gpipe", "ddp_looked_at", "ddp_groups", "hsdp", "reduced_by_hand", "not_reduced",
]  # fmt: skip
FOUR = pytest.param("four", marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder with the traces of two ranks."""
    folder = tmp_path_factory.mktemp("two")
    done = torchrun(folder, 2, SCRIPT, str(folder))
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """A folder with the traces of four ranks."""
    folder = tmp_path_factory.mktemp("four")
    done = torchrun(
        folder, 4, SCRIPT, str(folder), "ddp", "fsdp", "tensor_parallel", "gpipe", "nan_on_one_rank", "diverging"
    )
    assert done.code == 0, done.err
    return folder


def load(folder, name):
    return gradtrace.load(*sorted(folder.glob(f"{name}.rank*.json")))


def leaves(graph):
    return {node.name: node for node in graph.nodes if node.kind == "leaf"}


@pytest.mark.parametrize("folder", ["two", FOUR])
def test_parameters_and_gradients_are_those_of_a_run_without_gradtrace_to_the_bit(folder, request):
    folder = request.getfixturevalue(folder)
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("same.rank*"))]
    assert len(found) in (2, 4)
    assert all(all(same.values()) for same in found), found


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_training_has_no_finding_but_of_what_is_never_used(two, name):
    told = run(load(two, name))
    if name in ("ddp_find_unused", "ddp_static_graph"):
        assert [(f.check, f.ranks) for f in told] == [("unreached-leaf", (0, 1))]
        assert told[0].message.endswith("they were never used in the forward")
        assert "spare.weight" in told[0].message
    else:
        assert told == ()


@pytest.mark.parametrize(("folder", "ranks"), [("two", 2), pytest.param("four", 4, marks=pytest.mark.slow)])
def test_ddp_has_the_gradient_of_each_rank_and_the_mean_of_all(folder, ranks, request):
    trace = load(request.getfixturevalue(folder), "ddp")
    for index in (1, 2, 3):
        own = [leaves(graph) for graph in trace.passes if graph.index == index]
        assert len(own) == ranks
        for name in ("model.module.2.bias", "model.module.2.weight"):
            arrived = [sum(_flat(each[name].grads[0].values)) for each in own]
            for each in own:
                assert sum(_flat(each[name].reduced.values)) == pytest.approx(sum(arrived) / ranks, rel=1e-4)


def test_under_no_sync_nothing_is_said_to_be_reduced(two):
    trace = load(two, "ddp_no_sync")
    reduced = {graph.index: [leaf.reduced is not None for leaf in leaves(graph).values()] for graph in trace.passes}
    assert reduced == {1: [False] * 2, 2: [True] * 2, 3: [False] * 2, 4: [True] * 2}


def test_fsdp_has_names_shards_and_the_shard_of_the_reduced_gradient(two):
    trace = load(two, "fsdp")
    for graph in trace.passes:
        found = leaves(graph)
        assert sorted(found) == sorted(f"model.{at}.{what}" for at in (0, 2, 3) for what in ("weight", "bias"))
        weight = found["model.2.weight"]
        assert (weight.values[0].shape, weight.values[0].note) == ((8, 8), "Shard(0): local 4×8")
        assert (weight.grads[0].shape, weight.reduced.note) == ((8, 8), "Shard(0): local 4×8")
    bias = leaves(trace.passes[-1])["model.3.bias"]  # of one element, which is on rank 0
    assert (bias.reduced.note, bias.reduced.norm, bias.reduced.zeros) == ("Shard(0): local 0", None, None)
    halves = [[leaves(g)["model.2.bias"] for g in trace.passes if g.index == 1 and g.rank == rank] for rank in (0, 1)]
    own = [half[0].grads[0].mean for half in halves]
    shards = [half[0].reduced for half in halves]
    assert sum(shard.mean * 4 for shard in shards) / 8 == pytest.approx(sum(own) / 2, rel=1e-4)


def test_fsdp_names_the_parameters_of_a_transformer(two):
    for graph in load(two, "fsdp_transformer").passes:
        names = leaves(graph)
        assert len(names) == 2 * 12 + 2
        assert "model.0.layers.1.self_attn.in_proj_weight" in names


def test_a_dtensor_is_measured_where_it_is_and_its_placement_is_told(two):
    graph = load(two, "tensor_parallel").passes[0]
    notes = {name: (leaf.values[0].shape, leaf.values[0].note) for name, leaf in leaves(graph).items()}
    assert notes == {
        "model.0.weight": ((8, 4), "Shard(0): local 4×4"),
        "model.0.bias": ((8,), "Shard(0): local 4"),
        "model.2.weight": ((1, 8), "Shard(1): local 1×4"),
        "model.2.bias": ((1,), "Replicate: local 1"),
    }
    assert all(leaf.grads[0].norm > 0 for leaf in leaves(graph).values())


@pytest.mark.parametrize(("folder", "ranks"), [("two", 2), pytest.param("four", 4, marks=pytest.mark.slow)])
def test_the_stages_of_a_pipeline_are_joined_where_one_sent_what_the_other_received(folder, ranks, request):
    trace = load(request.getfixturevalue(folder), "gpipe")
    names = [{n.name for graph in trace.passes if graph.rank == rank for n in graph.nodes} for rank in range(ranks)]
    for stage in range(ranks - 1):
        between = f"stage {stage} → {stage + 1}, microbatch"
        assert {f"sent: {between} 0", f"sent: {between} 1"} <= names[stage]
        assert f"received: {between} 0" in names[stage + 1]
    whole = joined(trace)
    assert not list(flaws(whole))
    graph = whole.passes[0]
    assert [node.op for node in graph.nodes].count("Send") == ranks - 1
    weights = [node.name for node in graph.nodes if node.kind == "leaf" and node.name.endswith("weight")]
    assert len(weights) == ranks
    for send in (node for node in graph.nodes if node.op == "Send"):
        (edge,) = graph.edges_into[send.id]
        assert edge.grad.values == send.grads[0].values  # what was sent back is what the other was seeded with


@pytest.mark.parametrize("folder", ["two", FOUR])
def test_nan_is_traced_to_its_rank_pass_and_line(folder, request):
    trace = load(request.getfixturevalue(folder), "nan_on_one_rank")
    found = next(finding for finding in run(trace) if finding.check == "nonfinite-from-rank")
    line = Path(SCRIPT).read_text().splitlines()[found.source.line - 1]
    assert (found.severity, found.pass_index, found.ranks[0]) == ("error", 2, 1)
    assert "torch.log(x * 0 - 1)" in line
    assert "came from rank 1" in found.message


def test_a_rank_by_itself_says_that_another_one_gave_nan(two):
    alone = of_rank(load(two, "nan_on_one_rank"), 0)
    found = [finding for finding in run(alone) if finding.check == "nonfinite-from-rank"]
    assert [(f.pass_index, f.ranks) for f in found] == [(2, (0,))]
    guilty = run(of_rank(load(two, "nan_on_one_rank"), 1), names=["nonfinite-from-rank"])
    assert guilty == ()


@pytest.mark.parametrize("folder", ["two", FOUR])
def test_a_diverging_rank_is_found_in_the_first_pass_that_differs(folder, request):
    found = run(load(request.getfixturevalue(folder), "diverging"), names=["rank-divergence"])
    assert [(f.pass_index, f.ranks[0]) for f in found] == [(3, 1)]
    assert "parameters" in found[0].message
    assert "model.module.0.weight" in found[0].message


def test_parameters_that_a_script_keeps_alike_by_itself_are_found_when_they_part(two):
    found = run(load(two, "biases_forgotten"), names=["rank-divergence"])
    assert [(f.severity, f.pass_index, f.ranks) for f in found] == [("warning", 4, (1, 0))]
    assert (
        "kept alike differ in pass 4, those of rank 1 from the others': model.0.bias, model.2.bias" in found[0].message
    )


def test_a_parameter_that_one_rank_alone_uses_is_found(two):
    found = run(load(two, "unused_on_one_rank"), names=["unused-on-rank"])
    assert [(f.pass_index, f.count, f.ranks) for f in found] == [(1, 2, (0, 1))]
    assert "spare.weight: used on rank 0 and not on rank 1" in found[0].message


def test_a_rank_that_the_others_wait_for_is_found(two):
    found = run(load(two, "late"), names=["straggler"])
    assert [f.ranks[0] for f in found] == [1]
    assert "it begins later" in found[0].message


def test_a_rank_that_ends_earlier_is_found_unless_it_joins(two):
    trace = load(two, "ddp")
    shorter = replace(trace, passes=tuple(g for g in trace.passes if (g.rank, g.index) != (1, 3)))
    found = run(shorter, names=["rank-desync"])
    assert [(f.pass_index, f.ranks) for f in found] == [(3, (0, 1))]
    assert found[0].message.endswith("Rank 1 had come to the end of its script")
    died = replace(shorter, errors=(ErrorInfo("ValueError", "no", rank=1),))
    assert run(died, names=["rank-desync"])[0].message.endswith("Rank 1 had ended with ValueError")
    killed = replace(shorter, facts=(*shorter.facts, Fact("unfinished", rank=1)))
    assert run(killed, names=["rank-desync"])[0].message.endswith("Rank 1 was killed")
    assert run(load(two, "ddp_join"), names=["rank-desync"]) == ()


def test_waiting_is_a_part_of_the_time_of_a_pass(two):
    for graph in load(two, "ddp").passes:
        assert 0 < graph.waiting < graph.seconds


def test_no_check_of_ranks_says_anything_of_one_process():
    for name in CHECKS:
        assert not (name.startswith("rank-") and list(run(gradtrace.draw(_scalar()), Thresholds(), [name])))


def _scalar():
    import torch  # noqa: PLC0415

    return torch.tensor(2.0, requires_grad=True) ** 2


def _flat(values):
    return [values] if not isinstance(values, list) else [item for value in values for item in _flat(value)]


def test_the_numbers_of_all_traces_are_finite_or_said_not_to_be(two):
    for path in two.glob("*.json"):
        for graph in gradtrace.load(path).passes:
            for stats in (s for node in graph.nodes for s in (*node.values, *node.grads, node.reduced) if s):
                assert stats.norm is None or math.isfinite(stats.norm)
