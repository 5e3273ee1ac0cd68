"""Tensors per element: indices that know how many values they take, elements, conditions, and sums over an index.

What a tensor holds is one expression in the indices of its axes, ``axis(1, size)`` for the last one, ``axis(2, size)``
for the one before, so that a broadcast lines up by itself; an axis of one element has no index. A sum binds an index
of its own, numbered by how deep it stands, so that equal sums are the same expression.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import sympy as sp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "At",
    "AtLeast",
    "Equal",
    "Index",
    "Largest",
    "Others",
    "Product",
    "Total",
    "Within",
    "axes",
    "axis",
    "inside",
    "largest",
    "opened",
    "over_all",
    "product",
    "put_elements",
    "shifted",
    "total",
    "unsolved",
]


_OPENED = count(10**6)  # numbers of indices that are open for a moment; none is left in a result
SHORT = 4  # factors of a product that are written out, where each is something else


class Index(sp.Symbol):
    """An index from 0 up to ``size``; its name tells both what it is and the size."""

    def __new__(cls, name: str, size: int) -> Any:
        """Return the index of this name and size; two of the same are the same."""
        return super().__new__(cls, f"{name}:{size}", integer=True, nonnegative=True)

    def __getnewargs_ex__(self) -> Any:
        """Return what makes it again."""
        name, _, size = self.name.partition(":")
        return ((name, int(size)), {})

    @property
    def size(self) -> int:
        """The number of values that it takes."""
        return int(self.name.partition(":")[2])


def axis(number: int, size: int) -> Any:
    """Return the index of an axis, counted from the last, which is 1."""
    return Index(f"e{number}", size)


def axes(shape: tuple[int, ...]) -> list[Any]:
    """Return the indices of a tensor, first axis first; an axis of one element has none."""
    return [axis(len(shape) - at, size) for at, size in enumerate(shape) if size != 1]


def shifted(index: Any) -> tuple[Any, int] | None:
    """Return (i, c) where an index expression is i + c, i an index; None where it is something else."""
    if isinstance(index, Index):
        return index, 0
    if index.is_Add and len(index.args) == 2:  # noqa: PLR2004 - a number and an index
        number, rest = index.args
        if number.is_Integer and isinstance(rest, Index):
            return rest, int(number)
    return None


def _bounds(index: Any) -> tuple[int, int] | None:
    """Return the least and the largest value of an index expression, None where it can't be told."""
    if index.is_Integer:
        return int(index), int(index)
    low = high = 0
    for term in sp.Add.make_args(index):
        factor, rest = term.as_coeff_Mul()
        if rest == 1:
            low, high = low + int(factor), high + int(factor)
        elif isinstance(rest, Index) and factor.is_Integer:
            ends = 0, int(factor) * (rest.size - 1)
            low, high = low + min(ends), high + max(ends)
        else:
            return None
    return low, high


class _Element(sp.Function):
    """A real number for all values of its indices."""

    def _eval_is_real(self) -> bool:
        return True

    def _eval_is_extended_real(self) -> bool:
        return True


class At(_Element):
    """An element of a tensor: its symbol, and an index for each of its axes."""


class Equal(_Element):
    """1 where two indices are equal, else 0."""

    nargs = 2

    @classmethod
    def eval(cls, left: Any, right: Any) -> Any:
        """Decide what the sizes of the indices decide."""
        bounds = _bounds(left - right)
        if left == right or bounds == (0, 0):
            return sp.Integer(1)
        if bounds is not None and not bounds[0] <= 0 <= bounds[1]:
            return sp.Integer(0)
        return None

    def solved(self, index: Any) -> Any:
        """Return what an index is where the two are equal, None where that is not one expression."""
        rest = self.args[0] - self.args[1]
        factor = rest.coeff(index)
        other = rest - factor * index
        if factor not in {1, -1} or other.has(index):
            return None
        return -other / factor


class AtLeast(_Element):
    """1 where the left index is not less than the right one, else 0."""

    nargs = 2

    @classmethod
    def eval(cls, left: Any, right: Any) -> Any:
        """Decide what the sizes of the indices decide."""
        bounds = _bounds(left - right)
        if bounds is not None and bounds[0] >= 0:
            return sp.Integer(1)
        if bounds is not None and bounds[1] < 0:
            return sp.Integer(0)
        if bounds is not None and bounds[1] == 0:
            return Equal(left, right)  # it is never greater
        return None


class Within(_Element):
    """A body where a condition holds, and less than all else where it does not: what is compared at an edge."""

    nargs = 2


def inside(index: Any, size: int) -> Any:
    """Return 1 where an index expression is one of ``size`` elements, else 0."""
    return AtLeast(index, sp.Integer(0)) * AtLeast(sp.Integer(size - 1), index)


class _Bound(_Element):
    """An expression that binds an index: its body, and the index."""

    nargs = 2

    def _hashable_content(self) -> Any:
        return self._args


class Total(_Bound):
    """The sum of its body over an index."""


class Product(_Bound):
    """The product of its body over an index."""


class Others(_Element):
    """The product of a body over an index other than one: body, index, that one."""

    nargs = 3


class Largest(_Element):
    """1 at the largest value of a body, else 0: ``shared`` (0, 1), the body, its indices, and where that is asked.

    Of equal ones it is the first, or each with its share.
    """

    @property
    def bound(self) -> tuple[Any, ...]:
        """The indices of the body."""
        return tuple(self.args[2 : 2 + (len(self.args) - 2) // 2])

    @property
    def at(self) -> tuple[Any, ...]:
        """The indices asked for, an expression each."""
        return tuple(self.args[2 + (len(self.args) - 2) // 2 :])


def _depth(body: Any) -> int:
    """Return how deep indices are bound in an expression."""
    bound = [each.args[1] for each in body.atoms(Total, Product, Others)]
    bound += [index for each in body.atoms(Largest) for index in each.bound]
    return max((int(b.name[1:].partition(":")[0]) for b in bound), default=0)


def largest(body: Any, indices: Sequence[Any], *, shared: bool) -> Any:
    """Return what is 1 where a body has its largest value over these of its indices, else 0."""
    return _largest_at(body, indices, (sp.Integer(int(shared)), indices))


def _largest_at(body: Any, indices: Sequence[Any], asked: tuple[Any, Sequence[Any]]) -> Any:
    depth = _depth(body)
    bound = [Index(f"b{depth + number}", index.size) for number, index in enumerate(indices, 1)]
    inner = body.xreplace(dict(zip(indices, bound, strict=True)))
    return Largest(asked[0], inner, *bound, *asked[1])


def _fresh(body: Any, size: int) -> Any:
    """Return an index to bind, deeper than all that are bound inside."""
    return Index(f"b{1 + _depth(body)}", size)


def opened(bound: Any, number: int | None = None) -> tuple[Any, Any]:
    """Return the body of a sum or product and its index, which is now an index like any other.

    Its name is none that is in use where the number is, or, without one, where only what is around it is open.
    """
    name = bound.args[1].name.partition(":")[0]
    index = Index(f"o{name}" if number is None else f"u{number}", bound.args[1].size)
    return bound.args[0].xreplace({bound.args[1]: index}), index


def total(body: Any, index: Any) -> Any:
    """Return the sum of a body over one of its indices."""
    if body.is_zero:
        return sp.Integer(0)
    factors = sp.Mul.make_args(body)
    for factor in factors:
        if isinstance(factor, Equal) and (value := factor.solved(index)) is not None:
            rest = sp.Mul(*(each for each in factors if each is not factor))
            return rest.xreplace({index: value}) * inside(value, index.size)
    within = [each for each in factors if each.has(index)]
    joint = next((each for each in within if isinstance(each, Total) and _is_solved_in(each, index)), None)
    if joint is not None:
        inner, other = opened(joint, next(_OPENED))
        return total(total(inner * sp.Mul(*(each for each in factors if each is not joint)), index), other)
    without = sp.Mul(*(each for each in factors if not each.has(index)))
    if not within:
        return index.size * without
    content, inner = sp.Mul(*within).as_content_primitive()
    return without * content * unsolved(inner, index)


def unsolved(body: Any, index: Any) -> Any:
    """Return the sum of a body over one of its indices, as it stands."""
    bound = _fresh(body, index.size)
    return Total(body.xreplace({index: bound}), bound)


def _is_solved_in(sum_: Any, index: Any) -> bool:
    """Tell whether a condition inside a sum says what an index is, so that the sum over it can be taken first."""
    return any(each.solved(index) is not None for each in sum_.atoms(Equal) if each.has(index))


def product(body: Any, index: Any) -> Any:
    """Return the product of a body over one of its indices."""
    if not body.has(index):
        return body**index.size
    if body.has(Equal, AtLeast) and index.size <= SHORT:
        return sp.Mul(*(body.xreplace({index: sp.Integer(at)}) for at in range(index.size)))
    bound = _fresh(body, index.size)
    return Product(body.xreplace({index: bound}), bound)


def put_elements(expression: Any, symbol: Any, put: Callable[[Any], Any]) -> Any:
    """Return an expression with ``put(element)`` in place of each element of a tensor.

    What is put may bind indices itself, so those around are bound anew, with names of their own.
    """

    def inner(body: Any) -> Any:
        return put_elements(body, symbol, put)

    if not expression.has(symbol):
        return expression
    if expression == symbol or (isinstance(expression, At) and expression.args[0] == symbol):
        return put(expression if expression == symbol else At(symbol, *map(inner, expression.args[1:])))
    if isinstance(expression, (_Bound, Others, Largest)):
        return _bound_anew(expression, inner)
    return expression.func(*map(inner, expression.args))


def _bound_anew(expression: Any, inner: Callable[[Any], Any]) -> Any:
    """Return an expression that binds indices, with ``inner`` of its body."""
    if isinstance(expression, Largest):
        bound = [Index(f"u{next(_OPENED)}", index.size) for index in expression.bound]
        body = inner(expression.args[1].xreplace(dict(zip(expression.bound, bound, strict=True))))
        return _largest_at(body, bound, (expression.args[0], [inner(each) for each in expression.at]))
    body, index = opened(expression, next(_OPENED))
    body = inner(body)
    if isinstance(expression, Others):
        fresh = _fresh(body, index.size)
        return Others(body.xreplace({index: fresh}), fresh, inner(expression.args[2]))
    return (total if isinstance(expression, Total) else product)(body, index)


def over_all(body: Any, shape: tuple[int, ...]) -> Any:
    """Return the sum over all elements of a tensor of this shape."""
    for each in reversed(axes(shape)):
        body = total(body, each)
    return body
