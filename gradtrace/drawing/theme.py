"""Colours and fonts of the user's own, from a small TOML file.

A picture is made in the palette's colours, and dressed at the end: so a theme can change what is seen and
nothing of what is drawn where.
"""

from __future__ import annotations

import re
from collections.abc import Mapping  # which the documentation looks up
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gradtrace.drawing.palette import (
    BORDER,
    CARD,
    DARK,
    FAILED,
    FILL,
    FONT,
    INK,
    INVERSE,
    LINE,
    MONO,
    MUTED,
    PAGE,
    SPECIAL,
    WARNED,
)
from gradtrace.errors import ThemeError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["BUILT_IN", "Theme"]

COLORS = {
    "page": PAGE, "card": CARD, "text": INK, "muted": MUTED, "inverse": INVERSE, **BORDER,
    "error": FAILED, "warning": WARNED, **SPECIAL,
}  # fmt: skip
RAMPS = {"fill": FILL, "line": LINE}
FONTS = {"text": FONT, "code": MONO}
SECTIONS = {"fonts": tuple(FONTS), "light": (*COLORS, *RAMPS), "dark": (*COLORS, *RAMPS)}
BUILT_IN = ("light", "dark")  # themes without a file: one look on every page
HEX = re.compile(r"#(?:[0-9a-f]{3}|[0-9a-f]{6})", re.IGNORECASE)
FAMILY = re.compile(r"[\w ,.-]+")


class Theme(Struct, frozen=True):
    """Replacements for the colours and fonts of the palette.

    Args:
        light: by the palette's colour, that of a light page, and of pictures that know one page only.
        dark: by the palette's colour, that of a dark page.
        fonts: by the palette's list of fonts, the one to use.
    """

    light: Mapping[str, str]
    dark: Mapping[str, str]
    fonts: Mapping[str, str]

    @classmethod
    def load(cls, name: str | Path) -> Theme:
        """Return the theme in a TOML file, or the one called ``light`` or ``dark``; raises ThemeError."""
        if str(name) == "light":
            return cls({}, {color: color for color in DARK}, {})
        if str(name) == "dark":
            return cls(DARK, DARK, {})
        return cls.of(_parsed(Path(name)), str(name))

    @classmethod
    def of(cls, data: Mapping[str, Any], name: str = "theme") -> Theme:
        """Return the theme that a TOML file holds; ``name`` is what an error calls it. Raises ThemeError."""
        for section, entries in data.items():
            _known(section, tuple(SECTIONS), f"{name}: section")
            if not isinstance(entries, dict):
                raise ThemeError(
                    f"{name}: {section} is {entries!r}, which is not a table", f"write [{section}] above its keys"
                )
            for key in entries:
                _known(key, SECTIONS[section], f"{name}: key in [{section}]")
        fonts = {FONTS[key]: _family(value, f"{name}: fonts.{key}") for key, value in data.get("fonts", {}).items()}
        light, dark = (dict(_colors(data.get(page, {}), f"{name}: {page}")) for page in ("light", "dark"))
        return cls(_apart(light), {**DARK, **dark}, fonts)

    def painted(self, text: str) -> str:
        """Return DOT with the colours of a light page."""
        return re.sub(r'(?<=color=")[#0-9a-f:]+(?=")', lambda match: self.colored(match[0]), text)

    def lettered(self, text: str) -> str:
        """Return DOT with the fonts."""
        return re.sub(r'(?<=(?:face|name)=")[^"]+(?=")', lambda match: self.fonts.get(match[0], match[0]), text)

    def colored(self, colors: str) -> str:
        """Return a colour, or several with a colon between, as they are on a light page."""
        return ":".join(self.light.get(color, color) for color in colors.split(":"))


def _parsed(path: Path) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - 5 ms that only a theme needs

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ThemeError(f"{str(path)!r} is not TOML: {str(error).lower()}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else "not UTF-8"
        hint = f"name a TOML file, or a built-in theme: {', '.join(BUILT_IN)}"
        raise ThemeError(f"theme {str(path)!r} can't be read: {reason}", hint) from None


def _known(name: str, known: Sequence[str], kind: str) -> None:
    if name not in known:
        raise ThemeError(str(UnknownNameError.of(kind, name, known)))


def _family(value: object, where: str) -> str:
    if not isinstance(value, str) or not FAMILY.fullmatch(value):
        raise ThemeError(f"{where} is {value!r}", "name font families with commas between, as 'Inter, sans-serif'")
    return value


def _colors(entries: Mapping[str, object], where: str) -> Iterator[tuple[str, str]]:
    """Yield the palette's colours with those that a section names for them."""
    for key, value in entries.items():
        if key in COLORS:
            yield COLORS[key], _color(value, f"{where}.{key}")
        elif not isinstance(value, list) or len(value) < 2:  # noqa: PLR2004
            raise ThemeError(
                f"{where}.{key} is {value!r}", "give two colours or more, from the smallest to the largest"
            )
        else:
            yield from zip(RAMPS[key], _ramp([_color(each, f"{where}.{key}") for each in value]), strict=True)


def _color(value: object, where: str) -> str:
    if not isinstance(value, str) or not HEX.fullmatch(value):
        raise ThemeError(f"{where} is {value!r}", "write a colour as '#rrggbb'")
    digits = value[1:].lower()
    return f"#{digits if len(digits) > 3 else ''.join(2 * digit for digit in digits)}"  # noqa: PLR2004


def _ramp(colors: Sequence[str]) -> list[str]:
    """Return the colours spread evenly over the palette's five."""
    ramp = []
    for step in range(len(FILL)):
        place = step * (len(colors) - 1) / (len(FILL) - 1)
        one, two = colors[int(place)], colors[min(int(place) + 1, len(colors) - 1)]
        mixed = (round(a + (b - a) * (place % 1)) for a, b in zip(_rgb(one), _rgb(two), strict=True))
        ramp.append("#" + "".join(f"{part:02x}" for part in mixed))
    return ramp


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue


def _apart(light: Mapping[str, str]) -> dict[str, str]:
    """Return all colours of a light page, those that are the same a hair apart: on a dark page they may differ."""
    apart: dict[str, str] = {}
    taken: set[str] = set()
    for color in (*COLORS.values(), *FILL, *LINE):
        red, green, blue = _rgb(light.get(color, color))
        step = 1 if blue < 128 else -1  # noqa: PLR2004 - away from the end of the scale
        while (mine := f"#{red:02x}{green:02x}{blue:02x}") in taken:
            blue += step
        taken.add(mine)
        apart[color] = mine
    return apart
