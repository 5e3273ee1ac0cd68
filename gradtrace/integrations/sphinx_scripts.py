"""Scripts that a directive or role names, and their runs, kept beside Sphinx's own memory of the documents."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes

from gradtrace import tracefile
from gradtrace.documents.script import Ran, Script, attribute_code, draw, imports, read
from gradtrace.documents.script import run as run_script
from gradtrace.errors import ScriptError

if TYPE_CHECKING:
    from sphinx.environment import BuildEnvironment
    from sphinx.util.docutils import SphinxDirective

__all__ = [
    "depend",
    "folder",
    "kept",
    "of_directive",
    "of_path",
    "path_in_project",
    "place",
    "relative",
    "run",
    "shown_code",
    "table",
]

CONTEXT = "gradtrace_context"  # what earlier directives of the document left to the next


def of_directive(directive: SphinxDirective) -> Script:
    """Return the script that a directive names or holds; raises ScriptError."""
    options, content = directive.options, "\n".join(directive.content)
    number, timeout = options.get("pass", "last"), float(options.get("timeout", directive.config.gradtrace_timeout))
    name = directive.arguments[0].strip() if directive.arguments else ""
    if bool(name) == bool(content.strip()):
        raise ScriptError("gradtrace needs a script or code" + (", not both" if name else ""), "see its documentation")
    if name:
        return of_path(directive.env, name, number, timeout)
    here = str(Path(directive.env.doc2path(directive.env.docname)).parent)
    title = f"{options.get('filename-prefix') or Path(directive.env.docname).name}.py"
    return Script(title, _before(directive) + content + "\n", here, number=number, timeout=timeout)


def of_path(env: BuildEnvironment, name: str, number: str = "last", timeout: float | None = None) -> Script:
    """Return the script at a path, or ``module:attribute``; raises ScriptError where there is none."""
    seconds = float(env.config.gradtrace_timeout) if timeout is None else timeout
    path = _find(env, name)
    if path:
        return read(path, number, seconds)
    module, colon, attribute = name.partition(":")
    if colon and all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        return Script(f"{attribute}.py", attribute_code(name), env.gradtrace_confdir, number=number, timeout=seconds)
    raise ScriptError(
        f"no such file: {name!r}", "paths start at the document, at the source folder, or in gradtrace_path"
    )


def _find(env: BuildEnvironment, name: str) -> Path | None:
    """Look for a file beside the document, in the source folder, and in the folders of ``gradtrace_path``."""
    beside = Path(env.relfn2path(name)[1])
    bare = name.lstrip("/")
    places = [Path(env.gradtrace_confdir, folder, bare) for folder in env.config.gradtrace_path]
    return next((file for file in (beside, Path(env.srcdir, bare), *places) if file.is_file()), None)


def path_in_project(env: BuildEnvironment, script: Script) -> str:
    """Return a script's path from the first of ``gradtrace_path`` and the source folder that it lies in."""
    bases = [*(Path(env.gradtrace_confdir, folder).resolve() for folder in env.config.gradtrace_path), Path(env.srcdir)]
    file = Path(script.file).resolve()
    return next((file.relative_to(base).as_posix() for base in bases if file.is_relative_to(base)), script.name)


def _before(directive: SphinxDirective) -> str:
    """Return the code that runs before this directive's own: that of those before it with ``:context:``."""
    if "context" not in directive.options:
        return ""
    earlier = directive.env.current_document.setdefault(CONTEXT, [])
    if directive.options["context"] == "reset":
        earlier.clear()
    code = "".join(earlier)
    earlier.append("\n".join(directive.content) + "\n")
    return code


def place(directive: SphinxDirective, line: int = 0) -> str:
    """Return the file and line of a line of the directive's code that ran; its own for none, and for earlier code."""
    earlier = directive.env.current_document.get(CONTEXT, []) if "context" in directive.options else []
    own = line - sum(code.count("\n") for code in earlier[:-1])
    source, start = directive.get_source_info()
    if not 0 < own <= len(directive.content) or directive.arguments:
        return f"{source}:{start}"
    if type(directive.state).__module__.startswith("myst_parser"):  # counts from the directive's first line
        return f"{source}:{start + directive.content_offset + own}"
    return f"{directive.content.source(own - 1)}:{directive.content.offset(own - 1) + 1}"


def depend(env: BuildEnvironment, script: Script) -> None:
    """Have the document read again when the script, or what it imports, has changed."""
    for file in (*filter(None, [script.file]), *imports(script)):
        env.note_dependency(str(file))


def folder(env: BuildEnvironment) -> Path:
    """Return where traces and pictures are kept from build to build."""
    return Path(env.doctreedir, "gradtrace")


def run(env: BuildEnvironment, script: Script) -> Ran:
    """Return what running the script recorded, from memory where nothing has changed."""
    return run_script(script, folder(env))


def kept(env: BuildEnvironment, ran: Ran) -> str:
    """Return the file that keeps the trace, for when the document is written."""
    assert ran.trace is not None  # noqa: S101 - only a trace is drawn
    data = tracefile.dumps(ran.trace)
    # Under its key only a run that ended well is found again: another one is to fail again.
    key = ran.key if ran.key and not ran.problem else hashlib.sha256(data).hexdigest()[:32]
    place = folder(env) / f"{key}.json.gz"
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        ran.trace.save(place)
    return str(place)


def table(env: BuildEnvironment, ran: Ran, script: Script) -> nodes.literal_block:
    """Return the pass as a table of text."""
    text = draw(ran, "text", script, folder(env)).decode().rstrip()
    return nodes.literal_block(text, text, language="none", classes=["gradtrace-table"])


def relative(file: str, start: str | os.PathLike[str]) -> str:
    """Return the path from one place to another, as Sphinx writes it."""
    return os.path.relpath(file, start).replace(os.sep, "/")


def shown_code(directive: SphinxDirective, script: Script) -> str:
    """Return the code to show: the script, the directive's own lines, or the attribute's definition."""
    if directive.content:
        return "\n".join(directive.content)
    return script.code if script.file else _definition(directive.arguments[0].strip()) or script.code


def _definition(reference: str) -> str:
    """Return the text of ``module:function``, found without running the module."""
    module, _, attribute = reference.partition(":")
    try:
        spec = importlib.util.find_spec(module)
        text = Path(str(spec.origin)).read_text(encoding="utf-8") if spec else ""
    except (ImportError, OSError, ValueError):
        return ""
    body: list[ast.stmt] = ast.parse(text).body
    definition: ast.AST | None = None
    for name in attribute.split("."):
        definition = next((node for node in body if getattr(node, "name", None) == name), None)
        body = getattr(definition, "body", [])
    return inspect.cleandoc(ast.get_source_segment(text, definition, padded=True) or "") if definition else ""
