import struct
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import graphviz
import pytest

from gradtrace import engine
from gradtrace.engine.widths import width
from gradtrace.errors import EngineError, UnknownNameError

DOT = (
    'digraph { node [fontname="Helvetica,Arial,sans-serif"] u [label="∂f/∂u ‖8‖ × 2²"] v [fontname=monospace] u -> v }'
)
TANGLE = f"digraph {{ {'; '.join(f'a{i} -> b{j}' for i in range(150) for j in range(150) if (i * j) % 7 < 3)} }}"


@pytest.fixture
def no_graphviz(monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda _: None)
    monkeypatch.setattr(engine.shutil, "which", lambda _: None)


def fake_package(folder, body):
    """Return a folder that stands for the pygraphviz package, whose bindings are ``body``."""
    package = folder / "pygraphviz"
    package.mkdir()
    (package / "graphviz.py").write_text(body)
    return package


def fake_wheel(monkeypatch, package):
    spec = type("Spec", (), {"submodule_search_locations": [str(package)]})()
    monkeypatch.setattr(engine, "find_spec", lambda _: spec)


def test_svg_has_the_text_that_the_dot_has():
    texts = [
        element.text for element in ET.fromstring(engine.draw(DOT, "svg")).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert texts == ["∂f/∂u ‖8‖ × 2²", "v"]


def test_png_has_two_pixels_for_each_of_the_screen():
    svg = ET.fromstring(engine.draw(DOT, "svg"))
    png = engine.draw(DOT, "png")
    width = struct.unpack(">I", png[16:20])[0]
    assert png.startswith(b"\x89PNG")
    assert width == pytest.approx(float(svg.get("width", "").removesuffix("pt")) * 192 / 72, abs=3)


def test_a_png_of_a_huge_graph_has_fewer_pixels_and_nothing_is_cut_off():
    wide = f"digraph {{ {' '.join(f'a -> n{i}' for i in range(400))} }}"  # 29,000 pt: 77,000 pixels at full density
    width, height = struct.unpack(">II", engine.draw(wide, "png")[16:24])
    size = ET.fromstring(engine.draw(wide, "svg"))
    points = [float(size.get(key, "").removesuffix("pt")) for key in ("width", "height")]
    assert width < 32_767
    assert width / height == pytest.approx(points[0] / points[1], rel=0.02)


@pytest.mark.parametrize("output", ["svg", "png", "pdf"])
def test_the_bytes_are_the_same_from_run_to_run(output):
    first = engine.draw(DOT, output)
    time.sleep(1.1)  # a PDF bears its second
    assert engine.draw(DOT, output) == first


@pytest.mark.parametrize("output", ["svg", "png", "pdf"])
def test_the_bytes_do_not_depend_on_the_users_fonts_and_locale(output, monkeypatch, tmp_path):
    usual = engine.draw(DOT, output)
    config = tmp_path / "fonts.conf"
    serif = '<edit name="family" mode="assign_replace" binding="strong"><string>DejaVu Serif</string></edit>'
    config.write_text(f'<fontconfig><match target="pattern">{serif}</match></fontconfig>')
    for name, value in {
        "FONTCONFIG_FILE": config,
        "HOME": tmp_path,
        "XDG_CONFIG_HOME": tmp_path,
        "LANG": "tr_TR",
    }.items():
        monkeypatch.setenv(name, str(value))
    assert engine.draw(DOT, output) == usual


def test_a_pdf_embeds_our_fonts_and_no_others():
    pdf = engine.draw(DOT, "pdf")
    assert b"LiberationSans" in pdf
    assert b"LiberationMono" in pdf
    assert b"DejaVu" not in pdf


def test_nothing_of_graphviz_reaches_the_terminal(capfd):
    engine.draw(DOT, "pdf")
    engine.draw("digraph { a [shape=nosuchshape, fontname=nosuchfont] }", "svg")
    assert capfd.readouterr() == ("", "")


def test_a_layout_that_takes_too_long_is_stopped():
    with pytest.raises(EngineError, match=r"took more than 0\.3 s"):
        engine.draw(TANGLE, "svg", timeout=0.3)


def test_text_that_is_not_dot_is_told_in_graphviz_words():
    with pytest.raises(EngineError, match="syntax error in line 1"):
        engine.draw("digraph {", "svg")


def test_a_chain_of_twenty_thousand_nodes_does_not_overflow_the_stack():
    chain = f"digraph {{ {' '.join(f'n{i} -> n{i + 1}' for i in range(19_999))} }}"
    assert engine.draw(chain, "svg").count(b'class="node"') == 20_000


def test_an_unknown_engine_names_the_known_ones():
    with pytest.raises(UnknownNameError, match="'neato'; choose from pygraphviz, dot"):
        engine.draw(DOT, "svg", "neato")


@pytest.mark.usefixtures("no_graphviz")
def test_without_any_graphviz_one_error_says_what_to_install():
    with pytest.raises(EngineError, match=r"no Graphviz.*install pygraphviz.*or Graphviz itself"):
        engine.draw(DOT, "svg")


def test_a_wheel_that_lacks_system_libraries_counts_as_missing(monkeypatch, tmp_path):
    fake_wheel(monkeypatch, fake_package(tmp_path, "raise ImportError('libglib-2.0.so.0: cannot open shared object')"))
    monkeypatch.setattr(engine.shutil, "which", lambda _: None)
    with pytest.raises(EngineError, match="libglib"):
        engine.draw(DOT, "svg")


def test_without_the_wheel_the_systems_dot_draws(monkeypatch, tmp_path):
    dot = tmp_path / "dot"
    dot.write_text(f"#!{sys.executable}\nimport sys\nprint(sys.argv[1:], sys.stdin.read())\n")
    dot.chmod(0o755)
    monkeypatch.setattr(graphviz.backend, "DOT_BINARY", dot)
    monkeypatch.setattr(engine, "find_spec", lambda _: None)
    assert engine.draw("digraph {}", "png") == b"['-Kdot', '-Tpng', '-Gdpi=192'] digraph {}\n"


def test_a_crash_of_graphviz_is_an_error_of_ours(monkeypatch, tmp_path):
    fake_wheel(monkeypatch, fake_package(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))
    with pytest.raises(EngineError, match="ended by signal 11"):
        engine.draw(DOT, "svg")


def test_an_interrupt_leaves_no_child_behind(monkeypatch, tmp_path):
    mark = tmp_path / "still-alive"
    body = f"import time, pathlib; time.sleep(1.5); pathlib.Path({str(mark)!r}).touch()"
    fake_wheel(monkeypatch, fake_package(tmp_path, body))

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        engine.draw(DOT, "svg")
    time.sleep(2)
    assert not mark.exists()


def test_the_fonts_come_with_their_licence():
    fonts = {path.name for path in Path(engine.FONTS).iterdir()}
    assert {"LICENSE", "fonts.conf", "LiberationSans-Regular.ttf"} <= fonts
    assert "SIL OPEN FONT LICENSE" in (engine.FONTS / "LICENSE").read_text()


@pytest.mark.parametrize(("family", "bold"), [("Helvetica", False), ("Helvetica", True), ("Menlo,monospace", False)])
def test_a_texts_width_is_what_graphviz_measures(family, bold):
    text = "∂f/∂v = 64×256, u**2 … AVTo"
    label = f"<<table border='0' cellborder='0' cellspacing='0' cellpadding='0'><tr><td>{text}</td></tr></table>>"
    if bold:
        label = label.replace(text, f"<b>{text}</b>")
    dot = f'digraph {{ graph [pad=0, margin=0] a [shape=plain, fontsize=100, fontname="{family}", label={label}] }}'
    measured = float(ET.fromstring(engine.draw(dot, "svg")).get("width").removesuffix("pt"))
    assert width(text, family, 100, bold=bold) == pytest.approx(measured, rel=0.02)


def test_a_character_that_the_font_lacks_has_no_width():
    assert width("変", "Helvetica", 11) is None
