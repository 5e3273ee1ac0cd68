"""Widths of text in the engine's fonts, so that a page with other fonts can fit it into the same space."""

# ruff: noqa: PTH118, PTH120, PTH123 - pathlib takes the engine's child process 15 ms

from __future__ import annotations

from functools import cache
from mmap import ACCESS_READ, mmap
from os.path import dirname, join
from struct import unpack_from

__all__ = ["width"]

FONTS = join(dirname(__file__), "fonts")
SANS, BOLD, MONO = "LiberationSans-Regular", "LiberationSans-Bold", "LiberationMono-Regular"


def width(text: str, family: str, size: float, *, bold: bool = False) -> float | None:
    """Return the width of text in the unit of ``size``; None where the font has not all of its characters."""
    advances, em = _advances(MONO if "monospace" in family else BOLD if bold else SANS)
    units = [advances.get(ord(character)) for character in text]
    return None if None in units else size * sum(filter(None, units)) / em


@cache
def _advances(font: str) -> tuple[dict[int, int], int]:
    """Return the advance of each character and the em, from the font's tables (OpenType: cmap 4, hmtx)."""
    with open(join(FONTS, f"{font}.ttf"), "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        return _read(data)


def _read(data: mmap) -> tuple[dict[int, int], int]:
    records = (unpack_from(">4sIII", data, 12 + 16 * i) for i in range(unpack_from(">H", data, 4)[0]))
    tables = {tag: offset for tag, _, offset, _ in records}
    em = unpack_from(">H", data, tables[b"head"] + 18)[0]
    count = unpack_from(">H", data, tables[b"hhea"] + 34)[0]
    metrics = unpack_from(f">{2 * count}H", data, tables[b"hmtx"])[::2]
    glyphs = _glyphs(data, tables[b"cmap"])
    return {character: metrics[min(glyph, count - 1)] for character, glyph in glyphs.items()}, em


def _glyphs(data: mmap, cmap: int) -> dict[int, int]:
    """Return the glyph of each character of the basic plane."""
    subtables = (unpack_from(">HHI", data, cmap + 4 + 8 * i) for i in range(unpack_from(">H", data, cmap + 2)[0]))
    start = cmap + next(offset for platform, encoding, offset in subtables if (platform, encoding) == (3, 1))
    double = unpack_from(">H", data, start + 6)[0]
    ends, firsts, deltas, ranges = (
        unpack_from(f">{double // 2}H", data, start + skip + n * double) for n, skip in enumerate((14, 16, 16, 16))
    )
    glyphs = {}
    for i, (first, end) in enumerate(zip(firsts, ends, strict=True)):
        for character in range(first, end + 1):
            glyph = character
            if ranges[i]:  # an offset into the glyph array, relative to its own position
                place = start + 16 + 3 * double + 2 * i + ranges[i] + 2 * (character - first)
                glyph = unpack_from(">H", data, place)[0]
            glyphs[character] = (glyph + deltas[i]) & 0xFFFF
    glyphs.pop(0xFFFF, None)  # the table's own end mark
    return glyphs
