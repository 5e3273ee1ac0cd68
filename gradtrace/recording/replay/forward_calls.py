"""Forward calls of a pass as plain data, from the tape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradtrace.model import ForwardCall, Operand
from gradtrace.recording.replay.calls import Key, Ref, TapedCall, TapedGraph
from gradtrace.recording.stats.tensor_stats import to_stats

if TYPE_CHECKING:
    from gradtrace.model import Attribute

__all__ = ["forward_calls"]


def forward_calls(scene: TapedGraph, ids: dict[int, str], numbers: list[int]) -> tuple[ForwardCall, ...]:
    """Return a pass's calls as plain data.

    Args:
        scene: the tape of the pass.
        ids: the id of each node by its position.
        numbers: the sequence number of each node, by position.
    """
    by_number = {number: ids[position] for position, number in enumerate(numbers) if position not in scene.leaves}
    by_serial = {serial: ids[position] for position, serial in scene.leaves.items()}
    told = _Told(scene, by_number, by_serial)
    return tuple(told.call(call) for call in scene.calls)


class _Told:
    """Converts taped calls to plain data."""

    def __init__(self, scene: TapedGraph, by_number: dict[int, str], by_serial: dict[int, str]) -> None:
        self._scene = scene
        self._by_number = by_number
        self._by_serial = by_serial

    def call(self, call: TapedCall) -> ForwardCall:
        """Return one call."""
        nodes = [self._by_number[n] for n in range(call.start, call.end) if n in self._by_number]
        return ForwardCall(
            call.name,
            tuple(self._operand(value) for value in call.args),
            {name: self._operand(value) for name, value in call.kwargs.items()},
            tuple(self._tensor(key) for key in call.results),
            tuple(nodes),
        )

    def _operand(self, value: Any) -> Operand:
        if type(value) is Ref:
            return self._tensor(value.key)
        if type(value) in {list, tuple} and any(type(item) is Ref for item in value):
            return Operand(items=tuple(self._operand(item) for item in value))
        return Operand(value=_plain(value))

    def _tensor(self, key: Key) -> Operand:
        if key.output >= 0:
            # A key of its own (negative) for a node that is not in this pass's graph.
            found = self._by_number.get(key.number, "")
            return Operand(node=found, output=key.output, key=0 if found else -1 - key.number)
        if key.number in self._by_serial:
            return Operand(node=self._by_serial[key.number])
        held = self._scene.held.get(key.number)
        stats = None if held is None else to_stats(held)
        return Operand(tensor=stats, name=self._scene.names.get(key.number, ""), key=key.number)


def _plain(value: Any) -> Attribute:
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value)
