"""Numbers as a person would write them: of one element, of a tensor, of a whole pass."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from gradtrace.wording.quoting import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradtrace.model import BackwardPass, TensorStats, Values

__all__ = ["GradientKind", "Scale", "kind", "number", "shape", "stats"]

GradientKind = Literal["none", "nan", "inf", "unknown", "zero", "finite"]

WHOLE, EXPONENT = 1e3, 1e6 - 0.5  # numbers from here on without decimals; from here on with an exponent
LONGEST = 40  # characters of a list of values; a longer one is shortened
SMALLEST_SPAN = 1.0  # decades of a scale, so that nearly equal gradients look alike


def number(x: float | None) -> str:
    """Return ``x`` with four significant digits: ``8``, ``-0.2469``, ``1.2e-07``.

    >>> number(8.0), number(-0.0), number(12345), number(1.2e-7), number(float("nan"))
    ('8', '0', '12345', '1.2e-07', 'nan')
    """
    if x is None:
        return "none"
    if isinstance(x, bool):
        return str(x)
    if x == 0:
        return "0"
    return f"{x:.0f}" if WHOLE <= abs(x) < EXPONENT else f"{x:.4g}"


def shape(sizes: Sequence[int]) -> str:
    """Return sizes as text: ``64×256``; one alone in parentheses, for it could be taken for a value.

    >>> shape((64, 256)), shape([3]), shape(())
    ('64×256', '(3)', '()')
    """
    return "×".join(map(str, sizes)) if len(sizes) > 1 else f"({''.join(map(str, sizes))})"


def kind(s: TensorStats | None) -> GradientKind:
    """Return the state of a tensor: none, not finite, without numbers, all zeros, or finite."""
    if s is None:
        return "none"
    if s.nan or s.inf:
        return "nan" if s.nan else "inf"
    if s.zeros == 1 or (s.norm == 0 and not s.min and not s.max):
        return "zero"
    return "finite" if s.norm is not None or s.values is not None else "unknown"


def stats(s: TensorStats | None) -> str:
    """Return a tensor in brief: its value or values, else its shape and norm, and its count of NaN and infinity.

    A tensor sharded across processes is followed by its placement.

    >>> from gradtrace.model import TensorStats
    >>> stats(None), stats(TensorStats((64, 256), norm=0.0312)), stats(TensorStats((3,), values=[1, -0.5, 0]))
    ('none', '64×256 ‖0.0312‖', '[1, -0.5, 0]')
    >>> stats(TensorStats((64, 256), norm=0.0312, note="Shard(0): local 32×256"))
    '64×256 ‖0.0312‖ Shard(0): local 32×256'
    """
    if s is None:
        return "none"
    part = f" {s.note}" if ": local " in s.note and kind(s) != "unknown" else ""
    return f"{_content(s)}{part}"


def _content(s: TensorStats) -> str:
    what = kind(s)
    if what in {"nan", "inf"}:
        return _broken(s)
    if what == "unknown":
        return f"{shape(s.shape) if s.shape else ''} {one_line(s.note or s.dtype)}".strip()
    if 0 in s.shape:
        return f"empty {shape(s.shape)}"
    if s.values is not None:
        return _small(s)
    return _large(s)


class Scale(Struct, frozen=True):
    """The magnitudes of a pass's gradients on a logarithmic scale, from ``low`` to ``high``."""

    low: float
    high: float

    @classmethod
    def of(cls, graph: BackwardPass) -> Scale:
        """Return the scale that spans all finite gradients of a pass, nodes' and edges'."""
        norms = [s.norm for s in _gradients(graph) if s.norm and math.isfinite(s.norm) and kind(s) == "finite"]
        return cls(min(norms), max(norms)) if norms else cls(1.0, 1.0)

    def share(self, s: TensorStats | None) -> float:
        """Return the position of a gradient on the scale: 0 for the smallest (or none, or zero), 1 for the largest."""
        if s is None or not s.norm or kind(s) != "finite":
            return 0.0
        low, high = math.log10(self.low), math.log10(self.high)
        widening = max(0.0, SMALLEST_SPAN - (high - low)) / 2
        low, high = low - widening, high + widening
        return min(1.0, max(0.0, (math.log10(s.norm) - low) / (high - low)))


def _gradients(graph: BackwardPass) -> Iterator[TensorStats]:
    yield from (s for node in graph.nodes for s in node.grads if s)
    yield from (edge.grad for edge in graph.edges if edge.grad)


def _broken(s: TensorStats) -> str:
    if not s.shape:
        return "nan" if s.nan else "inf"
    if s.values is not None and not (s.nan and s.inf):
        text = _nested(s.values, "nan" if s.nan else "inf")
        if len(text) <= LONGEST:
            return text
    counts = [f"{count} {word}" for count, word in ((s.nan, "nan"), (s.inf, "inf")) if count]
    return f"{', '.join(counts)} in {shape(s.shape)}"


def _small(s: TensorStats) -> str:
    text = _nested(s.values)
    if len(text) <= LONGEST:
        return text
    if kind(s) == "zero" or len(s.shape) > 1 or not isinstance(s.values, list):
        return _large(s)
    return f"[{_nested(s.values[0])}, {_nested(s.values[1])}, …, {_nested(s.values[-1])}] ‖{number(s.norm)}‖"


def _large(s: TensorStats) -> str:
    return f"{shape(s.shape)} {'all 0' if kind(s) == 'zero' else f'‖{number(s.norm)}‖'}"


def _nested(values: Values, missing: str = "none") -> str:
    if not isinstance(values, list):
        return missing if values is None else number(values)
    return "[" + ", ".join(_nested(value, missing) for value in values) + "]"
