"""Derivatives of expressions per element, and their short forms."""

from __future__ import annotations

from itertools import count, islice
from typing import TYPE_CHECKING, Any

import sympy as sp

from gradtrace.explain.indices import (
    At,
    AtLeast,
    Equal,
    Largest,
    Others,
    Product,
    Total,
    Within,
    opened,
    product,
    total,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["NoFormulaError", "derivative", "parts", "shortened"]

# Operations up to which sines and cosines are simplified, and up to which an expression is, its functions taken as
# letters; what is larger, or has more letters, is only put in order.
_SHORT, _LONG, _MOST_LETTERS = 12, 24, 5
_LEFT = 150  # parts of an expression above which it is left as it comes
_WHOLE = (At, Total, Product, Others, Largest, Equal, AtLeast, Within)

# A coefficient, and which index of an element is to be which of the wanted one.
Term = tuple[Any, tuple[tuple[Any, Any], ...]]


class NoFormulaError(ValueError):
    """A derivative that is not written as a formula."""


def derivative(of: Any, by: Any, targets: Sequence[Any] = ()) -> Any:
    """Return the derivative of an expression by the element of a tensor that has these indices.

    Args:
        of: an expression; its free indices are none of those bound in it.
        by: the symbol of the tensor, or of a number.
        targets: an index for each axis of the tensor.
    """
    terms = _Derivative(by, targets).terms(of)
    return sp.Add(*(coefficient * _conditions(pairs) for coefficient, pairs in terms))


def _conditions(pairs: Sequence[tuple[Any, Any]]) -> Any:
    return sp.Mul(*(Equal(*pair) for pair in pairs))


def parts(expression: Any) -> list[Any]:
    """Return the outermost elements, sums and products of an expression, and its symbols outside of them."""
    symbols: dict[Any, None] = {}
    waiting = [expression]
    while waiting:
        each = waiting.pop()
        if isinstance(each, _WHOLE) or each.is_Symbol:
            symbols[each] = None
        else:
            waiting += reversed(each.args)
    return list(symbols)


class _Derivative:
    def __init__(self, by: Any, targets: Sequence[Any]) -> None:
        self._by = by
        self._targets = targets
        self._numbers = count(1)

    def terms(self, of: Any) -> list[Term]:
        """Return the derivative as terms, those with the same conditions added up."""
        letters = {part: sp.Dummy(real=True) for part in parts(of) if part.has(self._by)}
        back = {letter: part for part, letter in letters.items()}
        outer = of.xreplace(letters)
        terms: dict[tuple[tuple[Any, Any], ...], Any] = {}
        for part, letter in letters.items():
            slope = outer.diff(letter).xreplace(back)
            for coefficient, pairs in self._inner(part) if slope != 0 else ():
                terms[pairs] = terms.get(pairs, sp.Integer(0)) + slope * coefficient
        return [(coefficient, pairs) for pairs, coefficient in terms.items()]

    def _inner(self, part: Any) -> Iterator[Term]:
        if part == self._by:
            yield sp.Integer(1), ()
        elif isinstance(part, At) and part.args[0] == self._by:
            yield sp.Integer(1), tuple(zip(part.args[1:], self._targets, strict=True))
        elif isinstance(part, (Total, Product)):
            yield from self._bound(part)
        elif isinstance(part, Others):
            raise NoFormulaError("a second derivative of a product over an index")

    def _bound(self, part: Any) -> Iterator[Term]:
        body, index = opened(part, next(self._numbers))
        for coefficient, pairs in self.terms(body):
            if isinstance(part, Product):
                coefficient = Others(*part.args, index) * coefficient  # noqa: PLW2901 - the same, in the product
            here = [pair for pair in pairs if any(each.has(index) for each in pair)]
            yield total(coefficient * _conditions(here), index), tuple(pair for pair in pairs if pair not in here)


def shortened(expression: Any) -> Any:
    """Return the shortest of a few forms of an expression, and of what is summed in it."""
    known: dict[Any, Any] = {}
    letters: dict[Any, Any] = {}
    for part in parts(expression):
        short = part
        if isinstance(part, (Total, Product)):
            body, index = opened(part)
            short = (total if isinstance(part, Total) else product)(shortened(body), index)
        known[part] = short
    short = expression.xreplace(known)
    for number, part in enumerate(sorted(parts(short), key=str)):
        letters[part] = part if part.is_Symbol else sp.Symbol(f"{part.func.__name__}{number:03}_", real=True)
    back = {letter: part for part, letter in letters.items()}
    return _simplest(short.xreplace(letters)).xreplace(back)


def _simplest(expression: Any) -> Any:
    if sum(1 for _ in islice(sp.preorder_traversal(expression), _LEFT + 1)) > _LEFT:
        return expression
    forms = [expression, sp.factor_terms(expression)]
    operations = expression.count_ops()
    if operations <= _SHORT and expression.has(sp.sin) and expression.has(sp.cos):
        forms.append(sp.simplify(expression))  # which knows what they have to do with each other, and takes long
    elif operations <= _LONG:
        functions = {each: sp.Dummy(real=True) for each in expression.atoms(sp.Function)}
        back = {letter: each for each, letter in functions.items()}
        rational = expression.xreplace(functions)
        if len(rational.free_symbols) <= _MOST_LETTERS:
            forms.append(sp.simplify(rational).xreplace(back))
    forms.append(sp.factor_terms(forms[-1]))
    return min(forms, key=lambda form: (form.count_ops() + form.is_Add, len(str(form))))
