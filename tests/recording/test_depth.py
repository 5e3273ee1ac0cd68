"""Deep and wide graphs: recorded, saved, drawn, and let go of without a crash, in time linear in the nodes."""

from __future__ import annotations

import json

import pytest

from tests.scripts import run, write

CHAIN = """
    import sys, time, torch

    def work(steps):
        x = torch.ones(1, requires_grad=True)
        y = x
        for _ in range(steps):
            y = y + 1
        y.backward()
        return x.grad.item()

    begin = time.process_time()
    print(work(int(sys.argv[1])), file=sys.stderr)   # the graph dies inside the function
    z = torch.ones(1, requires_grad=True)
    for _ in range(int(sys.argv[1])):
        z = z + 1
    z.backward()                                     # and this one with the interpreter
    print(time.process_time() - begin, file=sys.stderr)
"""
THREAD = """
    import sys, threading, torch

    def work(steps):
        x = torch.ones(1, requires_grad=True)
        y = x
        for _ in range(steps):
            y = y + 1
        y.backward()
        print(x.grad.item(), threading.stack_size(), flush=True)

    thread = threading.Thread(target=work, args=(int(sys.argv[1]),))
    thread.start()
    thread.join()
"""
SHARED = """
    import torch
    w = torch.ones(2, requires_grad=True)
    sum(w * i for i in range(5000)).sum().backward()
    print(w.grad.tolist())
"""


def drawn(folder, command, *options):
    done = run(folder, "-m", "gradtrace", "render", *options, *command)
    assert done.code == 0, done.stderr[-500:]
    return done


def test_a_chain_deeper_than_the_stack_is_recorded_saved_and_drawn(tmp_path):
    write(tmp_path, chain=CHAIN)
    done = drawn(tmp_path, ["chain.py", "60000"], "-o", "chain.svg")
    assert done.stderr.startswith("1.0\n")
    assert "60,002 nodes" in done.said
    picture = done.files["chain.svg"].decode()
    assert picture.count("<g ") < 2000
    assert "60,0" in picture or "more" in picture


@pytest.mark.parametrize("steps", [80_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_deep_chain_may_live_and_die_in_a_thread(steps, tmp_path):
    write(tmp_path, chain=THREAD)
    done = run(tmp_path, "-m", "gradtrace", "record", "-o", "out.json", "chain.py", str(steps))
    assert (done.code, done.stdout) == (0, "1.0 0\n"), done.stderr[-500:]
    assert f"{steps + 2:,} nodes" in done.said


@pytest.mark.slow
def test_a_chain_of_1_000_000_ops_is_recorded_saved_and_drawn(tmp_path):
    write(tmp_path, chain=CHAIN)
    done = run(tmp_path, "-m", "gradtrace", "record", "--pass", "last", "-o", "chain.json", "chain.py", "1000000")
    assert done.code == 0, done.stderr[-500:]
    (tmp_path / "chain.json").write_bytes(done.files["chain.json"])
    assert len(json.loads(done.files["chain.json"])["passes"][0]["nodes"]) == 1_000_002
    picture = drawn(tmp_path, ["chain.json"], "-o", "chain.svg").files["chain.svg"]
    assert len(picture) < 1_000_000


@pytest.mark.slow
def test_time_is_linear_in_the_nodes(tmp_path):
    write(tmp_path, chain=CHAIN)
    seconds = {}
    for steps in (100_000, 400_000):
        done = run(tmp_path, "-m", "gradtrace", "record", "--pass", "last", "-o", "x.json.gz", "chain.py", str(steps))
        assert done.code == 0
        seconds[steps] = float(done.stderr.splitlines()[1])
    assert seconds[400_000] < 4 * seconds[100_000] * 1.5


def test_a_parameter_used_5_000_times_is_recorded_and_drawn(tmp_path):
    write(tmp_path, shared=SHARED)
    done = drawn(tmp_path, ["shared.py"], "-o", "shared.svg")
    total = sum(range(5000))
    assert done.stdout == f"[{float(total)}, {float(total)}]\n"
    assert "10,004 nodes" in done.said or "nodes" in done.said
