"""What all checks share: their registry, the limits they measure against, and the driver that runs them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import asdict, replace

from gradtrace.model import BackwardPass, Finding, Severity, Trace
from gradtrace.registry import Registry

__all__ = [
    "CHECKS",
    "SEVERITIES",
    "Along",
    "Check",
    "Checker",
    "Thresholds",
    "Traits",
    "check",
    "failures",
    "run",
    "traits",
]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


class Thresholds(Struct, frozen=True):
    """The limits that checks measure against; each is set by its name.

    Args:
        vanishing: ratio of gradient norms, the far end of a path to its start, below which it has vanished.
        exploding: the same ratio, above which it has exploded.
        layers: ops that must share in it, so that one deliberate scaling is no finding.
        underflow: share of a half-precision gradient that became zero or subnormal.
        hook_changed: relative change of a gradient between where it was sent and where it arrived.
    """

    vanishing: float = 1e-6
    exploding: float = 1e6
    layers: float = 4
    underflow: float = 0.1
    hook_changed: float = 1e-3


# What is registered: a function of a pass (or of the run) and the limits, or the class of an Along.
Check = Callable[..., Any]


class Along(Protocol):
    """A check that follows the whole run: it is made with the thresholds, shown each pass, and asked at the end."""

    def see(self, graph: BackwardPass) -> Iterable[Finding]:
        """Return what is found in this pass already; the pass is not kept."""

    def found(self, trace: Trace) -> Iterable[Finding]:
        """Return what the run as a whole tells; ``trace`` has its facts and its error, and no passes."""


class Traits(NamedTuple):
    """What the driver knows of a check besides its function.

    ``whole``: it is given the run's trace, with its facts and its error and without its passes, not each pass.
    ``along``: it is an Along. ``after``: the checks whose findings explain its own in the same pass, so that
    those are left out; ``carried``: those that explain its findings without a line in all later passes, too.
    ``raises``: it tells of an error that PyTorch raised. ``uses``: the thresholds that it reads.
    """

    whole: bool = False
    along: bool = False
    after: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()
    raises: bool = False
    uses: tuple[str, ...] = ()


CHECKS: Registry[Check] = Registry("check", "gradtrace.checks", "gradtrace.checks")
_TRAITS: dict[str, Traits] = {}
_PLAIN = Traits()
_NUMBER = re.compile(r"[-+]?\d[\d.,]*(e[-+]?\d+)?")


def check(name: str, **known: Any) -> Callable[[Check], Check]:
    """Return a decorator that registers a function, or a class, as the check ``name``; ``known`` are its Traits."""
    _TRAITS[name] = Traits(**known)
    return CHECKS.register(name)


def traits(name: str) -> Traits:
    """Return what the driver knows of the check called ``name``."""
    return _TRAITS.get(name, _PLAIN)


def failures() -> list[str]:
    """Return the names of the checks that tell of errors that PyTorch raised."""
    return [name for name in CHECKS if traits(name).raises]


def run(trace: Trace, thresholds: Thresholds | None = None, names: Iterable[str] | None = None) -> tuple[Finding, ...]:
    """Return the findings in all passes of ``trace``: see Checker."""
    checker = Checker(thresholds, names)
    for graph in trace.passes:
        checker.see(graph)
    return checker.found(trace)


class Checker:
    """Checks passes as they come and keeps none: only what was found, once, with its passes counted.

    Args:
        thresholds: the limits; the defaults if not given.
        names: the checks to run; all if not given. Raises UnknownNameError if one is no check.
    """

    def __init__(self, thresholds: Thresholds | None = None, names: Iterable[str] | None = None) -> None:
        self._limits = thresholds or Thresholds()
        self._chosen = [CHECKS[name].name for name in (CHECKS if names is None else names)]
        self._partial = [name for name in self._chosen if not (traits(name).whole or traits(name).along)]
        self._along: list[Along] = [CHECKS[n].function(self._limits) for n in self._chosen if traits(n).along]
        self._groups: dict[tuple[Any, ...], _Group] = {}
        self._errors: dict[str, int] = {}  # the last pass that ended in an error with these words

    def see(self, graph: BackwardPass) -> None:
        """Check this pass."""
        found = [replace(finding, pass_index=graph.index) for finding in self._in_pass(graph)]
        found += [self._with_limits(finding) for check in self._along for finding in check.see(graph)]
        for key in dict.fromkeys(map(_key, found)):
            self._add(self._groups, [finding for finding in found if _key(finding) == key])
        if graph.error is not None:
            self._errors[graph.error.message] = max(graph.index, self._errors.get(graph.error.message, 0))

    def found(self, trace: Trace) -> tuple[Finding, ...]:
        """Return what was found: the worst first, then in order of pass.

        An error that the script survived is no more than a note.
        """
        trace, groups = replace(trace, passes=()), dict(self._groups)
        last = [f for name in self._chosen if traits(name).whole for f in CHECKS[name].function(trace, self._limits)]
        last += [finding for check in self._along for finding in check.found(trace)]
        for key in dict.fromkeys(map(_key, last)):
            same = [self._with_limits(finding) for finding in last if _key(finding) == key]
            self._add(groups, sorted(same, key=lambda finding: -finding.count))
        fatal = max((self._errors.get(words, 0) for words in _last_words(trace)), default=0)
        told = [_survived(group) if group.last != fatal else group.told() for group in groups.values()]
        order = {severity: rank for rank, severity in enumerate(SEVERITIES)}
        return tuple(sorted(told, key=lambda finding: (order[finding.severity], finding.pass_index)))

    def _in_pass(self, graph: BackwardPass) -> Iterator[Finding]:
        """Yield the findings in one pass, without those that another one explains.

        A cause that was not asked for explains its consequences all the same: so its check is run, too.
        """
        causes = [cause for name in self._partial for cause in traits(name).after if cause in CHECKS]
        names = dict.fromkeys([*self._partial, *causes])
        found = [self._with_limits(f) for name in names for f in CHECKS[name].function(graph, self._limits)]
        there = {finding.check for finding in found}
        errors = {group.first.check for group in self._groups.values() if group.first.severity == "error"}
        for finding in found:
            known = traits(finding.check)
            told = finding.source is None and not errors.isdisjoint(known.carried)
            if finding.check in self._partial and there.isdisjoint(known.after) and not told:
                yield finding

    def _with_limits(self, finding: Finding) -> Finding:
        used = {name: value for name, value in asdict(self._limits).items() if name in traits(finding.check).uses}
        return replace(finding, thresholds=used) if used else finding

    @staticmethod
    def _add(groups: dict[tuple[Any, ...], _Group], same: list[Finding]) -> None:
        """Add what is the same finding in one pass."""
        key, index = _key(same[0]), same[0].pass_index
        nodes = tuple(dict.fromkeys(node for finding in same for node in finding.nodes))
        finding, known = replace(same[0], nodes=nodes), groups.get(key)
        if known is None:
            groups[key] = _Group(finding, finding.count, index)
            return
        first = finding if index < known.first.pass_index else known.first
        groups[key] = _Group(first, known.passes + finding.count, max(index, known.last))


class _Group(NamedTuple):
    """The same finding in several passes: the first, how many there are, and the last pass that has it."""

    first: Finding
    passes: int
    last: int

    def told(self) -> Finding:
        return replace(self.first, count=self.passes)


def _survived(group: _Group) -> Finding:
    """Return the finding, as a note if it tells of an error after which the script went on."""
    finding = group.told()
    if not traits(finding.check).raises or not group.last:
        return finding
    return replace(finding, severity="info", message=f"{finding.message}. The script went on after this error")


def _last_words(trace: Trace) -> list[str]:
    """Return what the exception that ended the script said, and those behind it."""
    behind = [fact.data["messages"] for fact in trace.facts if fact.kind == "raised"]
    chain = [str(message) for messages in behind if isinstance(messages, list) for message in messages]
    return [trace.error.message.strip(), *chain] if trace.error is not None else chain


def _key(finding: Finding) -> tuple[Any, ...]:
    """What makes two findings the same: the check and the place; where there is no place, the words but for numbers."""
    source = finding.source
    if source is None:
        return finding.check, _NUMBER.sub("#", finding.message)
    return finding.check, source.filename, source.line, source.column, source.end_column
