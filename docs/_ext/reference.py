"""Pages that the program writes about itself: its commands, its formats, and the structs of the trace file."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import msgspec
import typer
from sphinx.util.docutils import SphinxDirective

from gradtrace import model
from gradtrace.cli import app_with
from gradtrace.formats.base import FORMATS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docutils import nodes
    from sphinx.application import Sphinx

# In the order in which a reader meets them.
STRUCTS = ("Trace", "BackwardPass", "Node", "Edge", "TensorStats", "Source")


class _Written(SphinxDirective):
    """A directive whose content is Markdown that the program made."""

    def run(self) -> list[nodes.Node]:
        found: list[nodes.Node] = self.parse_text_to_nodes("\n".join(self.lines()), allow_section_headings=True)
        return found

    def lines(self) -> Iterator[str]:
        raise NotImplementedError


class Commands(_Written):
    """Every command with its arguments and options, as ``--help`` tells them."""

    def lines(self) -> Iterator[str]:
        group: Any = typer.main.get_command(app_with())
        for name, command in group.commands.items():
            yield from (f"## gradtrace {name}", "", _escaped(command.get_short_help_str(1000)), "", "```text")
            yield from (_usage(name, command), "```", "")
            yield from _options(command)


def _usage(name: str, command: Any) -> str:
    arguments = [parameter.metavar or parameter.name.upper() for parameter in _of(command, "argument")]
    rest = ["[ARGUMENTS OF THE SCRIPT...]"] if command.context_settings.get("allow_extra_args") else []
    return " ".join([f"gradtrace {name}", "[OPTIONS]", *arguments, *rest])


def _options(command: Any) -> Iterator[str]:
    for parameter in (*_of(command, "argument"), *_of(command, "option")):
        if parameter.param_type_name == "argument":
            names = f"`{parameter.metavar or parameter.name.upper()}`"
        else:
            value = "" if parameter.is_flag else f" {parameter.metavar or parameter.opts[-1].strip('-').upper()}"
            names = ", ".join(f"`{name}{value}`" for name in (*parameter.opts, *parameter.secondary_opts))
        shown = (
            parameter.default not in (None, False, "") and not parameter.required and not callable(parameter.default)
        )
        default = f" Default: `{parameter.default}`." if shown else ""
        yield from (names, f": {_escaped(parameter.help or '')}{default}", "")


def _of(command: Any, kind: str) -> list[Any]:
    return [parameter for parameter in command.params if parameter.param_type_name == kind and parameter.name != "help"]


class Formats(_Written):
    """The output formats, as ``gradtrace formats`` lists them."""

    def lines(self) -> Iterator[str]:
        yield from ("| format | file endings | |", "| --- | --- | --- |")
        for name in FORMATS:
            plugin = FORMATS[name]
            yield f"| `{name}` | {' '.join(f'`{ending}`' for ending in plugin.suffixes)} | {_escaped(plugin.help)} |"


class History(_Written):
    """The version of the trace file, with its history."""

    def lines(self) -> Iterator[str]:
        yield from ("```python", *_history(), "```")


class Structs(_Written):
    """The structs of the trace file with their fields, types and defaults, from ``gradtrace/model.py``."""

    def lines(self) -> Iterator[str]:
        kinds = {name: kind for name, kind in vars(model).items() if _is_stored(kind)}
        for name in sorted(kinds, key=lambda name: (STRUCTS.index(name) if name in STRUCTS else 99, name)):
            yield from (f"## {name}", "", _escaped(inspect.getdoc(kinds[name]) or ""), "")
            yield from ("| field | type | default |", "| --- | --- | --- |")
            types = inspect.get_annotations(kinds[name])
            for field in msgspec.structs.fields(kinds[name]):
                yield f"| `{field.name}` | `{_type(types[field.name])}` | {_default(field)} |"
            yield ""


def _is_stored(kind: Any) -> bool:
    return (
        isinstance(kind, type)
        and issubclass(kind, msgspec.Struct)
        and kind.__module__ == model.__name__
        and kind
        not in {
            model.Finding,
            model.Report,
            msgspec.Struct,
        }
    )


def _history() -> list[str]:
    """Return the version of the format with its history, as the comments in the source tell it."""
    source = inspect.getsource(model)
    found = re.search(r"((?:^#.*\n)+)^FORMAT_VERSION = .*$", source, re.MULTILINE)
    return found[0].splitlines() if found else [f"FORMAT_VERSION = {model.FORMAT_VERSION}"]


def _type(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return f"`{value!r}`"


def _escaped(text: str) -> str:
    text = text.replace("``", "`").replace("|", "\\|").replace("<", "&lt;")
    return re.sub(r"&lt;(!--.*?-->)", r"`<\1`", text)  # of which prose would make <!–


def setup(sphinx: Sphinx) -> dict[str, bool]:
    """Register the directives; what Sphinx calls."""
    sphinx.add_directive("gradtrace-commands", Commands)
    sphinx.add_directive("gradtrace-formats", Formats)
    sphinx.add_directive("gradtrace-history", History)
    sphinx.add_directive("gradtrace-structs", Structs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
