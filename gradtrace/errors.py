"""The exception tree. Each error says what, where and what to do instead, and carries an exit code.

GradtraceError (2)
├── UnknownNameError (2)      also a KeyError: a format, check, engine or pass that does not exist
├── ScriptError (2)           the script can't be run: missing, a directory, not Python
├── OutputError (2)           the output can't be written where it was asked for
├── TraceFileError (2)        not a trace file, truncated, or from a newer version
├── EngineError (2)           Graphviz is missing, failed, or took too long
├── ThemeError (2)            a theme file that can't be read, or what it says can't be
├── PluginError (2)           a third party's format failed
├── DocumentError (2)         what a document says of a graph is wrong, or its script fails
├── TensorError (2)           a tensor that has no graph to draw
│   └── FreedGraphError (2)   its graph was run and freed: there is nothing left to compute gradients with
├── FindingError (1)          a step that is watched has a finding, and on_finding is "raise"
└── NothingRecordedError (3)  the script ran, but there was no backward pass to draw
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DocumentError",
    "EngineError",
    "FindingError",
    "FreedGraphError",
    "GradtraceError",
    "NothingRecordedError",
    "OutputError",
    "PluginError",
    "ScriptError",
    "TensorError",
    "ThemeError",
    "TraceFileError",
    "UnknownNameError",
]


class GradtraceError(Exception):
    """Base of all errors that gradtrace raises for its user.

    Args:
        message: lower-case, with the offending value by ``repr``.
        hint: what to do instead, one line, or empty.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Return the message and, after a semicolon, the hint."""
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UnknownNameError(GradtraceError, KeyError):
    """A name that is not registered; lists those that are."""

    @classmethod
    def of(cls, kind: str, name: object, choices: Iterable[object]) -> UnknownNameError:
        """Return the error for ``name``, naming the valid ``choices`` in their order."""
        return cls(f"unknown {kind} {name!r}", f"choose from {', '.join(map(str, choices))}")


class ScriptError(GradtraceError):
    """The script can't be run."""


class OutputError(GradtraceError):
    """The output can't be written where it was asked for."""


class TraceFileError(GradtraceError):
    """The file is not a trace that this version can read."""


class EngineError(GradtraceError):
    """Graphviz is missing, failed, or took too long; ``slow`` tells the last from the others."""

    slow = False


class ThemeError(GradtraceError):
    """The theme can't be read, or what it says can't be."""


class PluginError(GradtraceError):
    """A third party's format failed."""


class DocumentError(GradtraceError):
    """A document names a wrong option or file, or its script fails."""


class TensorError(GradtraceError):
    """The tensor has no graph to draw."""


class FreedGraphError(TensorError):
    """The graph of the tensor was run before and freed; raised in place of PyTorch's RuntimeError."""


class FindingError(GradtraceError):
    """A step of a training has a finding: raised by ``watch(on_finding="raise")``."""

    exit_code = 1


class NothingRecordedError(GradtraceError):
    """The script ran, but there was no backward pass to draw."""

    exit_code = 3
