"""What all checks share: their registry, the limits they measure against, and the driver that runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import asdict, replace

from gradtrace.model import BackwardPass, Finding, Severity, Trace
from gradtrace.registry import Registry

__all__ = ["CHECKS", "SEVERITIES", "Check", "Thresholds", "Traits", "check", "run", "traits"]

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


Check = Callable[[Any, Thresholds], Iterable[Finding]]


class Traits(NamedTuple):
    """What the driver knows of a check besides its function.

    ``whole``: it is given the trace, not each pass. ``after``: the checks whose findings explain its own in
    the same pass, so that those are left out. ``uses``: the thresholds that it reads.
    """

    whole: bool = False
    after: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()


CHECKS: Registry[Check] = Registry("check", "gradtrace.checks", "gradtrace.checks")
_TRAITS: dict[str, Traits] = {}
_PLAIN = Traits()


def check(
    name: str, *, whole: bool = False, after: tuple[str, ...] = (), uses: tuple[str, ...] = ()
) -> Callable[[Check], Check]:
    """Return a decorator that registers a function as the check ``name``; see Traits for the rest."""
    _TRAITS[name] = Traits(whole, after, uses)
    return CHECKS.register(name)


def traits(name: str) -> Traits:
    """Return what the driver knows of the check called ``name``."""
    return _TRAITS.get(name, _PLAIN)


def run(trace: Trace, thresholds: Thresholds | None = None, names: Iterable[str] | None = None) -> tuple[Finding, ...]:
    """Return the findings in all passes of ``trace``: the worst first, then in order of pass.

    The same finding in several passes is one, with their count; what an earlier cause in the same pass
    explains is left out. Raises UnknownNameError if one of ``names`` is no check.
    """
    limits = thresholds or Thresholds()
    chosen = [CHECKS[name].name for name in (CHECKS if names is None else names)]
    found = [finding for graph in trace.passes for finding in _in_pass(graph, limits, chosen)]
    found += _found(trace, limits, [name for name in chosen if traits(name).whole])
    order = {severity: rank for rank, severity in enumerate(SEVERITIES)}
    return tuple(sorted(_merged(found), key=lambda finding: (order[finding.severity], finding.pass_index)))


def _in_pass(graph: BackwardPass, limits: Thresholds, chosen: list[str]) -> list[Finding]:
    """Return the findings in one pass, without those that another one explains.

    A cause that was not asked for explains its consequences all the same: so its check is run, too.
    """
    partial = [name for name in chosen if not traits(name).whole]
    causes = [cause for name in partial for cause in traits(name).after if cause in CHECKS]
    found = _found(graph, limits, list(dict.fromkeys([*partial, *causes])))
    there = {finding.check for finding in found}
    kept = [f for f in found if f.check in partial and there.isdisjoint(traits(f.check).after)]
    return [replace(finding, pass_index=graph.index) for finding in kept]


def _found(subject: BackwardPass | Trace, limits: Thresholds, names: list[str]) -> list[Finding]:
    return [_with_limits(finding, limits) for name in names for finding in CHECKS[name].function(subject, limits)]


def _with_limits(finding: Finding, limits: Thresholds) -> Finding:
    used = {name: value for name, value in asdict(limits).items() if name in traits(finding.check).uses}
    return replace(finding, thresholds=used) if used else finding


def _merged(findings: list[Finding]) -> Iterator[Finding]:
    """Yield each finding once: its first pass, the number of passes, and all nodes of the first pass."""
    groups: dict[tuple[Any, ...], list[Finding]] = {}
    for finding in findings:
        groups.setdefault(_key(finding), []).append(finding)
    for same in groups.values():
        first = same[0]
        there = [finding.nodes for finding in same if finding.pass_index == first.pass_index]
        nodes = tuple(dict.fromkeys(node for nodes in there for node in nodes))
        yield replace(first, nodes=nodes, count=max(first.count, len({finding.pass_index for finding in same})))


def _key(finding: Finding) -> tuple[Any, ...]:
    """What makes two findings the same: the check and the place; where there is no place, the words."""
    source = finding.source
    if source is None:
        return finding.check, finding.message
    return finding.check, source.filename, source.line, source.column, source.end_column
