"""Trace files that somebody damaged, by chance or on purpose: each made of a good one, from a seed."""

from __future__ import annotations

import copy
import gzip
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

HOSTILE = (
    "", "\0", "n\0", "\x1b[2J\x1b]0;x\a", "\x7f\x9b31m", "\u202eevil\u2066", "<!-- --> ]]> </script>", "&nbsp;&#0;",
    '\\n\\l"', "%%{init: {}}%%\n", "$\\input{/etc/passwd}$ \\end{document}", "a\nb\r\nc",
    "\u200e\u00e9\u65e5\U0001f600\ufffe", "n1", "x" * 20_000, ".".join("a" * 500), "../../etc/passwd", "[[[", "%s%n{0}",
    "1e999", "nan", "-", "__class__",
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 7, 64, 255, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30, 10**400)
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 5e-324, 1e-300, 1e308, -1e308, 1.7976931348623157e308)
OTHERS: tuple[Any, ...] = (None, True, False, 3, -2.5, "text", [], {}, [[]], [None], {"a": [1]}, ["a", 1, None])


def mutated(whole: dict[str, Any], random: Random) -> bytes:
    """Return a damaged copy of a trace, as the bytes of a file."""
    kinds = (_keeping_types,) * 5 + (_breaking_types,) * 3 + (_in_bytes, _cut, _in_gzip)
    return random.choice(kinds)(copy.deepcopy(whole), random)


def _keeping_types(whole: dict[str, Any], random: Random) -> bytes:
    places = list(_places(whole))
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        holder, key = random.choice(places)
        holder[key] = _like(holder[key], [h[k] for h, k in places if k == key], random)
    return _text(whole)


def _breaking_types(whole: dict[str, Any], random: Random) -> bytes:
    places = list(_places(whole))
    holder, key = random.choice(places)
    chosen = random.random()
    if chosen < 0.2 and isinstance(holder, dict):
        del holder[key]
    elif chosen < 0.3:
        holder[key] = "\ue000"  # below
    else:
        holder[key] = random.choice((*OTHERS, *NUMBERS, *HOSTILE))
    depth = random.choice((30, 70, 300, 900, 5000))
    return _text(whole).replace(json.dumps("\ue000").encode(), b"[" * depth + b"1" + b"]" * depth)


def _in_bytes(whole: dict[str, Any], random: Random) -> bytes:
    data = bytearray(_text(whole))
    for _ in range(random.choice((1, 1, 2, 10))):
        at = random.randrange(len(data))
        data[at : at + random.choice((0, 1, 1, 4))] = bytes(
            random.choices((0, 9, 34, 44, 48, 57, 91, 92, 93, 123, 125, 128, 255), k=random.choice((0, 1, 1, 3)))
        )
    return bytes(data)


def _cut(whole: dict[str, Any], random: Random) -> bytes:
    data = _text(whole)
    data = gzip.compress(data, 1) if random.random() < 0.5 else data
    return data[: random.randrange(len(data))]


def _in_gzip(whole: dict[str, Any], random: Random) -> bytes:
    text = _text(whole)
    chosen = random.random()
    if chosen < 0.3:  # a little that unpacks to much
        return gzip.compress(text + b" " * random.choice((10**7, 10**8)), 9)
    data = bytearray(gzip.compress(text, 1))
    if chosen < 0.4:
        return bytes(data) + bytes(data)
    for _ in range(random.choice((1, 3))):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(data)


def _places(whole: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each holder and key that a value stands at."""
    waiting = [whole]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            yield holder, key
            if isinstance(holder[key], (dict, list)):
                waiting.append(holder[key])


def _like(value: Any, others: list[Any], random: Random) -> Any:
    """Return another value of the same type: one that stands under the same key elsewhere, or an extreme one."""
    same = [other for other in others if type(other) is type(value)]
    if random.random() < 0.3:
        return copy.deepcopy(random.choice(same))
    by_type: dict[type, Callable[[], tuple[Any, ...]]] = {
        bool: lambda: (not value,),
        int: lambda: (*NUMBERS, value + 1, value - 1),
        float: lambda: FLOATS,
        str: lambda: (*HOSTILE, value + "\0", value[::-1]),
        dict: lambda: (dict(list(value.items())[: random.randrange(len(value) + 1)]),),
        list: lambda: ([], value + value, value[1:], value[::-1], [value], value * 50, random.choice(same)),
    }
    return random.choice(by_type.get(type(value), lambda: OTHERS)())


def _text(whole: dict[str, Any]) -> bytes:
    return json.dumps(whole).encode()
