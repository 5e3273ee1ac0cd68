"""Finite differences of a scalar function of one tensor, beside the gradient that autograd computed for it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradtrace.model import Values

__all__ = ["Limits", "Result", "differences", "precision"]

STEP = 6e-6  # the cube root of float64's precision, where rounding and curvature weigh the same
MAX_VALUES = 16
_STEEP = 1e3  # times autograd's slope, above which a difference is no derivative
_RELATIVE = {torch.float64: 1e-5, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2}


class Limits(NamedTuple):
    """Limits: elements compared one by one, random directions above that, and the noise allowed."""

    elements: int
    directions: int
    dtype: torch.dtype
    noise: float


class Result(NamedTuple):
    """Result of a comparison; the fields are those of model.Comparison."""

    agrees: bool
    autograd: Values
    numeric: Values
    error: float
    tolerance: float
    step: float
    elements: int
    directions: int
    factor: float | None
    note: str
    worst: tuple[float, float] | None


class _Point(NamedTuple):
    autograd: float
    numeric: float
    step: float
    kink: str = ""  # name of a singularity at this point


Function = "Callable[[torch.Tensor], float]"


def precision(dtypes: Any) -> torch.dtype:
    """Return the least precise of some dtypes."""
    floats = [dtype for dtype in dtypes if dtype in _RELATIVE]
    return max(floats, key=lambda dtype: _RELATIVE[dtype], default=torch.float64)


def differences(f: Callable[[torch.Tensor], float], at: torch.Tensor, gradient: torch.Tensor, limits: Limits) -> Result:
    """Return the comparison of ``gradient`` with central differences of ``f`` at ``at``.

    Args:
        f: a function of a tensor like ``at``, in float64.
        at: where, in float64, of any shape.
        gradient: what autograd computed there, of the same shape, in float64.
        limits: how much to compare, and how closely.
    """
    single = at.numel() <= limits.elements
    directions = _axes(at) if single else _random(at, limits.directions)
    here = f(at)
    # Rounding of autograd, which has few digits left near zero; and of the differences, which a step divides.
    noise = limits.noise + torch.finfo(limits.dtype).tiny + 1e-9 * abs(here)
    relative = _RELATIVE[limits.dtype]
    points = [_point(f, (at, here), (d, float((gradient * d).sum())), (relative, noise)) for d in directions]
    scale = max((max(abs(p.autograd), abs(p.numeric)) for p in points), default=0.0)
    tolerance = relative * scale + noise
    errors = [0.0 if p.kink else abs(p.autograd - p.numeric) for p in points]
    wrong = any(not error <= tolerance for error in errors)
    return Result(
        not wrong,
        _values([p.autograd for p in points], at) if single else None,
        _values([p.numeric for p in points], at) if single else None,
        max(errors, default=0.0),
        tolerance,
        max((p.step for p in points), default=STEP),
        at.numel() if single else 0,
        0 if single else len(points),
        _factor(points, tolerance) if wrong else None,
        _said(points, single=single),
        _worst(points, errors) if wrong else None,
    )


def _worst(points: list[_Point], errors: list[float]) -> tuple[float, float] | None:
    """Return autograd's slope and the true one where they are furthest apart."""
    found = [(error, p) for error, p in zip(errors, points, strict=True) if math.isfinite(p.autograd + p.numeric)]
    worst = max(found, key=lambda pair: pair[0], default=None)
    return None if worst is None else (worst[1].autograd, worst[1].numeric)


_MEANING = {
    "kink": ("at a kink", "the slopes on its two sides differ, and autograd's is between them"),
    "jump": ("at a jump", "there is no slope, and autograd's is that beside it"),
    "edge": ("at the edge of where it is defined", "it is not finite on one side"),
}


def _said(points: list[_Point], *, single: bool) -> str:
    found = [point.kink for point in points if point.kink]
    if not found:
        return ""
    where, why = _MEANING[found[0]]
    if len(points) == 1:
        return f"{where}: {why}"
    return f"{where} in {len(found)} of {len(points)} {'elements' if single else 'directions'}: {why}"


def _axes(at: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.eye(at.numel(), dtype=torch.float64).reshape(-1, *at.shape)) if at.numel() else []


def _random(at: torch.Tensor, count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    found = [torch.randn(at.shape, generator=generator, dtype=torch.float64) for _ in range(count)]
    return [direction / direction.norm() for direction in found]


def _point(f: Any, where: tuple[torch.Tensor, float], along: tuple[torch.Tensor, float], close: Any) -> _Point:
    """Compare along one direction, with the step at which the difference is smallest."""
    (at, _), (direction, autograd) = where, along
    best: _Point | None = None
    for step in _steps(at, direction):
        numeric = (f(at + step * direction) - f(at - step * direction)) / (2 * step)
        error = abs(numeric - autograd)
        if best is None or not error >= abs(best.numeric - autograd):
            best = _Point(autograd, numeric, step)
        if error <= close[0] * max(abs(numeric), abs(autograd)) + close[1]:
            return best
    assert best is not None  # noqa: S101 - there is at least one step
    return best._replace(kink=_kink(f, where, along, close))


def _steps(at: torch.Tensor, direction: torch.Tensor) -> list[float]:
    """Return the steps to try: for values about 1, for large and for small ones."""
    moved = at[direction != 0].abs()
    size = moved.max().item() if moved.numel() else 1.0
    sizes = [max(1.0, size), 1e-2, size, 1.0] if size else [1.0, 1e-2, 1e-4]
    return [STEP * value for value in dict.fromkeys(sizes) if math.isfinite(value)] or [STEP]


def _kink(f: Any, where: tuple[torch.Tensor, float], along: tuple[torch.Tensor, float], close: Any) -> str:
    """Return the singularity at a point where autograd's slope differs from the differences, if any.

    At a kink the slopes on the two sides differ, however small the step, and autograd's lies between; at a jump the
    difference stays constant while the step shrinks; at an edge the function is undefined on one side.
    """
    (at, here), (direction, autograd) = where, along
    sides = [(here - f(at - step * direction), f(at + step * direction) - here, step) for step in (STEP, STEP / 32)]
    if not all(math.isfinite(left) and math.isfinite(right) for left, right, _ in sides):
        return "edge"
    (left, right, step), (nearer_left, nearer_right, nearer) = sides
    jumps = max(abs(nearer_left), abs(nearer_right))
    if (
        jumps > 0.5 * max(abs(left), abs(right))
        and jumps > 1e-6 * abs(here)
        and jumps / nearer > _STEEP * abs(autograd)
    ):
        return "jump"
    for left, right, step in sides:
        slopes = left / step, right / step
        slack = 10 * close[0] * max(map(abs, slopes)) + close[1] + 1e-9 * abs(here) / step * STEP
        if abs(slopes[1] - slopes[0]) <= slack or not min(slopes) - slack <= autograd <= max(slopes) + slack:
            return ""
    return "kink"


def _values(found: list[float], at: torch.Tensor) -> Values:
    if len(found) > MAX_VALUES or not all(map(math.isfinite, found)):
        return None
    values: Values = torch.tensor(found, dtype=torch.float64).reshape(at.shape).tolist()
    return values


def _factor(points: list[_Point], tolerance: float) -> float | None:
    """Return c if autograd's numbers are c times the true ones, else None."""
    square = sum(p.numeric**2 for p in points)
    if not math.isfinite(square) or not square:
        return None
    factor = sum(p.autograd * p.numeric for p in points) / square
    rest = max(abs(p.autograd - factor * p.numeric) for p in points)
    return factor if rest <= 2 * tolerance else None
