"""Programs, run as ``python script.py`` would: ``__main__``, arguments, path, exit code, traceback."""

from __future__ import annotations

import builtins
import importlib.util
import io
import os
import pkgutil
import sys
import types
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gradtrace.errors import ScriptError
from gradtrace.recording.user_code.entry import execute

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType

__all__ = ["Program", "Run", "find_module", "read_script"]


class Program(NamedTuple):
    """Program to run: its code and file, its ``sys.argv[0]`` and ``sys.path[0]``.

    A module (``-m``), a folder or an archive also has a spec, and the statements by which python starts it.
    """

    code: CodeType
    filename: str
    shown: str
    path: str
    spec: Any = None
    start: str = ""

    def run(self, arguments: Sequence[str]) -> Run:
        """Run the program in a fresh ``__main__``, which stays in ``sys.modules`` as it does under python."""
        main = types.ModuleType("__main__")
        if sys.version_info < (3, 14):
            main.__annotations__ = {}
        main.__file__ = self.filename
        main.__spec__ = self.spec
        main.__package__ = self.spec.parent if self.spec else None
        main.__loader__ = self.spec.loader if self.spec else SourceFileLoader("__main__", self.filename)
        main.__dict__["__builtins__"] = builtins
        main.__dict__["__cached__"] = None
        sys.modules["__main__"] = main
        sys.argv = [self.shown, *arguments]
        sys.path[0] = self.path
        if self.spec is None:
            return Run(main.__dict__, execute(self.code, main.__dict__))
        # As python itself starts it: these frames show in tracebacks.
        start = compile(self.start, __file__, "exec")
        return Run(main.__dict__, execute(start, {"name": self.spec.name}))


class Run(NamedTuple):
    """How a run ended: the variables of its main module, the exception that ended it, an exit while reporting that."""

    namespace: dict[str, Any]
    error: BaseException | None
    exit: SystemExit | None = None

    @property
    def exit_code(self) -> int:
        """The exit code that python would end with."""
        error = self.error if self.exit is None else self.exit
        if error is None:
            return 0
        if isinstance(error, SystemExit):
            code = error.code
            return code if isinstance(code, int) else int(code is not None)
        return 130 if isinstance(error, KeyboardInterrupt) else 1


def read_script(name: str) -> Program:
    """Return the script, or the ``__main__.py`` of a folder or an archive, as a program; raises ScriptError."""
    path = Path(name)
    if not path.exists():
        raise ScriptError(f"no such file: {name!r}", "name a Python script, or a trace that `gradtrace record` wrote")
    importer: Any = pkgutil.get_importer(name)
    if importer is not None:
        return _read_application(name, importer)
    filename = os.path.join(os.getcwd(), name)  # as python does: the dot of ./script.py stays
    try:
        with io.open_code(filename) as file:
            source = file.read()
        code = compile(source, filename, "exec", dont_inherit=True)
    except OSError as error:
        raise ScriptError(f"can't read {name!r}: {error.strerror}", "check its permissions") from None
    except SyntaxError as error:
        raise ScriptError(_describe(error, name), "only Python scripts and traces can be shown") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ScriptError(f"{name!r} is not a Python script: {error}", "name a script or a trace") from None
    return Program(code, filename, name, os.path.dirname(os.path.realpath(filename)))


def _read_application(name: str, importer: Any) -> Program:
    """Return the ``__main__.py`` of a folder or an archive, from which its imports are resolved first."""
    path = os.path.join(os.getcwd(), name)
    spec = importer.find_spec("__main__")
    if spec is None:
        kind = "folder" if os.path.isdir(name) else "archive"
        raise ScriptError(f"the {kind} {name!r} has no __main__.py", "name a script in it, or use -m for a package")
    return _from_spec(spec, name, path, "import runpy; runpy._run_module_as_main(name, False)")


def _from_spec(spec: Any, shown: str, path: str, start: str) -> Program:
    try:
        code = spec.loader.get_code(spec.name)
    except SyntaxError as error:
        raise ScriptError(_describe(error, str(spec.origin)), "only Python modules can be run") from None
    except (OSError, ImportError, ValueError) as error:
        raise ScriptError(f"can't read {str(spec.origin)!r}: {error}", "check the file") from None
    return Program(code, str(spec.origin), shown, path, spec, start)


def _describe(error: SyntaxError, name: str) -> str:
    place = f"{name}, line {error.lineno}" if error.lineno else name
    text = f": {error.text.strip()!r}" if error.text else ""
    return f"not valid Python: {error.msg} ({place}{text})"


def find_module(name: str) -> Program:
    """Return the module (``-m``) as a program; a package runs its ``__main__``; raises ScriptError."""
    sys.path.insert(0, os.getcwd())
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except (ImportError, ValueError) as error:
        raise ScriptError(f"no module named {name!r}: {error}", "run it from the folder that holds it") from None
    finally:
        del sys.path[0]
    loader: Any = spec.loader if spec else None
    if spec is None or not hasattr(loader, "get_code"):
        raise ScriptError(f"no module named {name!r} that can be run", "run it from the folder that holds it")
    start = "import runpy; runpy._run_module_as_main(name)"
    return _from_spec(spec, str(spec.origin), os.getcwd(), start)
