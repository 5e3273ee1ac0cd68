"""Expressions per element as text and as LaTeX, with a letter for each index."""

# ruff: noqa: SLF001 - sympy's way to print what is inside

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

import sympy as sp

from gradtrace.explain.differentiate import parts
from gradtrace.explain.indices import At, AtLeast, Equal, Index, Largest, Others, Product, Total, Within
from gradtrace.explain.notation import lowered, notation
from gradtrace.wording.quoting import tex_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Writer", "tex_name"]

INDICES = "ijklmnprst"  # those that there is a letter of below the line
GREEK = frozenset(
    ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi")
) | {"pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"}


class _Written(sp.Function):
    def _latex(self, printer: Any, exp: str = "") -> str:
        text = self.tex(printer)
        return rf"\left({text}\right)^{{{exp}}}" if exp else text

    def tex(self, printer: Any) -> str:
        """Return it in LaTeX."""
        raise NotImplementedError


class Summed(_Written):
    """A sum as it is written: its body, and the letters of its indices."""

    def tex(self, printer: Any) -> str:
        """Return it in LaTeX."""
        return rf"\sum_{{{', '.join(self.args[1].name)}}} {_bracketed(printer, self.args[0])}"


class Multiplied(_Written):
    """A product as it is written."""

    def tex(self, printer: Any) -> str:
        """Return it in LaTeX."""
        return rf"\prod_{{{self.args[1].name}}} {_bracketed(printer, self.args[0])}"


class Rest(_Written):
    """A product over all but one as it is written: body, its index, the one that is left out."""

    def tex(self, printer: Any) -> str:
        """Return it in LaTeX."""
        body, index, at = self.args
        return rf"\prod_{{{index.name} \neq {printer._print(at)}}} {_bracketed(printer, body)}"


class _Relation(_Written):
    """A condition as it is written: 1 where it holds."""

    sign = ""

    def tex(self, printer: Any) -> str:
        """Return it in LaTeX."""
        left, right = self.args
        return rf"\left[{printer._print(left)} {self.sign} {printer._print(right)}\right]"


class Same(_Relation):
    """The two are the same."""

    sign = "="


class NotLess(_Relation):
    """The first is not less."""

    sign = r"\geq"


class NotMore(_Relation):
    """The first is not greater."""

    sign = r"\leq"


class Maximum(_Written):
    """A largest value as it is written: its body, and the letters of its indices."""

    def tex(self, printer: Any) -> str:
        """Return it in LaTeX."""
        return rf"\max_{{{', '.join(self.args[1].name)}}} {_bracketed(printer, self.args[0])}"


class Minimum(_Written):
    """A smallest value as it is written."""

    def tex(self, printer: Any) -> str:
        """Return it in LaTeX."""
        return rf"\min_{{{', '.join(self.args[1].name)}}} {_bracketed(printer, self.args[0])}"


class If(_Written):
    """A body as it is written, and the condition under which it is compared."""

    def tex(self, printer: Any) -> str:
        """Return it in LaTeX."""
        return rf"\left({printer._print(self.args[0])} \text{{ if }} {printer._print(self.args[1])}\right)"


class Highest(_Written):
    """A condition as it is written: 1 where the first is the largest of the second over some indices."""

    def tex(self, printer: Any) -> str:
        """Return it in LaTeX."""
        here, body, bound = self.args
        over = rf"\max_{{{', '.join(bound.name)}}} {_bracketed(printer, body)}"
        return rf"\left[{printer._print(here)} = {over}\right]"


def _bracketed(printer: Any, body: Any) -> str:
    text = printer._print(body)
    return rf"\left({text}\right)" if body.is_Add else str(text)


class Writer:
    """Writes expressions; ``names`` and ``tex`` tell how each symbol is called, and may still grow."""

    def __init__(self, names: Mapping[str, str], tex: Mapping[str, str]) -> None:
        self._names = names
        self._given_tex = tex
        self._shown: dict[str, str] = {}
        self._tex: dict[str, str] = {}

    def text(self, expression: Any, indices: Sequence[Any] = ()) -> str:
        """Return an expression as text; these indices are written i, j and so on."""
        plain = self._plain(expression, self._letters(indices))
        return notation(str(plain), names={**self._names, **self._shown})

    def latex(self, expression: Any, indices: Sequence[Any] = ()) -> str:
        """Return an expression in LaTeX."""
        plain = self._plain(expression, self._letters(indices))
        names = {symbol: self._tex_of(symbol.name) for symbol in plain.free_symbols}
        words = any(name.startswith(("\\mathrm", "\\texttt")) for name in names.values())
        return str(sp.latex(plain, symbol_names=names, full_prec=False, mul_symbol=r" \, " if words else None))

    def element(self, symbol: Any, indices: Sequence[Any], among: Sequence[Any] = ()) -> tuple[str, str]:
        """Return a tensor's element as text and in LaTeX; the letters are those of its indices ``among`` others."""
        if not indices:
            return self._names[symbol.name], self._tex_of(symbol.name)
        written = self._element(At(symbol, *indices), self._letters(among or indices))
        return self._shown[written.name], self._tex[written.name]

    def _tex_of(self, name: str) -> str:
        return self._tex.get(name) or self._given_tex.get(name) or tex_name(self._names.get(name, name))

    def _letters(self, indices: Sequence[Any]) -> dict[Any, str]:
        return dict(zip(indices, INDICES, strict=False))

    def _plain(self, expression: Any, letters: dict[Any, str]) -> Any:
        """Return the expression with a symbol for each element, so that sympy can print and order it."""
        return expression.xreplace({part: self._part(part, letters) for part in parts(expression)})

    def _part(self, part: Any, letters: dict[Any, str]) -> Any:
        if isinstance(part, At):
            return self._element(part, letters)
        if isinstance(part, Index):
            return sp.Symbol(letters[part], real=True)
        if isinstance(part, (Equal, AtLeast, Largest, Within)):
            return self._condition(part, letters)
        if isinstance(part, (Total, Product)):
            return self._bound(part, dict(letters))
        if isinstance(part, Others):
            inner = {**letters, part.args[1]: self._next(letters)}
            body = self._plain(part.args[0], inner)
            return Rest(body, sp.Symbol(inner[part.args[1]]), self._plain(part.args[2], letters))
        return part

    def _largest(self, part: Any, letters: dict[Any, str]) -> Any:
        """Return a condition as it is written: the element is the largest of all."""
        body, inner = part.args[1], dict(letters)
        here = body.xreplace(dict(zip(part.bound, part.at, strict=True)))
        here = self._plain(here.args[0] if isinstance(here, Within) else here, letters)
        for index in part.bound:
            inner[index] = self._next(inner)
        bound = sp.Symbol("".join(inner[index] for index in part.bound))
        return Highest(here, self._plain(body, inner), bound)

    def _condition(self, part: Any, letters: dict[Any, str]) -> Any:
        """Return a condition with the number on the right: [i ≥ 2] rather than [i - 2 ≥ 0]."""
        if isinstance(part, Largest):
            return self._largest(part, letters)
        if isinstance(part, Within):
            return If(*(self._plain(each, letters) for each in part.args))
        number, rest = (part.args[0] - part.args[1]).as_coeff_Add()
        kind = Same if isinstance(part, Equal) else NotLess
        left, right = (self._plain(each, letters) for each in part.args)
        if isinstance(rest, Index):
            return kind(self._plain(rest, letters), -number)
        if isinstance(-rest, Index):
            return (Same if kind is Same else NotMore)(self._plain(-rest, letters), number)
        return kind(left, right)

    def _bound(self, part: Any, letters: dict[Any, str]) -> Any:
        kind, bound = type(part), ""
        while type(part) is kind and (kind is Total or not bound):
            letters[part.args[1]] = self._next(letters)
            bound += letters[part.args[1]]
            part = part.args[0]
        most = _most(part) if kind is Total and len(bound) == len(_bound_of(part)) else None
        if most is not None:
            return most[0](self._plain(most[1], letters), sp.Symbol(bound))
        return (Summed if kind is Total else Multiplied)(self._plain(part, letters), sp.Symbol(bound))

    def _next(self, letters: dict[Any, str]) -> str:
        return next((letter for letter in INDICES if letter not in letters.values()), f"a{len(letters)}")

    def _element(self, part: Any, letters: dict[Any, str]) -> Any:
        stem = part.args[0].name
        plain = [self._plain(each, letters) for each in part.args[1:]]
        texts = [notation(str(each), names={**self._names, **self._shown}).replace(" ", "") for each in plain]
        name = f"{stem}_{'_'.join(texts)}"
        token = "".join(c if c.isascii() and c.isalnum() else "_" for c in name) + "_"
        shown = f"{_whole(self._names[stem])}{_below(texts)}"
        while self._shown.get(token, shown) != shown:
            token += "_"
        names = {symbol: self._tex_of(symbol.name) for each in plain for symbol in each.free_symbols}
        inner = [sp.latex(each, symbol_names=names) for each in plain]
        self._shown[token] = shown
        self._tex[token] = _tex_below(_tex_whole(self._tex_of(stem)), (", " if len(texts) > 1 else "").join(inner))
        return sp.Symbol(token, real=True)


def _bound_of(body: Any) -> tuple[Any, ...]:
    """Return the indices over which a condition in a product looks for the largest value."""
    return next((each.bound for each in sp.Mul.make_args(body) if isinstance(each, Largest)), ())


def _most(body: Any) -> tuple[type[sp.Function], Any] | None:
    """Return Maximum or Minimum and its body, where a sum is no more than that."""
    condition = next((each for each in sp.Mul.make_args(body) if isinstance(each, Largest)), None)
    if condition is None or not all(isinstance(each, Index) for each in condition.at):
        return None
    rest = sp.Mul(*(each for each in sp.Mul.make_args(body) if each is not condition))
    here = condition.args[1].xreplace(dict(zip(condition.bound, condition.at, strict=True)))
    plain = here.args[0] if isinstance(here, Within) else here
    return (Maximum, here) if rest == plain else (Minimum, rest) if rest == -plain else None


def _whole(name: str) -> str:
    """Return a name that an index can follow: a product in brackets."""
    return f"({name})" if "·" in name else name


def _below(texts: list[str]) -> str:
    if all(len(text) == 1 for text in texts) or len(texts) == 1:
        joined = "".join(texts)
        if lowered(joined) != joined:
            return lowered(joined)
    return f"[{', '.join(texts)}]"


def _tex_whole(name: str) -> str:
    return rf"\left({name}\right)" if r"\cdot" in name else name


def _tex_below(name: str, index: str) -> str:
    """Return a name with an index; that of ∂f/∂z belongs to z, below the line."""
    above, slope, below = name.rpartition(r"\partial ")
    if slope and name.startswith(r"\frac") and name.endswith("}"):
        return f"{above}{slope}{_tex_below(below[:-1], index)}}}"
    return f"{{{name}}}_{{{index}}}" if name.endswith("}") and "_" in name else f"{name}_{{{index}}}"


def tex_name(name: str) -> str:
    r"""Return a name in LaTeX: a letter as it is, a Greek one by its name, a word upright, code as code.

    >>> tex_name("x"), tex_name("z1"), tex_name("loss"), tex_name("θ"), tex_name("p['w']")
    ('x', 'z_{1}', '\\mathrm{loss}', '\\theta', "\\texttt{p{[}{'}w{'}{]}}")
    """
    stem = name.rstrip("0123456789")
    digits = name[len(stem) :]
    greek = unicodedata.name(stem, "") if len(stem) == 1 else f"GREEK SMALL LETTER {stem.upper()}"
    letter = stem if len(stem) == 1 and stem.isascii() and stem.isalpha() else ""
    if greek.startswith("GREEK SMALL LETTER") and greek.rpartition(" ")[2].lower() in GREEK:
        letter = f"\\{greek.rpartition(' ')[2].lower()}"
    if letter:
        return f"{letter}_{{{digits}}}" if digits else letter
    upright = name.isascii() and name.replace(".", "").isidentifier()
    return rf"\mathrm{{{tex_text(name)}}}" if upright else rf"\texttt{{{tex_text(name)}}}"
