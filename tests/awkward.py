"""Awkward scripts, each in a few lines: how they end, what they do to the interpreter, how they are called.

A text is a script that needs no torch. A Kind has more: files, arguments, an environment, a signal to be sent.
"""

from __future__ import annotations

import io
import textwrap
import zipfile
from dataclasses import dataclass, field

from tests.awkward_torch import TORCH


@dataclass
class Kind:
    """A script, how it is called, and what else lies beside it."""

    text: str
    name: str = "script.py"
    arguments: tuple[str, ...] = ()
    stdin: str = ""
    env: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    called: tuple[str, ...] = ()  # instead of the name
    data: bytes = b""  # instead of the text

    def contents(self) -> dict[str, bytes]:
        """Return the files to write, the script among them."""
        return {self.name: self.data or textwrap.dedent(self.text).encode(), **self.files}


def archive(text: str) -> bytes:
    """Return a zip application."""
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as packed:
            packed.writestr("__main__.py", textwrap.dedent(text))
            packed.writestr("beside.py", "value = 7\n")
        return file.getvalue()


WHERE = """
    import sys, beside
    print(__file__, __name__, __package__, __spec__ and __spec__.name, sys.path[0], sys.argv, beside.value)
    def f():
        raise KeyError(beside.value)
    f()
"""
BESIDE = {"beside.py": b"value = 7\n"}
CLASS = "class Odd(Exception):\n    def {0}(self, *_): raise ValueError('in {0}')\nraise Odd(1)\n"

ENDS = {
    "ends well": "print('well')",
    "exit 0": "import sys; sys.exit(0)",
    "exit 3": "import sys; sys.exit(3)",
    "exit with a message": "import sys; sys.exit('no such thing')",
    "exit with None": "raise SystemExit",
    "exit with True": "raise SystemExit(True)",
    "exit 256": "import sys; sys.exit(256)",
    "exit -1": "import sys; sys.exit(-1)",
    "exit with a list": "import sys; sys.exit([1, 2])",
    "exit with what can't be printed": "import sys\nclass A:\n    def __str__(self): raise ValueError\nsys.exit(A())",
    "exit deep inside": "def f(n):\n    f(n - 1) if n else exit(4)\nf(50)",
    "exit at once": "import os\nprint('flushed', flush=True)\nprint('lost')\nos._exit(5)",
    "an exception": "def f():\n    return {}['x']\nf()",
    "an exception from another": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('x') from e",
    "an exception during another": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    {}['x']",
    "an exception in a loop of causes": "a = ValueError(1)\nb = KeyError(2)\na.__cause__ = b\nb.__cause__ = a\nraise a",
    "a group of exceptions": "raise ExceptionGroup('several', [ValueError(1), KeyError('x')])",
    "an exception with notes": "e = ValueError('x')\ne.add_note('a note')\nraise e",
    "an exception whose str raises": CLASS.format("__str__"),
    "an exception whose repr raises": CLASS.format("__repr__"),
    "an exception that can't be compared": CLASS.format("__eq__"),
    "an exception that can't be hashed": CLASS.format("__hash__"),
    "an exception that can't be pickled": CLASS.format("__reduce__"),
    "an exception whose truth raises": CLASS.format("__bool__"),
    "an exception of a class without a module": "raise type('Odd', (Exception,), {'__module__': None})('x')",
    "an interrupt": "print('before', flush=True)\nraise KeyboardInterrupt",
    "no memory": "raise MemoryError",
    "a recursion": "def f():\n    f()\nf()",
    "a syntax error inside": "exec('a b')",
    "an import that fails": "import no_such_module_at_all",
    "an assertion": "x = [1,\n     2]\nassert sum(x) == 4, f'{x}'",
    "a stopped iteration": "next(iter(()))",
    "a generator that is left": "def g():\n    try:\n        yield 1\n    finally:\n        print('left')\nx = g()\nnext(x)",
    "a warning": "import warnings\nwarnings.warn('careful')\nwarnings.warn('old', DeprecationWarning)",
    "a warning as an error": "import warnings\nwarnings.simplefilter('error')\nwarnings.warn('careful')",
    "an exception at exit": "import atexit\natexit.register(lambda: 1 / 0)\nprint('end')",
    "words at exit": "import atexit\natexit.register(print, 'bye')\nraise ValueError('x')",
    "an exit at exit": "import atexit, sys\natexit.register(sys.exit, 9)\nprint('end')",
    "an object that dies at exit": "class A:\n    def __del__(self): print('dies')\na = A()\nprint('end')",
    "an object that raises as it dies": "class A:\n    def __del__(self): 1 / 0\ndef f(): A()\nf()\nprint('end')",
    "abort": "import os\nprint('x', flush=True)\nos.abort()",
}
HOOKS = {
    "a hook for exceptions": "import sys\nsys.excepthook = lambda t, v, tb: print('hook', t.__name__, v, tb.tb_lineno)\n{}['x']",
    "a hook that raises": "import sys\ndef hook(*a):\n    raise ValueError('in the hook')\nsys.excepthook = hook\n{}['x']",
    "a hook that exits": "import sys\nsys.excepthook = lambda *a: sys.exit(7)\n{}['x']",
    "a hook that exits with words": "import sys\nsys.excepthook = lambda *a: sys.exit('words')\n{}['x']",
    "a hook that is no function": "import sys\nsys.excepthook = 3\n{}['x']",
    "no hook": "import sys\ndel sys.excepthook\n{}['x']",
    "python's own hook": "import sys\nprint(sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__)",
    "the hook's traceback": "import sys, traceback\nsys.excepthook = lambda t, v, tb: traceback.print_exception(v)\n{}['x']",
    "the last exception": "import atexit, sys\natexit.register(lambda: print(sys.last_type, sys.last_value))\n{}['x']",
    "a hook for what can't be raised": "import sys\nsys.unraisablehook = lambda u: print(u.exc_type)\nclass A:\n"
    "    def __del__(self): 1 / 0\nA()",
    "a hook for threads": "import threading\nthreading.excepthook = lambda a: print(a.exc_type)\n"
    "t = threading.Thread(target=lambda: 1 / 0)\nt.start()\nt.join()",
    "a tracer": "import sys\nseen = []\ndef trace(frame, event, arg):\n    seen.append((event, frame.f_lineno))\n    return trace\n"
    "def f(x):\n    y = x + 1\n    return y\nsys.settrace(trace)\nf(1)\nsys.settrace(None)\nprint(seen)",
    "a profiler": "import sys\nseen = []\nsys.setprofile(lambda f, e, a: seen.append((e, f.f_code.co_name)))\nlen([])\n"
    "sys.setprofile(None)\nprint(seen)",
    "a stack": "import inspect, sys, traceback\ndef f():\n    traceback.print_stack()\n"
    "    print([i.function for i in inspect.stack()])\nf()",
    "a deep recursion": "import sys\nprint(sys.getrecursionlimit())\nsys.setrecursionlimit(3000)\ndef f(n):\n"
    "    return n and f(n - 1)\nprint(f(2900))",
    "an audit hook": "import sys\nseen = []\nsys.addaudithook(lambda e, a: seen.append(e) if e == 'open' else None)\n"
    "open(__file__).close()\nprint(seen)",
    "a meta path finder": "import sys\nclass Finder:\n    def find_spec(self, name, path, target=None):\n"
    "        print('asked for', name) if name == 'nowhere' else None\nsys.meta_path.insert(0, Finder())\n"
    "try:\n    import nowhere\nexcept ImportError as e:\n    print(e)",
    "builtins that are replaced": "import builtins\nold = builtins.print\n"
    "builtins.print = lambda *a, **k: old('>', *a, **k)\nprint('x')\n{}['x']",
    "an open that is replaced": "import builtins\ndef no(*a, **k): raise OSError('no files')\nbuiltins.open = no\nprint('x')",
}
MAIN = {
    "its names": "print(sorted(globals()), __name__, __doc__, __spec__, __package__)",
    "its file": Kind("import sys; print(__file__, sys.argv, sys.path[0])", called=("./script.py", "a")),
    "its file through a folder": Kind(
        "import sys; print(__file__, sys.argv, sys.path[0])", called=("sub/../script.py",), files={"sub/x": b""}
    ),
    "its file, gone": "import os\nos.remove(__file__)\ndef f():\n    1 / 0\nf()",
    "its file, changed": "open(__file__, 'a').write('\\n1 / 0\\n')\nprint(open(__file__).read()[-6:])",
    "its module, imported": "import __main__\nx = 3\nprint(__main__.x, __main__.__dict__ is globals())",
    "its module, deleted": "import sys\ndel sys.modules['__main__']\nprint('x')",
    "its module, deleted, and an exception": "import sys\ndel sys.modules['__main__']\ndef f():\n    1 / 0\nf()",
    "its module, replaced": "import sys, types\nsys.modules['__main__'] = types.ModuleType('other')\nprint('x')",
    "its namespace, cleared": "globals().clear()",
    "its source": "import inspect\ndef f():\n    return 1  # one\nprint(inspect.getsource(f))",
    "its annotations": "x: int = 3\nprint(__annotations__)",
    "its pickles": "import pickle\nclass A:\n    pass\nprint(type(pickle.loads(pickle.dumps(A()))) is A)",
    "its doctests": "def f():\n    '''\n    >>> f()\n    1\n    '''\n    return 1\nimport doctest\nprint(doctest.testmod())",
    "its tests": "import unittest\nclass T(unittest.TestCase):\n    def test_x(self):\n        self.assertEqual(1, 1)\n"
    "unittest.main(verbosity=0, argv=['x', '-q'], exit=False)\nprint('done')",
    "a module beside it": Kind("import beside; print(beside.value, beside.__file__)", files=BESIDE),
    "a module beside it that fails": Kind("import beside", files={"beside.py": b"def f():\n    1 / 0\nf()\n"}),
    "itself, run again": "import runpy, sys\nif len(sys.argv) < 2:\n    sys.argv.append('x')\n"
    "    runpy.run_path(__file__, run_name='again')\nprint(__name__)",
    "a folder": Kind(WHERE, "app/__main__.py", files={"app/beside.py": b"value = 7\n"}, called=("app", "a")),
    "a folder with a dot": Kind(
        WHERE, "app/__main__.py", files={"app/beside.py": b"value = 7\n"}, called=("./app/", "a")
    ),
    "an archive": Kind("", "app.zip", data=archive(WHERE), called=("app.zip", "a", "-o")),
    "an archive that is a program": Kind(
        "", "app", data=b"#!/usr/bin/env python\n" + archive(WHERE), called=("./app",)
    ),
    "a module": Kind(WHERE, "pkg/__main__.py", files=BESIDE | {"pkg/__init__.py": b""}, called=("-m", "pkg", "a")),
}
STREAMS = {
    "a closed stdout": "import sys\nprint('x', flush=True)\nsys.stdout.close()",
    "a closed stdout, and words": "import sys\nsys.stdout.close()\nprint('x')",
    "no stdout": "import sys\nsys.stdout = None\nprint('x')",
    "no stderr": "import sys\nsys.stderr = None\n1 / 0",
    "a closed stderr": "import sys\nsys.stderr.close()\n1 / 0",
    "the number of stdout closed": "import os\nprint('x', flush=True)\nos.close(1)",
    "the number of stderr closed": "import os, sys\nos.close(2)\nprint('x')",
    "stdout in memory": "import io, sys\nsys.stdout = io.StringIO()\nprint('x')\nsys.__stdout__.write('y')",
    "stdout in a file": "import sys\nsys.stdout = open('out.txt', 'w')\nprint('x')",
    "stderr in a file": "import sys\nsys.stderr = open('err.txt', 'w')\n1 / 0",
    "the number of stdout elsewhere": "import os\nf = os.open('out.txt', os.O_CREAT | os.O_WRONLY)\nos.dup2(f, 1)\nprint('x')",
    "the number of stderr elsewhere": "import os\nf = os.open('e.txt', os.O_CREAT | os.O_WRONLY)\nos.dup2(f, 2)\n1 / 0",
    "a line that does not end": "import sys\nsys.stdout.write('no end')",
    "much": "for i in range(20_000):\n    print(i, 'x' * 20)",
    "bytes": "import sys\nsys.stdout.buffer.write(bytes(range(256)))",
    "what is asked": Kind("name = input('who? ')\nprint('hello', name)", stdin="you\nand me\n"),
    "what is asked and not there": "input('who? ')",
    "all that is given": Kind("import sys; print(sys.stdin.read()[::-1])", stdin="abc\ndef"),
    "numbers of files": "import os\nprint(os.open('x', os.O_CREAT), os.dup(1))",
    "logs": "import logging\nlogging.basicConfig(level='INFO')\nlogging.info('x')\nlogging.getLogger('a').error('y', exc_info=True)",
}  # fmt: skip
NAMES = {
    f"a file called {name}": Kind(WHERE, name, files=BESIDE, called=(f"./{name}",) if name[0] == "-" else ())
    for name in ("with space.py", "a&nbsp;b.py", "it's.py", "<b>.py", "ünï.py", "a.b.py", "noend", "-dash.py", "$HOME.py",
                 "%s.py", "{x}.py", "x.json.py", "日本.py")
}  # fmt: skip
TEXTS = {
    "a text in latin-1": Kind("", data=b"# -*- coding: latin-1 -*-\nx = '\xe9'\nprint(ascii(x))\n1 / 0 # \xe9\n"),
    "a text with a mark": Kind("", data=b"\xef\xbb\xbfprint('x')\n1 / 0\n"),
    "a text with returns": Kind("", data=b"def f():\r\n    print('x')\r\n    1 / 0\r\nf()\r\n"),
    "a text without an end": Kind("", data=b"def f():\n\t1 / 0\nf()"),
    "a text of other names": Kind("π = 3\nprint(π)\nclass Ω(Exception): ...\nraise Ω('é')"),
    "an empty text": Kind("", data=b"\n"),
    "ascii alone": Kind("print('é')", env={"PYTHONIOENCODING": "ascii"}),
    "arguments that look like ours": Kind("import sys; print(sys.argv[1:])", arguments=("--full", "--depth", "3", "--", "-h")),
    "arguments that are odd": Kind("import sys; print(sys.argv[1:])", arguments=("", " ", "a b", "é", "*", "-")),
    "arguments that argparse refuses": Kind(
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr', type=float)\np.parse_args()", arguments=("--lr", "x")
    ),
    "help of argparse": Kind("import argparse\nargparse.ArgumentParser().parse_args()", arguments=("--help",)),
    "its environment": "import os\nprint(sorted(k for k in os.environ if 'GRADTRACE' in k))",
}  # fmt: skip
PROCESSES = {
    "a fork": "import os\nif os.fork():\n    os.wait()\n    print('parent')\nelse:\n    print('child')",
    "a fork that exits": "import os, sys\npid = os.fork()\nif pid:\n    print(os.waitpid(pid, 0)[1] >> 8)\nelse:\n    sys.exit(6)",
    "a fork that raises": "import os\npid = os.fork()\nif pid:\n    print(os.waitpid(pid, 0)[1] >> 8)\nelse:\n    {}['x']",
    "a fork that goes on alone": "import os, time\nif os.fork() == 0:\n    print('child')\nelse:\n    os.wait()\n    os._exit(2)",
    "a pool by fork": "import multiprocessing as m\ndef f(x):\n    return x * 2\nif __name__ == '__main__':\n"
    "    with m.get_context('fork').Pool(2) as p:\n        print(p.map(f, range(4)))",
    "a process by spawn": "import multiprocessing as m\ndef f(x):\n    print('child', x, __name__, flush=True)\n"
    "if __name__ == '__main__':\n    p = m.get_context('spawn').Process(target=f, args=(1,))\n    p.start()\n    p.join()\n"
    "    print(p.exitcode)",
    "a program": "import subprocess, sys\nprint(subprocess.run([sys.executable, '-c', 'print(3)'], capture_output=True).stdout)",
    "itself as a program": "import subprocess, sys\nprint(sys.argv[1:], flush=True)\nif len(sys.argv) < 2:\n"
    "    subprocess.run([sys.executable, __file__, 'again'])",
    "another program instead": "import os, sys\nprint('x', flush=True)\nos.execv(sys.executable, [sys.executable, '-c', 'print(3)'])",
    "a signal to itself": "import os, signal\nprint('x', flush=True)\nos.kill(os.getpid(), signal.SIGTERM)\nprint('never')",
    "an interrupt to itself": "import os, signal, time\nprint('x', flush=True)\nos.kill(os.getpid(), signal.SIGINT)\n"
    "time.sleep(5)",
    "a handler": "import os, signal\nsignal.signal(signal.SIGUSR1, lambda *a: print('caught'))\nos.kill(os.getpid(), signal.SIGUSR1)",
    "a handler that raises": "import os, signal\ndef handler(*a):\n    raise TimeoutError('late')\n"
    "signal.signal(signal.SIGALRM, handler)\nsignal.setitimer(signal.ITIMER_REAL, 0.02)\nwhile True:\n    pass",
    "a handler that exits": "import signal, sys\nsignal.signal(signal.SIGALRM, lambda *a: sys.exit(8))\n"
    "signal.setitimer(signal.ITIMER_REAL, 0.02)\nwhile True:\n    pass",
    "an alarm without a handler": "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.02)\nwhile True:\n    pass",
    "the dispositions": "import signal\nprint([signal.getsignal(s) for s in (signal.SIGINT, signal.SIGPIPE, signal.SIGTERM)])",
    "a thread that raises": "import threading\nt = threading.Thread(target=lambda: 1 / 0, name='t')\nt.start()\nt.join()\nprint('end')",
    "a thread that outlives it": "import threading, time\ndef f():\n    time.sleep(0.05)\n    print('later', flush=True)\n"
    "threading.Thread(target=f).start()\nprint('end', flush=True)",
    "a thread that outlives an exception": "import threading, time\ndef f():\n    time.sleep(0.05)\n    print('later', flush=True)\n"
    "threading.Thread(target=f).start()\n1 / 0",
    "a daemon": "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\nprint('end')",
    "a thread that exits": "import sys, threading\nt = threading.Thread(target=sys.exit, args=(4,))\nt.start()\nt.join()\nprint('end')",
    "a pool of threads": "from concurrent.futures import ThreadPoolExecutor as P\nwith P(2) as p:\n    print(list(p.map(abs, (-1, 2))))",
    "a loop of events": "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    print('x')\n    1 / 0\nasyncio.run(f())",
    "another folder": "import os\nos.mkdir('sub')\nos.chdir('sub')\nopen('made.txt', 'w').write('x')\n1 / 0",
    "a limit": "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\nprint(len([open('x', 'w') for _ in range(20)]))",
}  # fmt: skip
PLAIN = {**ENDS, **HOOKS, **MAIN, **STREAMS, **NAMES, **TEXTS, **PROCESSES}
KINDS = {name: kind if isinstance(kind, Kind) else Kind(kind) for name, kind in PLAIN.items()}
KINDS |= {name: Kind(f"import torch\n{textwrap.dedent(text)}") for name, text in TORCH.items()}
# What was once at fault, and of the rest each fourth: the suite has no time for all.
FAULTS = {
    "an exception whose str raises", "an exception that can't be compared", "an exception whose truth raises",
    "an exception that can't be pickled", "a hook that raises", "a hook that exits", "python's own hook",
    "its file", "its module, deleted, and an exception", "builtins that are replaced", "the number of stderr closed",
    "a file called a&nbsp;b.py", "a folder", "an archive", "a class that prints", "a fake pass after a real one",
    "a repr that raises", "objects that raise at all", "a module that hides its parameters", "a wrapper around F",
    "gradients of each sample",
}  # fmt: skip
SUITE = [name for number, name in enumerate(KINDS) if name in FAULTS or (number % 4 == 0 and name not in TORCH)]
