"""A script under gradtrace does what it does under python, whatever it asks of the interpreter."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys

import msgspec
import pytest

from gradtrace.model import Trace
from tests.scripts import ROOT, assert_same, both, run, write

EVERYTHING = '''
    """Asks everything of the interpreter that scripts ask."""
    import atexit, concurrent.futures, multiprocessing, os, pickle, random, signal, sys, threading, time
    from torch import autograd
    from torch.autograd import backward, grad
    import torch
    import neighbour

    class Squares(torch.utils.data.Dataset):
        def __len__(self): return 8
        def __getitem__(self, i): return torch.tensor(float(i)) ** 2

    def gradient(value):
        x = torch.tensor(value, requires_grad=True)
        (x**3).backward()
        return x.grad.item(), __name__ in ("__main__", "__mp_main__")

    def main():
        print(sys.argv, __name__, __file__, __package__, __spec__, __doc__, __builtins__.__name__)
        print(sys.path[0], neighbour.NAME, os.getcwd())
        print(sys.stdin.readline().strip(), input(), open("data/numbers.txt").read())
        print(sys.modules["__main__"].gradient is gradient, pickle.loads(pickle.dumps(gradient)) is gradient)
        x = torch.tensor(2.0, requires_grad=True)
        print(grad(x**2, x), autograd.grad(x**3, x)); backward(x**4); print(x.grad)
        for kind in ("fork", "spawn"):
            with multiprocessing.get_context(kind).Pool(1) as pool:
                print(kind, pool.map(gradient, [1.0, 2.0]))
        for batch in torch.utils.data.DataLoader(Squares(), batch_size=4, num_workers=2):
            (batch * x).sum().backward()
        print(x.grad)
        told = lambda number, frame: print("signal", number == signal.SIGUSR1, frame.f_code.co_name)
        signal.signal(signal.SIGUSR1, told)
        os.kill(os.getpid(), signal.SIGUSR1)
        print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        def until_the_end():
            threading.main_thread().join(0.01)
            while threading.main_thread().is_alive(): time.sleep(0.01)
            threading.main_thread().join()
            print("thread", gradient(3.0))
        threading.Thread(target=until_the_end).start()
        global kept
        kept = concurrent.futures.ThreadPoolExecutor(1)   # which nobody shuts down
        print("pool", kept.submit(gradient, 5.0).result())
        atexit.register(print, "at exit")
        child = os.fork()
        if child == 0:
            print("child", flush=True)
            sys.exit(5)
        print("child ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        open("made.txt", "w").write("by the script")
        print(random.random(), torch.rand(1).item(), "to stderr:", file=sys.stderr)

    if __name__ == "__main__":
        random.seed(1); torch.manual_seed(1)
        main()
        sys.exit(7)
'''


def decoded(data):
    return msgspec.json.decode(data, type=Trace)


def test_a_script_gets_from_the_interpreter_all_that_python_gives_it(tmp_path):
    write(tmp_path, script=EVERYTHING, neighbour="NAME = 'neighbour'")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "numbers.txt").write_text("1 2 3")
    command = ("script.py", "--lr", "3", "-o", "its own", "--pass", "1", "--help")
    plain, traced = both(tmp_path, *command, stdin="first\nsecond\n", options=("--pass", "all"))
    assert plain.code == 7
    assert "at exit" in plain.stdout
    for done in (plain, traced):  # newer versions warn of the fork in a process with threads
        done.stderr = re.sub(r"pid=\d+", "pid", done.stderr)
    trace = decoded(assert_same(plain, traced))
    assert trace.command == command
    assert [graph.kind for graph in trace.passes] == ["grad", "grad", *["backward"] * 5]


STREAMS = """
    import inspect, os, sys, torch
    torch.ones(2, requires_grad=True).sum().backward()

    def depth(n): return n if n == 0 else depth(n - 1)

    def deepest():
        low, high = 10, 5000
        while high - low > 1:
            middle = (low + high) // 2
            try:
                depth(middle)
                low = middle
            except RecursionError:
                high = middle
        return low

    class Layer(torch.nn.Module):
        def forward(self, x):
            return [(frame.function, frame.lineno) for frame in inspect.stack()]

    def failing(): torch.nn.functional.softmax(torch.ones(2), 7)

    print(deepest(), sys.getrecursionlimit())
    sys.setrecursionlimit(1500)
    print(deepest(), sys.getrecursionlimit(), sorted(globals()))
    print(Layer()(torch.ones(1)), [frame.code_context for frame in inspect.stack()])
    try:
        failing()
    except IndexError:
        print([frame.function for frame in inspect.trace()])
    log = open("log.txt", "w")
    print(log.fileno())
    sys.stdout.flush()
    os.dup2(log.fileno(), 2)
    print("into the log", file=sys.stderr, flush=True)
    if "closes" in sys.argv:
        sys.stdout.close()
        sys.stderr.close()
    elif "loses" in sys.argv:
        sys.stdout = sys.stderr = None
"""


@pytest.mark.parametrize("way", ["keeps", "closes", "loses"])
def test_a_script_may_do_with_its_streams_and_its_stack_what_it_wants(way, tmp_path):
    write(tmp_path, script=STREAMS)
    plain, traced = both(tmp_path, "script.py", way)
    assert plain.files == {"log.txt": b"into the log\n"}
    assert_same(plain, traced)
    assert traced.said.startswith("gradtrace: wrote out.json: 1 of 1 backward passes")


def test_the_terminal_is_told_how_far_the_script_is(tmp_path):
    pty = pytest.importorskip("pty", reason="there are no terminals like this")
    write(tmp_path, script="""
        import time, torch
        x = torch.ones(2, requires_grad=True)
        end = time.monotonic() + 1.7
        while time.monotonic() < end:
            x.sum().backward()
            time.sleep(0.001)
    """)  # fmt: skip
    command = [sys.executable, "-m", "gradtrace", "record", "--pass", "last", "-o", "out.json", "script.py"]
    master, terminal = pty.openpty()
    environment = os.environ | {"PYTHONPATH": ROOT}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=terminal) as script:
        os.close(terminal)
        said = b""
        # On Linux the end of a terminal is an error.
        with contextlib.suppress(OSError), os.fdopen(master, "rb", buffering=0) as screen:
            while part := screen.read(1000):
                said += part
        assert script.stdout.read() == b""
    told = re.findall(rb"gradtrace: ([\d,]+) backward passes, \d+ s\x1b\[K\r", said)
    counts = [int(count.replace(b",", b"")) for count in told]
    assert 2 <= len(counts) <= 4, "twice a second"
    assert counts == sorted(counts)
    last = said.decode().splitlines()[-1]
    assert re.fullmatch(r"gradtrace: wrote out.json: 1 of [\d,]+ backward passes, 3 nodes\x1b\[K", last)


CRASH = """
    from . import helper

    def main():
        import torch
        x = torch.tensor(3.0, requires_grad=True)
        (x * 2).backward()
        try:
            helper.fail(x)
        except RuntimeError as error:
            raise ValueError("the script's own") from error

    print(__name__, __package__, __spec__.name, __spec__.parent)
    main()
"""


def test_a_module_crashes_with_its_own_traceback_after_what_it_did_was_kept(tmp_path):
    helper = "def fail(x):\n    return x.reshape(2, 2)"
    write(tmp_path, __init___in_package="", module_in_package=CRASH, helper_in_package=helper)
    plain = run(tmp_path, "-m", "package.module")
    traced = run(tmp_path, "-m", "gradtrace", "record", "-o", "out.json", "-m", "package.module", "an argument")
    assert plain.code == 1
    assert "ValueError: the script's own" in plain.stderr
    trace = decoded(assert_same(plain, traced))
    assert [node.name for node in trace.passes[0].nodes if node.kind == "leaf"] == ["x"]
    assert (trace.error.type, trace.error.source.text) == (
        "ValueError",
        'raise ValueError("the script\'s own") from error',
    )
    assert trace.error.source.function == "main"


STACKS = """
    import logging, sys, threading, traceback, warnings
    import torch

    x = torch.ones(3, requires_grad=True)
    linear = torch.nn.Linear(3, 2)

    def wrong(): return torch.nn.functional.linear(x, torch.ones(2, 4))

    def told(function):
        try:
            function()
        except Exception:
            traceback.print_exc()
            logging.exception("logged")

    def warn():
        for level in range(-1, 5):
            warnings.warn(f"level {level}", stacklevel=level)

    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, now):
            if now: raise ValueError("in forward")
            return x * 1
        @staticmethod
        def backward(ctx, g): raise ValueError("in backward")

    class Dying:
        def __del__(self): wrong()

    class Layer(torch.nn.Module):
        def forward(self, x):
            traceback.print_stack()
            warnings.warn("in a layer", stacklevel=3)
            torch.nn.functional.softmax(x)   # torch's own warning, which names this line
            return linear(x[:2])

    def hook(gradient): raise KeyError("in a hook")

    told(wrong)
    warn()
    traceback.print_stack()
    print(traceback.format_stack(), [frame.name for frame in traceback.extract_stack()])
    thread = threading.Thread(target=wrong, name="worker"); thread.start(); thread.join()
    Dying()
    told(lambda: (x * 2).sum().backward(torch.ones(4)))
    told(lambda: linear(torch.ones(4)))
    told(lambda: Layer()(x))
    told(lambda: Failing.apply(x, False).sum().backward())
    told(lambda: Failing.apply(x, True))
    told(lambda: x.sum().backward(retain_graph=True) or torch.autograd.grad(x.sum(), torch.ones(1)))
    loss = (x * x).sum(); loss.backward(); told(loss.backward)
    x.register_hook(hook)
    told(lambda: (x * 2).sum().backward())
    linear.register_forward_hook(lambda *_: wrong())
    told(lambda: linear(x))
    sys.excepthook = lambda kind, error, trace: print("its own hook", kind, len(traceback.extract_tb(trace)))
    linear(x)
"""


def test_tracebacks_and_warnings_are_those_of_python_to_the_letter(tmp_path):
    write(tmp_path, script=STACKS)
    plain, traced = both(tmp_path, "script.py")
    assert plain.stdout.count("its own hook") == 1
    assert plain.stderr.count("Traceback") > 15
    for done in (plain, traced):
        done.stderr = done.stderr.replace("0x", "0x", 1)
        done.stderr = "\n".join(line.partition(" at 0x")[0] for line in done.stderr.splitlines())
    assert_same(plain, traced)


def test_ctrl_c_stops_the_script_and_keeps_what_was_recorded(tmp_path):
    write(tmp_path, script="""
        import os, signal, sys, time, torch
        x = torch.tensor(3.0, requires_grad=True)
        (x * x).backward()
        print("before", flush=True)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)
        print("never")
    """)  # fmt: skip
    plain, traced = both(tmp_path, "script.py")
    assert plain.code == traced.code == 130
    trace = decoded(assert_same(plain, traced))
    assert [node.grads[0].values for node in trace.passes[0].nodes if node.name == "x"] == [6.0]
    assert trace.error.type == "KeyboardInterrupt"


def test_stdout_is_ours_alone_with_a_dash_and_the_script_prints_to_stderr(tmp_path):
    write(tmp_path, script="""
        import os, subprocess, sys, torch
        print("printed")
        os.write(1, b"written\\n")
        subprocess.run([sys.executable, "-c", "print('by a child')"])
        torch.tensor(3.0, requires_grad=True).mul(2).backward()
        sys.exit("a message")
    """)  # fmt: skip
    done = run(tmp_path, "-m", "gradtrace", "record", "-o", "-", "script.py")
    assert len(decoded(done.stdout.encode()).passes) == 1
    assert sorted(done.stderr.splitlines()) == ["a message", "by a child", "printed", "written"]
    assert (done.code, done.files) == (1, {})


@pytest.mark.parametrize("code", ["0", "None", "3", "'words'", "-1", "256 + 9", "True"])
def test_the_exit_code_is_what_python_would_end_with(code, tmp_path, monkeypatch, capfd):
    from gradtrace.cli import main  # noqa: PLC0415

    write(
        tmp_path,
        script_in_scripts=f"import sys, torch; torch.ones(1, requires_grad=True).sum().backward(); sys.exit({code})",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["gradtrace", "record", "-o", "out.json", "scripts/script.py"])
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])
    monkeypatch.setitem(__import__("sys").modules, "__main__", __import__("sys").modules["__main__"])
    with pytest.raises(SystemExit) as ended:
        main()
    expected = eval(code)
    assert (ended.value.code or 0) == (expected if isinstance(expected, int) else int(expected is not None))
    assert ("words" in capfd.readouterr().err) == (code == "'words'")
