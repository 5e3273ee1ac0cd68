"""The traces of several processes read as one, and the file of a process that was killed."""

import gzip
import os

import pytest
from msgspec.structs import replace

from gradtrace import tracefile
from gradtrace.errors import TraceFileError, UnknownNameError
from gradtrace.model import ErrorInfo, Fact, LeafSeries, Origin, World
from gradtrace.processes.journal import UNFINISHED, Journal
from gradtrace.processes.merging import is_trace_source, merge, of_rank, ranks_of, read_all
from gradtrace.validation import flaws
from tests.builders import partials, trace


def of(rank, *indices, world=2, restarts=0):
    """Return the trace of one rank, with these passes."""
    passes = tuple(replace(partials(), index=index, rank=rank) for index in indices)
    known = World(world, (rank,), (f"node{rank}",), restarts)
    facts = (Fact("unreached", data={"names": [f"w{rank}"], "used": False}, rank=rank),)
    series = (LeafSeries("u", passes=[*indices], norms=[1.0] * len(indices), reached=[True] * len(indices), rank=rank),)
    return replace(trace(), passes=passes, world=known, facts=facts, series=series)


def test_each_pass_keeps_its_rank_and_the_world_is_told():
    merged = merge([of(1, 1, 2), of(0, 1, 2)])
    assert [(graph.rank, graph.index) for graph in merged.passes] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert merged.world == World(2, (0, 1), ("node0", "node1"))
    assert not list(flaws(merged))


def test_one_rank_of_a_merged_trace_is_what_it_had_recorded():
    parts = [of(0, 1, 2), of(1, 1)]
    merged = merge(parts)
    for rank, part in enumerate(parts):
        assert tracefile.dumps(of_rank(merged, rank)) == tracefile.dumps(part)
    with pytest.raises(UnknownNameError, match="choose from 0, 1"):
        of_rank(merged, 5)


def test_a_merged_trace_can_be_saved_and_merged_again(tmp_path):
    merged = merge([of(0, 1, world=3), of(1, 1, world=3)])
    merged = tracefile.loads(tracefile.dumps(merged))
    assert ranks_of(merge([merged, of(2, 1, world=3)])) == (0, 1, 2)


def test_passes_after_a_restart_are_counted_on_wherever_they_are_named():
    second = of(0, 1, 2, restarts=1)
    node = replace(second.passes[1].nodes[1], origin=Origin(1, "n2", "MulBackward0"))
    held = Fact("freed", data={"pass": 1, "same": True})
    nodes = (second.passes[1].nodes[0], node, *second.passes[1].nodes[2:])
    later = replace(second.passes[1], nodes=nodes, parent=1, facts=(held,))
    merged = merge([replace(second, passes=(second.passes[0], later)), of(0, 1, 2, 3)])
    last = merged.passes[-1]
    assert [graph.index for graph in merged.passes] == [1, 2, 3, 4, 5]
    assert (last.parent, last.nodes[1].origin.pass_index, last.facts[0].data["pass"]) == (4, 4, 4)
    assert (merged.series[1].passes, merged.world.restarts) == ([4, 5], 1)


def test_processes_of_no_group_are_counted_in_their_order():
    merged = merge([replace(of(0, 1), world=None), replace(of(0, 1), world=None)])
    assert ([graph.rank for graph in merged.passes], merged.world) == ([0, 1], None)


def test_the_errors_of_all_ranks_are_kept():
    first = replace(of(0, 1), error=ErrorInfo("ValueError", "no"))
    second = replace(of(1, 1), error=ErrorInfo("RuntimeError", "peer closed", rank=1))
    merged = merge([first, second])
    assert [error.rank for error in merged.errors] == [0, 1]
    assert of_rank(merged, 1).error.message == "peer closed"


def test_a_file_that_is_broken_or_missing_is_told_and_the_others_are_read(tmp_path):
    for rank in (0, 2):
        tracefile.save(of(rank, 1, world=4), tmp_path / f"run.rank{rank}.json.gz")
    (tmp_path / "run.rank1.json.gz").write_bytes(b"\x1f\x8b half")
    tracefile.save(of(2, 1, world=4), tmp_path / "other.json")
    (tmp_path / "package.json").write_text('{"name": "no trace"}')
    told = []
    merged = read_all([str(tmp_path)], told.append)
    assert ranks_of(merged) == (0, 2)
    assert [words.replace(str(tmp_path), "") for words in told] == [
        "left out: '/run.rank1.json.gz' is truncated: its compressed data ends too early",
        "left out: '/run.rank2.json.gz' is of rank 2, as '/other.json' is",
        "no trace of rank 1, 3 of 4",
    ]
    assert ranks_of(read_all([str(tmp_path / "run.rank[02]*")], lambda _: None)) == (0, 2)


def test_where_no_file_can_be_read_that_is_the_error(tmp_path):
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text('{"format_version":1,')
    with pytest.raises(TraceFileError, match="truncated"):
        read_all([str(tmp_path)], lambda _: None)
    assert is_trace_source(str(tmp_path))
    (tmp_path / "empty").mkdir()
    assert not is_trace_source(str(tmp_path / "empty"))


@pytest.mark.parametrize("ending", ["json", "json.gz"])
def test_the_file_is_whole_after_each_pass(tmp_path, ending):
    path = tmp_path / f"run.{ending}"
    journal = Journal(lambda _: str(path))
    whole = of(1, 1, 2, 3)
    for count in (1, 2, 3):
        now = replace(whole, passes=whole.passes[:count], facts=whole.facts * (3 - count))
        journal._due = 0.0
        journal.passed(lambda now=now: now)
        read = tracefile.load(path)
        assert read.passes == whole.passes[:count]
        assert [fact.kind for fact in read.facts] == ["unreached"] * (3 - count) + [UNFINISHED]
        assert (read.command, read.world, read.series) == (whole.command, whole.world, whole.series)
    assert path.read_bytes().startswith(b"\x1f\x8b") == (ending == "json.gz")
    told = []
    tracefile.save(of(0, 1), tmp_path / "run.rank0.json")
    read_all([str(tmp_path)], told.append)
    assert told == ["rank 1 was killed: of it there is what it had recorded until then"]


def test_a_file_is_written_again_only_after_a_pause_and_by_the_process_that_began_it(tmp_path, monkeypatch):
    asked = []
    journal = Journal(lambda _: str(tmp_path / "run.json"))
    journal.passed(lambda: asked.append(1) or of(0, 1))
    journal._due += 1000
    journal.passed(lambda: asked.append(2) or of(0, 1))
    monkeypatch.setattr(os, "getpid", lambda: -1)
    journal._due = 0.0
    journal.passed(lambda: asked.append(3) or of(0, 1))
    assert asked == [1]


def test_where_the_last_pass_alone_is_kept_the_file_does_not_grow(tmp_path):
    path = tmp_path / "run.json"
    journal = Journal(lambda _: str(path))
    for index in (1, 2, 3):
        journal._due = 0.0
        journal.passed(lambda index=index: of(0, index))
        assert [graph.index for graph in tracefile.load(path).passes] == [index]


def test_a_folder_that_is_gone_does_not_disturb_the_script(tmp_path):
    Journal(lambda _: str(tmp_path / "gone" / "run.json")).passed(lambda: of(0, 1))
    assert not (tmp_path / "gone").exists()


def test_members_of_a_compressed_file_are_those_of_one_file(tmp_path):
    path = tmp_path / "run.json.gz"
    Journal(lambda _: str(path)).passed(lambda: of(0, 1))
    assert tracefile.loads(gzip.decompress(path.read_bytes())) == tracefile.load(path)
