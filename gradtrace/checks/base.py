"""The registry of checks, what is declared with each, and the thresholds that they measure against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from gradtrace.errors import GradtraceError, UnknownNameError
from gradtrace.model import BackwardPass, Finding, Severity, Trace
from gradtrace.registry import Registry

__all__ = [
    "CHECKS",
    "SEVERITIES",
    "Along",
    "Check",
    "Thresholds",
    "Traits",
    "check",
    "default_thresholds",
    "failures",
    "traits",
]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


class Thresholds:
    """Limits that checks measure against; each is declared with its check, and set by its name.

    Args:
        given: limits that are not the default, as ``Thresholds(vanishing=1e-9)``. Raises UnknownNameError.
    """

    __slots__ = ("_limits",)

    def __init__(self, **given: float) -> None:
        self._limits = dict(default_thresholds())
        for name, value in given.items():
            if name not in self._limits:
                raise UnknownNameError.of("threshold", name, self._limits)
            self._limits[name] = value

    def __getattr__(self, name: str) -> float:
        """Return the limit of this name."""
        if name not in Thresholds.__slots__ and name in self._limits:
            return self._limits[name]
        raise AttributeError(f"there is no threshold {name!r}")

    def of(self, name: str) -> dict[str, float]:
        """Return the limits that the check called ``name`` uses."""
        return {limit: self._limits[limit] for limit in traits(name).uses}


# What is registered: a function of a pass (or of the run) and the limits, or the class of an Along.
Check = Callable[..., Any]


class Along(Protocol):
    """Check of a whole run: created with the thresholds, called with each pass, and again at the end."""

    def see(self, graph: BackwardPass) -> Iterable[Finding]:
        """Return the findings known from this pass; the pass is not kept."""

    def found(self, trace: Trace) -> Iterable[Finding]:
        """Return the findings of the run as a whole; ``trace`` has its facts and its error, and no passes."""


class Traits(NamedTuple):
    """Declarations of a check, for the driver.

    ``whole``: it is given the run's trace, with its facts and its error and without its passes, not each pass.
    ``along``: it is an Along. ``after``: the checks whose findings explain its own in the same pass, so that
    those are left out; ``carried``: those that explain its findings without a line in all later passes, too.
    ``stories``: the hints of findings that go on at other lines in later passes, so that the first is told alone.
    ``raises``: it tells of an error that PyTorch raised. ``thresholds``: the limits that it declares, with their
    defaults; ``uses``: those that it reads, others' among them. ``merged``: it is given the trace of several
    processes, whole, and compares them; ``compare``: what does so in its place, where there are several.
    """

    whole: bool = False
    along: bool = False
    after: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()
    stories: tuple[str, ...] = ()
    raises: bool = False
    uses: tuple[str, ...] = ()
    thresholds: Mapping[str, float] = MappingProxyType({})
    merged: bool = False
    compare: Callable[..., Any] | None = None


CHECKS: Registry[Check] = Registry("check", "gradtrace.checks", "gradtrace.checks")
_TRAITS: dict[str, Traits] = {}
_PLAIN = Traits()


def check(name: str, **known: Any) -> Callable[[Check], Check]:
    """Return a decorator that registers a function, or a class, as the check ``name``; ``known`` are its Traits."""
    declared = Traits(**known)
    uses = tuple(dict.fromkeys((*declared.thresholds, *declared.uses)))

    def decorate(function: Check) -> Check:
        taken = [limit for other in _TRAITS if other != name for limit in _TRAITS[other].thresholds]
        for limit in declared.thresholds:
            if limit in taken or not limit.isidentifier():
                raise GradtraceError(f"threshold {limit!r} of check {name!r} is taken, or is not a name for a variable")
        CHECKS.register(name)(function)
        if CHECKS.holds(name, function):
            _TRAITS[name] = declared._replace(uses=uses)
        return function

    return decorate


def default_thresholds() -> dict[str, float]:
    """Return all thresholds by name, with their defaults, in the order in which checks declare them."""
    declared = [known.thresholds for name, known in _TRAITS.items() if name in CHECKS] if list(CHECKS) else []
    return {limit: value for thresholds in declared for limit, value in thresholds.items()}


def traits(name: str) -> Traits:
    """Return the declarations of the check called ``name``."""
    return _TRAITS.get(name, _PLAIN)


def failures() -> list[str]:
    """Return the names of the checks that explain errors raised by PyTorch."""
    return [name for name in CHECKS if traits(name).raises]
