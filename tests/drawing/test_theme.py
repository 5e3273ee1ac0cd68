import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from gradtrace.drawing.palette import DARK
from gradtrace.drawing.theme import COLORS, RAMPS, Theme
from gradtrace.errors import ThemeError
from gradtrace.fold import View
from gradtrace.formats.base import FORMATS, Style
from tests import builders
from tests.fold.graphs import repeated
from tests.formats.test_tikz import DOCUMENT

EXAMPLE = Path(__file__).parents[2] / "examples" / "theme.toml"


def every_color(start):
    """Another colour for each name, from ``start`` on."""
    numbers = iter(range(start, start + 100))
    plain = {name: f"#{next(numbers):06x}" for name in COLORS}
    return plain | {name: [f"#{next(numbers):06x}" for _ in range(5)] for name in RAMPS}


def drawn(name, theme=None, graph=None, **style):
    return FORMATS[name].function(builders.report(graph or builders.partials()), Style(theme=theme, **style))


FOLDED = {"graph": repeated(4, 60), "view": View(max_nodes=20)}


@pytest.mark.parametrize("name", ["svg", "dot", "mermaid", "tikz"])
@pytest.mark.parametrize("what", [{}, FOLDED], ids=["small", "folded"])
def test_no_color_of_ours_is_left_where_a_theme_names_them_all(name, what):
    theme = Theme.of({"light": every_color(0x100000), "dark": every_color(0x200000)})
    text = drawn(name, theme, **what)
    ours = {color for pair in DARK.items() for color in pair}
    assert not ours & set(re.findall("#[0-9a-f]{6}", text))
    for color in ours:
        red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
        assert f"red,{red};green,{green};blue,{blue}}}" not in text


def test_a_theme_moves_nothing():
    theme = Theme.load(EXAMPLE)

    def places(text):
        picture = ET.fromstring(text)
        return [(e.get("x"), e.get("y"), e.get("d"), e.get("points"), e.get("textLength")) for e in picture.iter()][5:]

    assert places(drawn("svg", theme)) == places(drawn("svg"))


def test_the_font_stands_in_svg_and_dot_and_pictures_keep_the_engines():
    theme = Theme.of({"fonts": {"text": "Georgia, serif", "code": "Fira Code, monospace"}})
    for name in ("svg", "dot"):
        text = drawn(name, theme)
        assert "Georgia, serif" in text
        assert "Fira Code, monospace" in text
        assert "Helvetica" not in text
    assert drawn("png", theme) == drawn("png")
    assert drawn("png", Theme.load("dark")) != drawn("png")


def test_a_dark_theme_is_dark_on_every_page():
    text = drawn("svg", Theme.load("dark"))
    assert f'fill="{DARK["#ffffff"]}"' in text
    assert '[fill="' not in text
    assert '[fill="' not in drawn("svg", Theme.load("light"))
    assert '[fill="' in drawn("svg")


def test_two_names_of_one_color_on_a_light_page_may_differ_on_a_dark_one():
    theme = Theme.of({"light": {"output": "#ffffff", "leaf": "#fff"}, "dark": {"output": "#000001", "leaf": "#000002"}})
    text = drawn("svg", theme)
    assert "{stroke:#000001}" in text
    assert "{stroke:#000002}" in text


def test_a_ramp_of_two_colors_is_spread_over_all_steps():
    theme = Theme.of({"light": {"fill": ["#000000", "#000008"]}})
    assert [theme.light[color] for color in RAMPS["fill"]] == [f"#00000{n}" for n in (0, 2, 4, 6, 8)]


def test_the_example_names_all_there_is():
    data = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    assert set(data["light"]) == {*COLORS, *RAMPS}
    assert set(data["fonts"]) == {"text", "code"}
    Theme.load(EXAMPLE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[light]\npage = 3", r"light\.page is 3; write a colour as '#rrggbb'"),
        ("[light]\npage = 'white'", r"light\.page is 'white'"),
        ("[light]\nfill = ['#fff']", r"light\.fill is \['#fff'\]; give two colours or more"),
        ("[light]\nfill = '#fff'", r"light\.fill is '#fff'; give two"),
        ("[lihgt]\n", r"unknown .*section 'lihgt'.*fonts, light, dark"),
        ("[dark]\npaper = '#fff'", r"unknown .*key in \[dark\] 'paper'.*page"),
        ("light = 1", r"light is 1, which is not a table; write \[light\]"),
        ("[fonts]\ntext = 'a\"b'", r"fonts\.text is 'a\"b'"),
        ("[light\n", r"is not TOML: .*line 1"),
    ],
)
def test_a_wrong_theme_is_told_in_one_line(text, said, tmp_path):
    file = tmp_path / "theme.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ThemeError, match=said) as caught:
        Theme.load(file)
    assert "\n" not in str(caught.value)


def test_a_theme_that_is_missing_is_told_with_those_that_are_built_in():
    with pytest.raises(ThemeError, match=r"'nowhere\.toml' can't be read: no such file or directory; .*light, dark"):
        Theme.load("nowhere.toml")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs LaTeX")
def test_a_themed_tikz_compiles(tmp_path):
    (tmp_path / "picture.tex").write_text(drawn("tikz", Theme.load("dark")), encoding="utf-8")
    (tmp_path / "main.tex").write_text(DOCUMENT, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False).returncode == 0
