"""Driver of the checks: it runs them on each pass and merges their findings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from msgspec.structs import replace

from gradtrace.checks.base import CHECKS, SEVERITIES, Along, Thresholds, traits
from gradtrace.model import BackwardPass, Finding, Trace
from gradtrace.processes.merging import of_rank, ranks_of
from gradtrace.registry import report_fault, summary_of

__all__ = ["Checker", "run"]

_NUMBER = re.compile(r"[-+]?\d[\d.,]*(e[-+]?\d+)?")


def run(trace: Trace, thresholds: Thresholds | None = None, names: Iterable[str] | None = None) -> tuple[Finding, ...]:
    """Return the findings in all passes of ``trace``: see Checker. Of several processes, each is checked by itself.

    A finding of several processes is one, of the first pass that has it; then the processes are compared.
    """
    ranks = ranks_of(trace)
    if len(ranks) == 1:
        return _of_one(Checker(thresholds, names), trace)
    names = tuple(CHECKS if names is None else names)
    comparing = Checker(thresholds, names)
    groups: dict[tuple[Any, ...], list[tuple[int, Finding]]] = {}
    for rank in ranks:
        for finding in _of_one(Checker(thresholds, names), of_rank(trace, rank)):
            if traits(finding.check).compare is None:
                groups.setdefault(_key(finding), []).append((rank, finding))
    return _sorted([*(_of_ranks(group) for group in groups.values()), *comparing.compared(trace)])


def _of_one(checker: Checker, trace: Trace) -> tuple[Finding, ...]:
    for graph in trace.passes:
        checker.see(graph)
    return checker.found(trace)


def _of_ranks(group: list[tuple[int, Finding]]) -> Finding:
    """Return one finding for equal ones of several ranks: the worst, of the first pass that has it."""
    rank, first = min(group, key=lambda found: (SEVERITIES.index(found[1].severity), found[1].pass_index, found[0]))
    ranks = (rank, *sorted({other for other, _ in group} - {rank}))
    return replace(first, ranks=ranks, count=max(finding.count for _, finding in group))


def _sorted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    order = {severity: rank for rank, severity in enumerate(SEVERITIES)}
    return tuple(sorted(findings, key=lambda finding: (order[finding.severity], finding.pass_index)))


class Checker:
    """Checks passes one by one and keeps none: only the findings, each once, with its passes counted.

    Args:
        thresholds: the limits; the defaults if not given.
        names: the checks to run; all if not given. Raises UnknownNameError if one is no check.
    """

    def __init__(self, thresholds: Thresholds | None = None, names: Iterable[str] | None = None) -> None:
        self._limits = thresholds or Thresholds()
        asked = [CHECKS[name].name for name in (CHECKS if names is None else names)]
        self._chosen = [name for name in asked if not traits(name).merged]
        self._merged = {name: CHECKS[name].function for name in asked if traits(name).merged}
        self._merged |= {name: compare for name in asked if (compare := traits(name).compare) is not None}
        self._partial = [name for name in self._chosen if not (traits(name).whole or traits(name).along)]
        self._left_out: set[str] = set()
        self._along: dict[str, Along] = {}
        for name in self._chosen:
            if traits(name).along:
                self._asked(name, partial(self._make, name))
        self._groups: dict[tuple[Any, ...], _Group] = {}
        self._errors: dict[str, int] = {}  # message of an error: the last pass that ended in it

    def worst_until_now(self) -> list[Finding]:
        """Return what the passes that were shown have, each finding once, in the order in which it was found."""
        return [group.first for group in self._groups.values()]

    def _make(self, name: str) -> tuple[Finding, ...]:
        self._along[name] = CHECKS[name].function(self._limits)
        return ()

    def see(self, graph: BackwardPass) -> None:
        """Check this pass."""
        findings = [replace(finding, pass_index=graph.index) for finding in self._in_pass(graph)]
        findings += [
            self._with_limits(f) for name, along in self._along.items() for f in self._asked(name, along.see, graph)
        ]
        for key in dict.fromkeys(map(_key, findings)):
            self._add(self._groups, [finding for finding in findings if _key(finding) == key])
        if graph.error is not None:
            self._errors[graph.error.message] = max(graph.index, self._errors.get(graph.error.message, 0))

    def found(self, trace: Trace) -> tuple[Finding, ...]:
        """Return the findings: the worst first, then in order of pass.

        An error that the script survived is no more than a note.
        """
        trace, groups = replace(trace, passes=()), dict(self._groups)
        whole = [name for name in self._chosen if traits(name).whole]
        last = [f for name in whole for f in self._asked(name, CHECKS[name].function, trace, self._limits)]
        last += [f for name, along in self._along.items() for f in self._asked(name, along.found, trace)]
        for key in dict.fromkeys(map(_key, last)):
            same = [self._with_limits(finding) for finding in last if _key(finding) == key]
            self._add(groups, sorted(same, key=lambda finding: -finding.count))
        fatal = max((self._errors.get(words, 0) for words in _last_words(trace)), default=0)
        told = [_survived(group) if group.last != fatal else group.told() for group in groups.values()]
        return _sorted(told)

    def compared(self, trace: Trace) -> list[Finding]:
        """Return the findings of a comparison of several processes."""
        found = [f for name, ask in self._merged.items() for f in self._asked(name, ask, trace, self._limits)]
        return [self._with_limits(finding) for finding in found]

    def _in_pass(self, graph: BackwardPass) -> Iterator[Finding]:
        """Yield the findings in one pass, without those that another one explains.

        The check of a cause runs even if it was not selected, because it explains its consequences.
        """
        causes = [cause for name in self._partial for cause in traits(name).after if cause in CHECKS]
        names = dict.fromkeys([*self._partial, *causes])
        findings = [f for name in names for f in self._asked(name, CHECKS[name].function, graph, self._limits)]
        findings = [self._with_limits(finding) for finding in findings]
        there = {finding.check for finding in findings}
        errors = {group.first.check for group in self._groups.values() if group.first.severity == "error"}
        for finding in findings:
            known = traits(finding.check)
            told = finding.source is None and not errors.isdisjoint(known.carried)
            told |= self._goes_on(finding, graph)
            if finding.check in self._partial and there.isdisjoint(known.after) and not told:
                yield finding

    def _goes_on(self, finding: Finding, graph: BackwardPass) -> bool:
        """Tell whether an earlier pass has a finding with the same hint at another place."""
        if finding.hint not in traits(finding.check).stories or _key(finding) in self._groups:
            return False
        before = [group.first for group in self._groups.values() if group.first.pass_index < graph.index]
        return any((known.check, known.hint) == (finding.check, finding.hint) for known in before)

    def _with_limits(self, finding: Finding) -> Finding:
        used = self._limits.of(finding.check)
        return replace(finding, thresholds=used) if used else finding

    def _asked(self, name: str, ask: Callable[..., Any], *given: Any) -> list[Finding]:
        """Return the findings of a check; a third party's check that fails is reported, and not run again."""
        plugin = CHECKS[name]
        if plugin.is_own:
            return list(ask(*given))
        if name in self._left_out:
            return []
        try:
            return _findings(ask(*given))
        except Exception as error:  # noqa: BLE001 - a third party's fault stops nobody
            self._left_out.add(name)
            report_fault(f"check {name!r} of {plugin.home} is left out: {summary_of(error)}")
            return []

    @staticmethod
    def _add(groups: dict[tuple[Any, ...], _Group], same: list[Finding]) -> None:
        """Add one occurrence of the finding."""
        key, index = _key(same[0]), same[0].pass_index
        nodes = tuple(dict.fromkeys(node for finding in same for node in finding.nodes))
        finding, known = replace(same[0], nodes=nodes), groups.get(key)
        if known is None:
            groups[key] = _Group(finding, finding.count, index)
            return
        first = finding if index < known.first.pass_index else known.first
        groups[key] = _Group(first, known.passes + finding.count, max(index, known.last))


class _Group(NamedTuple):
    """Finding of several passes: the first occurrence, the number of passes, and the last pass."""

    first: Finding
    passes: int
    last: int

    def told(self) -> Finding:
        return replace(self.first, count=self.passes)


def _survived(group: _Group) -> Finding:
    """Return the finding, of severity info if the script went on after its error."""
    finding = group.told()
    if not traits(finding.check).raises or not group.last:
        return finding
    return replace(finding, severity="info", message=f"{finding.message}. The script went on after this error")


def _last_words(trace: Trace) -> list[str]:
    """Return the messages of the exception that ended the script, and of its causes."""
    behind = [fact.data["messages"] for fact in trace.facts if fact.kind == "raised"]
    chain = [str(message) for messages in behind if isinstance(messages, list) for message in messages]
    return [trace.error.message.strip(), *chain] if trace.error is not None else chain


def _key(finding: Finding) -> tuple[Any, ...]:
    """Return the key of equal findings: the check and the place; without a place, the message without its numbers."""
    source = finding.source
    if source is None:
        return finding.check, _NUMBER.sub("#", finding.message)
    return finding.check, source.filename, source.line, source.column, source.end_column


def _findings(told: Any) -> list[Finding]:
    """Return the result of a check, if it consists of findings."""
    findings: list[Any] = list(told) if isinstance(told, Iterable) else [told]
    for each in findings:
        if not isinstance(each, Finding):
            raise TypeError(f"it gave {type(each).__name__} and no Finding")
    return findings
