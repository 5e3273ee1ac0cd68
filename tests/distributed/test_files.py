"""Each rank writes its own file, whatever becomes of it, and the commands read them as one trace."""

import json
import sys

import pytest

from gradtrace.cli import main
from gradtrace.processes.merging import UNFINISHED, ranks_of
from gradtrace.tracefile import load
from tests.distributed.launching import torchrun, write

# At first rank 1 is killed before its third pass, and torchrun ends rank 0; started again, both come to the end.
KILLED = """
    import os, signal, time
    import torch, torch.distributed as dist, torch.nn as nn
    from torch.nn.parallel import DistributedDataParallel
    rank, restart = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    # A store for each start: in torchrun's own, gloo finds the addresses of the start before.
    dist.init_process_group("gloo", rank=rank, world_size=2, store=dist.FileStore(f"store{restart}", 2))
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    torch.manual_seed(rank)
    for step in range(3):
        if restart == 0 and step == 2:
            os.kill(os.getpid(), signal.SIGKILL) if rank == 1 else time.sleep(60)
        optimizer.zero_grad()
        model(torch.randn(4, 3)).pow(2).mean().backward()
        optimizer.step()
    torch.save(model.state_dict(), f"after{rank}.pt")
    os.write(1, f"rank {rank} of {dist.get_world_size()} is done\\n".encode())
    dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A folder in which two ranks were recorded, one of which was killed and both started again."""
    folder = tmp_path_factory.mktemp("recorded")
    write(folder, "train.py", KILLED)
    done = torchrun(folder, 2, "-m", "gradtrace", "record", "-o", "run.json.gz", "train.py", max_restarts=1)
    assert done.code == 0, done.err
    return folder, done


def test_each_rank_and_each_restart_has_a_file_of_its_own(recorded):
    folder, _ = recorded
    names = [f"run.{part}rank{rank}.json.gz" for part in ("", "restart1.") for rank in (0, 1)]
    assert sorted(path.name for path in folder.glob("*.gz")) == sorted(names)
    for restart, name in ((0, names[1]), (1, names[2]), (1, names[3])):
        trace = load(folder / name)
        rank = int("rank1" in name)
        assert (trace.world.size, trace.world.ranks, trace.world.restarts) == (2, (rank,), restart)
        assert {graph.rank for graph in trace.passes} == {rank}


def test_a_rank_that_is_killed_leaves_what_it_had_recorded(recorded):
    folder, _ = recorded
    for rank in (0, 1):
        killed = load(folder / f"run.rank{rank}.json.gz")
        assert [fact.kind for fact in killed.facts if fact.kind == UNFINISHED] == [UNFINISHED]
        assert 1 <= len(killed.passes) <= 2
        assert killed.passes[0].nodes


def test_passes_know_their_step_and_their_time(recorded):
    folder, _ = recorded
    trace = load(folder / "run.restart1.rank0.json.gz")
    assert [graph.step for graph in trace.passes] == [0, 1, 2]
    assert all(0 < graph.waiting < graph.seconds for graph in trace.passes)


def test_only_the_first_rank_talks(recorded):
    _, done = recorded
    assert [line for line in done.said if "wrote" in line] == [
        "gradtrace: wrote run.restart1.rank0.json.gz: 3 of 3 backward passes, 21 nodes"
    ]
    assert sorted(done.out.splitlines()) == ["rank 0 of 2 is done", "rank 1 of 2 is done"]


@pytest.fixture
def call(recorded, tmp_path, monkeypatch, capfd):
    """Run a command in this process, on copies of the files; return its exit code and what it printed."""
    for path in recorded[0].glob("run.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gradtrace", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capfd.readouterr()

    return run


def test_check_reads_all_files_as_one_trace(call):
    code, out, err = call("check", "--json", "run.restart1.rank0.json.gz", "run.restart1.rank1.json.gz")
    assert code == 0, err
    assert isinstance(json.loads(out), (dict, list))
    assert "6 backward passes" in err
    code, _, err = call("check", ".")
    assert "rank 1 was killed: of it there is what it had recorded until then" in err


def test_render_draws_the_rank_that_was_chosen(call):
    files = ["run.restart1.rank0.json.gz", "run.restart1.rank1.json.gz"]
    code, _, err = call("render", "-o", "one.json", "--rank", "1", *files)
    assert (code, {graph.rank for graph in load("one.json").passes}) == (0, {1})
    code, _, err = call("render", "-o", "first.json", *files)
    assert (code, {graph.rank for graph in load("first.json").passes}) == (0, {0})
    assert "showing rank 0 of 2" in err
    assert call("render", "--rank", "7", *files)[0] == 2


def test_a_trace_of_all_ranks_is_loaded_by_python_as_well(call):
    import gradtrace  # noqa: PLC0415

    trace = gradtrace.load("run.restart1.rank0.json.gz", "run.restart1.rank1.json.gz")
    assert ranks_of(trace) == (0, 1)
    assert "6 passes of 2 ranks" in repr(trace)
