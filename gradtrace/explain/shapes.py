"""Operations that move, join, sum or contract the axes of tensors, on expressions per element."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import sympy as sp

from gradtrace.explain.indices import AtLeast, Equal, axes, axis, product, total, unsolved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = [
    "SHAPED",
    "Value",
    "broadcast",
    "dimension",
    "joined",
    "places",
    "reduced",
    "substituted",
    "summed",
    "unsqueezed",
]


class Value(NamedTuple):
    """Value of a tensor: an expression in the indices of its axes, and its shape."""

    expression: Any
    shape: tuple[int, ...]


Shape = tuple[int, ...]
_FREE = 80  # from here on axes that no tensor has, to sum over


def places(shape: Shape) -> list[Any]:
    """Return the index of each axis, 0 for one of one element."""
    return [axis(len(shape) - at, size) if size != 1 else sp.Integer(0) for at, size in enumerate(shape)]


def substituted(value: Value, indices: Sequence[Any]) -> Any:
    """Return the expression with these in place of the indices of its axes."""
    pairs = zip(places(value.shape), indices, strict=True)
    return value.expression.xreplace({old: new for old, new in pairs if not old.is_Integer})


def dimension(dim: int, count: int) -> int:
    """Return the number of an axis, counted from the first; raises ValueError if there is none."""
    if not -count <= dim < count:
        raise ValueError(dim)
    return dim % count


def _permuted(value: Value, order: Sequence[int]) -> Value:
    shape = tuple(value.shape[at] for at in order)
    new = places(shape)
    return Value(substituted(value, [new[list(order).index(at)] for at in range(len(shape))]), shape)


def _permute(value: Value, *dims: Any) -> Value:
    given = dims[0] if isinstance(dims[0], list) else dims
    return _permuted(value, [dimension(dim, len(value.shape)) for dim in given])


def _transpose(value: Value, dim0: int, dim1: int) -> Value:
    order = list(range(len(value.shape)))
    a, b = dimension(dim0, len(order)), dimension(dim1, len(order))
    order[a], order[b] = order[b], order[a]
    return _permuted(value, order)


def _turned(value: Value) -> Value:
    return _permuted(value, range(len(value.shape))[::-1])


def _reshaped(value: Value, shape: Shape) -> Value:
    """Return the same elements in another shape, axes merged and split where that is asked for."""
    if [size for size in shape if size != 1] != [size for size in value.shape if size != 1]:
        return _regrouped(value, shape)
    new = iter(axes(shape))
    return Value(substituted(value, [next(new) if size != 1 else sp.Integer(0) for size in value.shape]), shape)


def _regrouped(value: Value, shape: Shape) -> Value:
    """Return the same elements in another shape: a merged axis is a sum with a condition, a split one an index."""
    if math.prod(value.shape) != math.prod(shape):
        raise ValueError("shapes do not fit")
    indices, new = places(value.shape), places(shape)
    conditions, free = [], []
    for group, into in _groups(value.shape, shape):
        place = _flat([(new[at], shape[at]) for at in into])
        if len(group) == 1:
            indices[group[0]] = place
            continue
        for at in group:
            indices[at] = axis(_FREE + at, value.shape[at])
        free += [indices[at] for at in group]
        conditions.append(Equal(place, _flat([(indices[at], value.shape[at]) for at in group])))
    body = substituted(value, indices) * sp.Mul(*conditions)
    for index in reversed(free):
        body = unsolved(body, index)
    return Value(body, shape)


def _flat(indices: Sequence[tuple[Any, int]]) -> Any:
    """Return the place of an element among all, the last of these axes running fastest."""
    place: Any = sp.Integer(0)
    for index, size in indices:
        place = place * size + index
    return sp.expand(place)


def _groups(old: Shape, new: Shape) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the axes that belong together: those of the old shape, and those of the new one that hold as many."""
    left, right = ([at for at, size in enumerate(shape) if size != 1] for shape in (old, new))
    while left:
        group, into = [left.pop(0)], [right.pop(0)]
        while (here := math.prod(old[at] for at in group)) != (there := math.prod(new[at] for at in into)):
            if here < there:
                group.append(left.pop(0))
            else:
                into.append(right.pop(0))
        yield group, into


def _view(value: Value, *sizes: Any) -> Value:
    given = list(sizes[0]) if sizes and isinstance(sizes[0], list) else list(sizes)
    if -1 in given:
        given[given.index(-1)] = math.prod(value.shape) // math.prod(size for size in given if size != -1)
    return _reshaped(value, tuple(given))


def unsqueezed(value: Value, dim: int) -> Value:
    """Return a tensor with a new axis of one element."""
    at = dimension(dim, len(value.shape) + 1)
    return _reshaped(value, (*value.shape[:at], 1, *value.shape[at:]))


def _squeeze(value: Value, dim: Any = None) -> Value:
    dims = range(len(value.shape)) if dim is None else dim if isinstance(dim, list) else [dim]
    gone = {dimension(each, len(value.shape)) for each in dims} if value.shape else set()
    return _reshaped(value, tuple(size for at, size in enumerate(value.shape) if size != 1 or at not in gone))


def _flatten(value: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    first, last = dimension(start_dim, len(value.shape)), dimension(end_dim, len(value.shape))
    merged = math.prod(value.shape[first : last + 1])
    return _reshaped(value, (*value.shape[:first], merged, *value.shape[last + 1 :]))


def _expand(value: Value, *sizes: Any) -> Value:
    given = sizes[0] if isinstance(sizes[0], list) else sizes
    old = (1,) * (len(given) - len(value.shape)) + value.shape
    return Value(value.expression, tuple(o if size == -1 else size for size, o in zip(given, old, strict=True)))


def summed(value: Value, dims: Sequence[int], how: Callable[[Any, Any], Any] = total) -> Any:
    """Return the sum over some axes; the others keep their indices."""
    expression = value.expression
    for dim in sorted(dims, reverse=True):
        if value.shape[dim] != 1:
            expression = how(expression, axis(len(value.shape) - dim, value.shape[dim]))
    return expression


def _dims(value: Value, dim: Any) -> list[int]:
    if dim is None or dim == []:
        return list(range(len(value.shape)))
    return [dimension(each, len(value.shape)) for each in (dim if isinstance(dim, list) else [dim])]


def reduced(value: Value, expression: Any, dim: Any, *, keepdim: bool) -> Value:
    """Return what a reduction over ``dim`` made of a tensor."""
    gone = _dims(value, dim)
    kept = Value(expression, tuple(1 if at in gone else size for at, size in enumerate(value.shape)))
    return kept if keepdim else _reshaped(kept, tuple(s for at, s in enumerate(value.shape) if at not in gone))


def _sum(value: Value, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Value:  # noqa: ARG001, FBT001, FBT002
    return reduced(value, summed(value, _dims(value, dim)), dim, keepdim=keepdim)


def _mean(value: Value, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Value:  # noqa: ARG001, FBT001, FBT002
    count = math.prod(value.shape[at] for at in _dims(value, dim))
    return reduced(value, summed(value, _dims(value, dim)) / count, dim, keepdim=keepdim)


def _prod(value: Value, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Value:  # noqa: ARG001, FBT001, FBT002
    return reduced(value, summed(value, _dims(value, dim), product), dim, keepdim=keepdim)


def _var(value: Value, dim: Any = None, correction: int = 1, keepdim: bool = False, unbiased: bool = True) -> Value:  # noqa: FBT001, FBT002
    if isinstance(dim, bool) or isinstance(correction, bool):
        raise TypeError("var(dim, False): an older way to write a correction of 0")
    correction = correction if unbiased else 0
    dims = _dims(value, dim)
    count = math.prod(value.shape[at] for at in dims)
    squares = (value.expression - summed(value, dims) / count) ** 2
    variance = summed(Value(squares, value.shape), dims) / (count - correction)
    return reduced(value, variance, dim, keepdim=keepdim)


def _std(value: Value, *args: Any, **kwargs: Any) -> Value:
    variance = _var(value, *args, **kwargs)
    return Value(sp.sqrt(variance.expression), variance.shape)


def _norm(value: Value, p: Any = None, dim: Any = None, keepdim: bool = False, **more: Any) -> Value:  # noqa: FBT001, FBT002
    if p not in {None, 2, "fro"} or any(value is not None for value in more.values()):
        raise TypeError("only the Euclidean norm")
    squares = summed(Value(value.expression**2, value.shape), _dims(value, dim))
    return reduced(value, sp.sqrt(squares), dim, keepdim=keepdim)


def _softmax(value: Value, dim: int, dtype: Any = None, **_: Any) -> Value:  # noqa: ARG001
    raised = sp.exp(value.expression)
    return Value(raised / summed(Value(raised, value.shape), _dims(value, dim)), value.shape)


def _logsumexp(value: Value, dim: Any, keepdim: bool = False) -> Value:  # noqa: FBT001, FBT002
    logarithm = sp.log(summed(Value(sp.exp(value.expression), value.shape), _dims(value, dim)))
    return reduced(value, logarithm, dim, keepdim=keepdim)


def _log_softmax(value: Value, dim: int, dtype: Any = None, **_: Any) -> Value:  # noqa: ARG001
    return Value(value.expression - _logsumexp(value, dim, keepdim=True).expression, value.shape)


def _cumsum(value: Value, dim: int, dtype: Any = None) -> Value:  # noqa: ARG001
    at = dimension(dim, len(value.shape))
    here = places(value.shape)
    other = axis(len(value.shape) + 1, value.shape[at])  # of no axis that it has
    moved = substituted(value, [*here[:at], other, *here[at + 1 :]])
    return Value(total(moved * AtLeast(here[at], other), other), value.shape)


def _matmul(a: Value, b: Value) -> Value:
    left = a if len(a.shape) > 1 else Value(a.expression, (1, *a.shape))
    right = b if len(b.shape) > 1 else unsqueezed(b, 1)
    if not a.shape or not b.shape or left.shape[-1] != right.shape[-2]:
        raise ValueError("shapes do not fit")
    batch = broadcast(left.shape[:-2], right.shape[:-2])
    size, free = left.shape[-1], axis(99, left.shape[-1])  # an axis that no tensor has
    one = left.expression.xreplace({axis(1, size): free}) if size != 1 else left.expression
    two = right.expression.xreplace({axis(2, size): free}) if size != 1 else right.expression
    product = total(one * two, free) if size != 1 else one * two
    whole = Value(product, (*batch, left.shape[-2], right.shape[-1]))
    shape = whole.shape if len(b.shape) > 1 else whole.shape[:-1]
    return _reshaped(whole, shape if len(a.shape) > 1 else (*batch, *shape[len(batch) + 1 :]))


def broadcast(*shapes: Shape) -> Shape:
    """Return the shape of tensors that are broadcast together; raises ValueError if they can't be."""
    count = max(map(len, shapes), default=0)
    padded = [(1,) * (count - len(shape)) + shape for shape in shapes]
    broadcast = tuple(max(sizes) for sizes in zip(*padded, strict=True))
    if any(size not in {1, out} for shape in padded for size, out in zip(shape, broadcast, strict=True)):
        raise ValueError("shapes do not fit")
    return broadcast


def joined(function: Callable[..., Any], values: Sequence[Value], **more: Any) -> Value:
    """Return an operation on each element of tensors that broadcast: their axes are lined up from the last."""
    expression = function(*(value.expression for value in values), **more)
    return Value(sp.sympify(expression), broadcast(*(value.shape for value in values)))


def _linear(x: Value, weight: Value, bias: Value | None = None) -> Value:
    product = _matmul(x, _turned(weight))
    return product if bias is None else joined(lambda a, b: a + b, [product, bias])


def _addmm(bias: Value, a: Value, b: Value, beta: Any = 1, alpha: Any = 1) -> Value:
    return joined(lambda x, y: beta * x + alpha * y, [bias, _matmul(a, b)])


def _outer(a: Value, b: Value) -> Value:
    return joined(lambda x, y: x * y, [unsqueezed(a, 1), b])


def _where(condition: Value, a: Value, b: Value) -> Value:
    return joined(lambda c, x, y: c * x + (1 - c) * y, [condition, a, b])


SHAPED: dict[str, Callable[..., Value | list[Value]]] = {
    "sum": _sum,
    "mean": _mean,
    "prod": _prod,
    "var": _var,
    "std": _std,
    **dict.fromkeys(("norm", "vector_norm"), _norm),
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "cumsum": _cumsum,
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "dot"), _matmul),
    "rmatmul": lambda a, b: _matmul(b, a),
    "linear": _linear,
    "addmm": _addmm,
    **dict.fromkeys(("outer", "ger"), _outer),
    "permute": _permute,
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), _transpose),
    **dict.fromkeys(("t", "T"), _turned),
    "mT": lambda value: _transpose(value, -1, -2),
    **dict.fromkeys(("view", "reshape"), _view),
    **dict.fromkeys(("view_as", "reshape_as"), lambda value, other: _reshaped(value, other.shape)),
    "unsqueeze": unsqueezed,
    "squeeze": _squeeze,
    "flatten": _flatten,
    "ravel": _flatten,
    "expand": _expand,
    "expand_as": lambda value, other: _expand(value, *other.shape),
    "where": _where,
}
