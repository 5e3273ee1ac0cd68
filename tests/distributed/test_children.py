"""Processes that a script starts are recorded where that is asked for, and nothing of it is left behind."""

import os
import textwrap

import pytest

from gradtrace.model import World
from gradtrace.processes.children import STARTER, ChildOptions, inherited_options, recorded_children
from gradtrace.processes.merging import merge
from gradtrace.tracefile import load
from tests.distributed.launching import run, write

# By every way that there is: mp.spawn with a process group, spawn, forkserver, and python itself; one is killed.
PARENT = """
    import multiprocessing, os, signal, subprocess, sys
    import torch, torch.distributed as dist, torch.multiprocessing

    def work(value):
        x = torch.tensor(float(value), requires_grad=True)
        (x**2).backward()

    def killed(value):
        work(value)
        os.kill(os.getpid(), signal.SIGKILL)

    def failing(rank):
        work(rank)
        raise ValueError(f"of rank {rank}")

    def train(rank):
        dist.init_process_group("gloo", rank=rank, world_size=2, store=dist.FileStore("store", 2))
        model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 1))
        model(torch.ones(3, 2) * (rank + 1)).sum().backward()
        dist.destroy_process_group()

    if __name__ == "__main__":
        torch.multiprocessing.spawn(train, nprocs=2)
        for kind, target in (("spawn", killed), ("forkserver", work)):
            process = multiprocessing.get_context(kind).Process(target=target, args=(3,))
            process.start()
            process.join()
        subprocess.run([sys.executable, "child.py"], check=False)
        subprocess.run([sys.executable, "-c", "import sys; print('torch' in sys.modules, sys.meta_path[0])"])
        try:
            torch.multiprocessing.spawn(failing)
        except torch.multiprocessing.ProcessRaisedException as error:
            print("of rank 0" in str(error))
        process = multiprocessing.get_context("spawn").Process(target=failing, args=(3,))
        process.start()
        process.join()
        print(sys.argv, "sitecustomize" in sys.modules)
"""
CHILD = """
    import sys, torch
    print(len(sys.path), sys.argv, sys.modules["sitecustomize"].__file__)
    x = torch.tensor(2.0, requires_grad=True)
    (x**3).backward()
    raise ValueError("the child's own")
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A folder with what a script and those that it has started left, and what was said."""
    folder = tmp_path_factory.mktemp("started")
    write(folder, "parent.py", PARENT)
    write(folder, "child.py", CHILD)
    (folder / "site").mkdir()
    write(folder / "site", "sitecustomize.py", "print('the own sitecustomize')")
    own = str(folder / "site")
    done = run(folder, "-m", "gradtrace", "record", "--children", "-o", "run.json", "parent.py", own_path=own)
    return folder, done


def test_each_process_that_is_started_has_a_file_of_its_own(started):
    folder, done = started
    names = sorted(path.name for path in folder.glob("run.*"))
    assert done.code == 0, done.err
    assert [name for name in names if ".pid" not in name] == [
        *(f"run.child{count}.json" for count in (3, 4, 5, 6)), "run.rank0.json", "run.rank1.json",
    ]  # fmt: skip
    assert len(names) == 7
    assert f"7 processes that the script started wrote {names[0]}" in done.err


def test_the_ranks_of_a_spawned_group_are_known_and_merged(started):
    folder, _ = started
    traces = [load(folder / f"run.rank{rank}.json") for rank in (0, 1)]
    assert [trace.world for trace in traces] == [World(2, (rank,), traces[0].world.hosts) for rank in (0, 1)]
    merged = merge(traces)
    assert [(graph.rank, graph.index) for graph in merged.passes] == [(0, 1), (1, 1)]
    weight = next(node for node in merged.passes[1].nodes if node.name.endswith("weight"))
    assert (weight.grads[0].values, weight.reduced.values) == ([[6.0, 6.0]], [[4.5, 4.5]])


def test_processes_of_no_group_are_recorded_too_and_a_killed_one_up_to_its_end(started):
    folder, _ = started
    killed, forked = (load(folder / f"run.child{number}.json") for number in (3, 4))
    assert [fact.kind for fact in killed.facts] == ["unfinished"]
    for trace in (killed, forked):
        assert next(node for node in trace.passes[0].nodes if node.name == "x").grads[0].values == 6.0


def test_a_script_that_is_started_runs_as_by_itself_and_its_error_is_in_its_trace(started):
    folder, done = started
    trace = load(next(folder.glob("run.pid*.json")))
    assert (trace.command, trace.error.type, trace.error.source.line) == (("child.py",), "ValueError", 6)
    assert done.err.count("ValueError: the child's own") == 1
    alone = run(folder, "child.py", own_path=str(folder / "site"))
    mine = [line for line in done.out.splitlines() if "child.py" in line]
    assert [line for line in alone.out.splitlines() if "child.py" in line] == mine


def test_an_exception_that_ends_a_process_of_multiprocessing_is_in_its_trace(started):
    folder, done = started
    line = textwrap.dedent(PARENT).splitlines().index('    raise ValueError(f"of rank {rank}")') + 1
    for child, rank in ((5, 0), (6, 3)):  # by torch, and by python
        error = load(folder / f"run.child{child}.json").error
        assert (error.type, error.message, error.source.line) == ("ValueError", f"of rank {rank}", line)
    assert "True" in done.out
    assert load(folder / "run.rank0.json").error is None


def test_the_own_sitecustomize_runs_in_each_of_them(started):
    _, done = started
    assert done.out.count("the own sitecustomize") >= 6


def test_where_nobody_asks_the_script_is_told_how_to(tmp_path):
    write(tmp_path, "parent.py", "import subprocess, sys; subprocess.run([sys.executable, 'child.py'])")
    write(tmp_path, "child.py", CHILD)
    done = run(tmp_path, "-m", "gradtrace", "record", "-o", "run.json", "parent.py")
    assert done.code == 3
    assert "it started other processes: to record these, add --children" in done.err
    assert [path.name for path in tmp_path.glob("run.*")] == ["run.json"]
    write(tmp_path, "quiet.py", "import torch")
    done = run(tmp_path, "-m", "gradtrace", "record", "-o", "quiet.json", "quiet.py")
    assert (done.code, "--children" in done.err) == (3, False)


def test_what_the_children_inherit_is_there_only_meanwhile(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "here")
    options = ChildOptions("/run.json", (0, 3), (1,))
    with recorded_children(options):
        assert os.environ["PYTHONPATH"].split(os.pathsep) == [STARTER, "here"]
        assert inherited_options() == options
    assert (os.environ["PYTHONPATH"], inherited_options()) == ("here", None)
    monkeypatch.delenv("PYTHONPATH")
    with recorded_children(options):
        assert os.environ["PYTHONPATH"] == STARTER
    assert "PYTHONPATH" not in os.environ


def test_torchrun_inside_a_command_is_recorded(tmp_path):
    write(
        tmp_path, "train.py", """
            import torch, torch.distributed as dist
            dist.init_process_group("gloo")
            x = torch.tensor(1.0 + dist.get_rank(), requires_grad=True)
            (x**2).backward()
            dist.destroy_process_group()
        """,
    )  # fmt: skip
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "train.py"]
    done = run(tmp_path, "-m", "gradtrace", "record", "--children", "--ranks", "1", "-o", "run.json", *launch)
    assert done.code == 0, done.err
    assert [path.name for path in tmp_path.glob("run.*")] == ["run.rank1.json"]
