"""``%load_ext gradtrace``: a cell magic that runs a cell, records its backward passes and shows the last one."""

from __future__ import annotations

import ast
import inspect
import sys
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from IPython.display import display

from gradtrace.api import choose_format, record, select
from gradtrace.errors import GradtraceError
from gradtrace.files import check_writable
from gradtrace.recording.isolation.tracebacks import plain_traceback

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Coroutine
    from types import FrameType

    from gradtrace.api import Trace

__all__ = ["GradtraceMagics", "load"]

HEAD = "# %%gradtrace"  # in place of the line of the magic itself, so that lines count as in the cell
OWN = "_gradtrace_value"
CALL = "get_ipython().run_cell_magic('gradtrace', "
AWAITED = "await get_ipython().magics_manager.registry['GradtraceMagics'].awaited"


@magics_class
class GradtraceMagics(Magics):
    """The cell magic."""

    @cell_magic
    @magic_arguments()
    @argument("-p", "--pass", dest="number", default="last", help="which backward pass: from 1, or last")
    @argument("-o", "--output", metavar="FILE", help="also write the picture to this file")
    @argument("--as", dest="name", metavar="NAME", help="keep the trace in this variable")
    def gradtrace(self, line: str, cell: str) -> Any:
        """Run the cell in the notebook's namespace and show the backward pass that it made."""
        __tracebackhide__ = True  # a traceback shows the cell's own lines
        running = self.awaited(line, cell)
        try:
            running.send(None)
        except StopIteration as done:  # at once: a cell that awaits does not come here, see _awaiting
            return done.value
        running.close()
        raise UsageError("only a cell that IPython itself has read can await")

    async def awaited(self, line: str, cell: str) -> Any:
        """Do the same for a cell that may have an ``await`` at its top level."""
        __tracebackhide__ = True
        options = parse_argstring(self.gradtrace, line)
        _check(options)
        variables = self.shell.user_ns
        before = dict(variables)
        number = _number(self.shell)
        run = self._compiled(cell, number)
        with record(command=(f"cell {number}",)) as recording:
            try:
                value = await run(variables)
                made = {name: held for name, held in variables.items() if before.get(name, before) is not held}
                recording.seed({**made, OWN: value})
            except BaseException as error:
                error.__traceback__ = plain_traceback(error.__traceback__)
                raise
            finally:
                if recording.trace.passes or not sys.exc_info()[0]:
                    _show(recording.trace, options, variables)
        return value

    def _compiled(self, cell: str, number: int) -> Callable[[dict[str, Any]], Coroutine[Any, Any, Any]]:
        """Return a call that runs the cell and returns the value of its last expression."""
        shell = self.shell
        text = shell.transform_cell(cell if cell.lstrip().startswith("%%") else f"{HEAD}\n{cell}")
        name = shell.compile.cache(text, number, raw_code=cell)
        body = shell.transform_ast(shell.compile.ast_parse(text, filename=name)).body
        last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
        with shell.compile.extra_flags(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT):
            statements = shell.compile(ast.Module(body, []), name, "exec")
            expression = shell.compile(ast.Expression(last.value), name, "eval") if last else None

        async def run(variables: dict[str, Any]) -> Any:
            value = None
            for code in filter(None, (statements, expression)):
                value = eval(code, variables)  # noqa: S307 - running the cell is what this is for
                if code.co_flags & inspect.CO_COROUTINE:
                    value = await value
            return value

        return run


def _awaiting(lines: list[str]) -> list[str]:
    """Return the call of our magic that IPython made of a cell, awaited if the cell has an ``await`` of its own.

    IPython looks for one in what it runs, and a magic's cell is a string there.
    """
    text = "".join(lines)
    if not text.startswith(CALL):
        return lines
    line, cell = (ast.literal_eval(word) for word in ast.parse(text).body[0].value.args[1:])  # type: ignore[attr-defined]
    try:
        tree = compile(cell, "", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (SyntaxError, ValueError):  # which running it will tell, or a magic of its own
        return lines
    return [f"{AWAITED}({line!r}, {cell!r})\n"] if tree.co_flags & inspect.CO_COROUTINE else lines


def load(shell: Any) -> None:
    """Register the magic with a notebook's shell."""
    shell.register_magics(GradtraceMagics)
    if _awaiting not in shell.input_transformers_post:
        shell.input_transformers_post.append(_awaiting)


def _number(shell: Any) -> int:
    """Return the number of the running cell; the shell's own counter may be at the next one already."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
    while frame is not None:
        named = shell.compile.format_code_name(frame.f_code.co_filename)
        if named:
            return int("".join(filter(str.isdecimal, named[1])) or 0)
        frame = frame.f_back
    return int(shell.execution_count)


def _check(options: Namespace) -> None:
    """Refuse, before the cell runs, what could not be done after it."""
    try:
        if options.output:
            choose_format(options.output)
            check_writable(options.output)
    except GradtraceError as error:
        raise UsageError(str(error)) from None
    if options.number != "last" and not options.number.isdecimal():
        raise UsageError(f"unknown pass {options.number!r}; choose from a number from 1, last")
    if options.name and not options.name.isidentifier():
        raise UsageError(f"{options.name!r} is not a name for a variable")


def _show(trace: Trace, options: Namespace, variables: dict[str, Any]) -> None:
    """Show the chosen pass, keep the trace and write the picture, as far as asked for; or say why there is none."""
    if options.name:
        variables[options.name] = trace
    try:
        select(trace, options.number)
        if options.output:
            trace.render(options.output, number=options.number)
        display(trace.bundle(number=options.number), raw=True)
    except GradtraceError as error:
        print(f"gradtrace: {error}", file=sys.stderr)
