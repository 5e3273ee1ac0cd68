"""Registry of the formats, and the style that they draw in (``drawing/style.py``)."""

from __future__ import annotations

from collections.abc import Callable

from gradtrace.drawing.style import SORTS, Style
from gradtrace.errors import GradtraceError, PluginError
from gradtrace.model import Report
from gradtrace.registry import Plugin, Registry, summary_of

__all__ = ["FORMATS", "SORTS", "Style", "drawn", "register"]

Format = Callable[[Report, Style], str | bytes]

FORMATS: Registry[Format] = Registry("format", "gradtrace.formats", "gradtrace.formats")
register = FORMATS.register


def drawn(plugin: Plugin[Format], report: Report, style: Style) -> str | bytes:
    """Return what a format draws; raises PluginError where it is a third party's and fails."""
    if plugin.is_own:
        return plugin.function(report, style)
    try:
        result = plugin.function(report, style)
    except GradtraceError:
        raise
    except Exception as error:
        raise _failed(plugin, summary_of(error)) from error
    if not isinstance(result, (str, bytes)):
        raise _failed(plugin, f"it returned {type(result).__name__}, not text or bytes")
    return result


def _failed(plugin: Plugin[Format], reason: str) -> PluginError:
    return PluginError(f"format {plugin.name!r} of {plugin.home} failed: {reason}", "report it to its authors")
