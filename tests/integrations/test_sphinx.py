import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

import pytest

pytest.importorskip("sphinx")

from gradtrace import engine, tracefile
from gradtrace.documents import script as scripts
from gradtrace.errors import EngineError
from gradtrace.formats import svg
from gradtrace.integrations.sphinx_graph import PACKAGE
from tests import builders
from tests.integrations.projects import HEAD, PARTIALS, build, write

PAGE = """
The gradient is :grad:`partials.py::v`.

.. gradtrace:: partials.py
   :caption: f and *its* partial derivatives
   :name: fig-partials
   :alt: a graph <of> f
   :class: wide
   :align: right
   :width: 80%
   :show: source, graph, table
   :show-source-link:

See :ref:`fig-partials`.

.. gradtrace::
   :context:
   :filename-prefix: square

   import torch
   x = torch.tensor(3.0, requires_grad=True)
   (x * x).backward()

.. gradtrace::
   :context:
   :raises: RuntimeError

   y = x**3
   y.backward()
   y.backward()

.. gradtrace:: lessons:cube
   :include-source:
"""
MODULE = """import torch

def cube():
    x = torch.tensor(2.0, requires_grad=True)
    return x**3
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with each way to name a script, built as HTML; the scripts run once for all builders."""
    folder = tmp_path_factory.mktemp("project")
    conf = "import sys\nsys.path.insert(0, '.')\nsys.path.insert(0, __file__.rpartition('/')[0])\nnumfig = True"
    write(folder, PAGE, conf, **{"lessons.py": MODULE})
    return folder, build(folder)


@pytest.fixture
def no_runs(monkeypatch):
    """Let no script run: what is built comes from the cache, or needs none."""

    def refuse(command, _):
        raise AssertionError(f"ran {command}")

    monkeypatch.setattr(scripts, "_child", refuse)


def graphs(html):
    """The pictures of a page, parsed."""
    return [ET.fromstring(picture) for picture in re.findall(r"<svg .*?</svg>", html, re.DOTALL)]


def texts(element, tag):
    return [found.text for found in element.iter() if found.tag.rpartition("}")[2] == tag]


def with_trace(folder, body, conf="", **files):
    """Write a project around a saved trace, which needs no torch and no time."""
    tracefile.save(builders.trace(), folder / "saved.json")
    write(folder, body, conf, **files)
    return folder


def test_a_project_builds_without_a_warning(project):
    assert (project[1].warnings, project[1].code) == ("", 0)


def test_each_directive_becomes_a_picture_with_its_gradients_in_the_page(project):
    found = graphs(project[1].html)
    assert len(found) == 4
    assert "∂f/∂v = 50" in texts(found[0], "text")
    assert any("50" in (text or "") for text in texts(found[0], "title"))


def test_the_role_is_the_number_in_the_sentence(project):
    assert 'The gradient is <span class="gradtrace-value">50</span>.' in project[1].html


def test_the_options_of_docutils_reach_the_page(project):
    html = project[1].html
    assert graphs(html)[0].get("aria-label") == "a graph <of> f"
    assert "width:80%" in graphs(html)[0].get("style")
    figure = re.search(r"<figure [^>]*>", html)[0]
    assert "wide" in figure
    assert "align-right" in figure
    assert 'id="fig-partials"' in figure
    assert "<em>its</em> partial derivatives" in html
    assert re.search(r'href="#fig-partials"[^>]*><span[^>]*>f and its partial derivatives', html)


def test_what_show_names_stands_there_in_its_order_with_a_link_to_the_script(project):
    html = project[1].html
    source, graph, table = html.index("v is used twice"), html.index("<svg"), html.index("flows on to")
    assert source < graph < table
    assert re.search(r'href="_downloads/\w+/partials.py"', html)
    (copy,) = project[1].out.glob("_downloads/*/partials.py")
    assert copy.read_bytes() == PARTIALS.read_bytes()


def test_code_goes_on_in_the_context_of_the_code_before_it(project):
    assert any("y.backward() · index.py:6" in text for text in texts(graphs(project[1].html)[2], "text"))


def test_an_error_that_was_announced_is_drawn_and_not_warned_of(project):
    assert "stopped by RuntimeError" in graphs(project[1].html)[2].get("aria-label")


def test_an_attribute_of_a_module_is_called_and_its_definition_shown(project):
    html = project[1].html
    assert "cube = 8; gradient of leaf = 12" in graphs(html)[3].get("aria-label")
    assert re.search(r'<span class="nf">cube</span>', html)


@pytest.mark.usefixtures("no_runs")
def test_each_box_leads_to_its_line_where_the_configuration_says_where(project):
    built = build(project[0], "singlehtml", gradtrace_link="https://example.org/{path}#L{line}")
    boxes = graphs(built.html)[0].iter("{http://www.w3.org/2000/svg}a")
    assert {box.get("href") for box in boxes} == {"https://example.org/partials.py#L6"}
    assert texts(graphs(built.html)[0], "text") == texts(graphs(project[1].html)[0], "text")


@pytest.mark.usefixtures("no_runs")
def test_other_builders_take_the_traces_of_the_first(project):
    built = build(project[0], "text")
    assert built.warnings == ""
    assert re.search(r"n5  leaf +v = 4 +50", built.text("index.txt"))
    assert "<svg" not in built.text("index.txt")


@pytest.mark.usefixtures("no_runs")
def test_man_pages_have_the_table(project):
    built = build(project[0], "man", man_pages=[("index", "page", "", [], 1)])
    assert built.warnings == ""
    assert re.search(r"n5  leaf +v = 4 +50", built.text("page.1"))


@pytest.mark.usefixtures("no_runs")
def test_latex_gets_pdf_files_named_by_their_prefix(project):
    built = build(project[0], "latex")
    assert built.warnings == ""
    (tex,) = built.out.glob("*.tex")
    names = re.findall(r"\\(?:sphinxinclude|gradtrace)graphics(?:\[(.*?)\])?\{(.*?)\}", tex.read_text(encoding="utf-8"))
    assert len(names) == 4
    assert names[0][0] == r"width=0.8\linewidth"
    assert [name.startswith("square-") for _, name in names] == [False, True, False, False]
    assert all((built.out / name).read_bytes().startswith(b"%PDF") for _, name in names)
    assert r"\usepackage{gradtrace}" in tex.read_text(encoding="utf-8")
    assert (built.out / "gradtrace.sty").is_file()


TYPESET = r"""\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage{gradtrace}
\newcommand\measured[1]{\setbox0\hbox{\gradtracegraphics{#1}}\typeout{#1: \the\wd0 \the\ht0}}
\begin{document}
\typeout{page: \the\linewidth \the\textheight}
\measured{small}\measured{tall}\measured{wide}
\begin{verbatim}
▏▎▍▌▋▊▉█✗✓‖∂→−≤≥≠∞√∏Σσπ⁻⁺ⁿⁱʲᵏᵀ⁰⁴⁵⁶⁷⁸⁹ᵢ▶←·…×
\end{verbatim}
\end{document}
"""


@pytest.mark.latex
@pytest.mark.usefixtures("latex")
def test_pdflatex_has_all_that_tables_are_written_with_and_pictures_leave_room_for_captions(tmp_path):
    shutil.copy(PACKAGE, tmp_path)
    for name, width, height in (("small", 2, 2), ("tall", 2, 40), ("wide", 40, 2)):
        dot = f"digraph {{pad=0 margin=0 a [fixedsize=true shape=box width={width} height={height}]}}"
        (tmp_path / f"{name}.pdf").write_bytes(engine.draw(dot, "pdf"))
    (tmp_path / "main.tex").write_text(TYPESET, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    found = re.findall(r"(\w+): ([\d.]+)pt([\d.]+)pt", done.stdout)
    sizes = {name: (float(width), float(height)) for name, width, height in found}
    assert sizes["small"] == pytest.approx((0.7 * 2 * 72.27, 0.7 * 2 * 72.27), rel=0.02)
    assert sizes["tall"][1] == pytest.approx(0.8 * sizes["page"][1], rel=0.01)
    assert sizes["wide"][0] == pytest.approx(sizes["page"][0], rel=0.01)


def test_an_interactive_graph_is_the_page_in_html_and_the_picture_in_latex(tmp_path):
    write(tmp_path, ".. gradtrace:: partials.py\n   :interactive:\n   :height: 400\n")
    html = build(tmp_path).html
    assert 'sandbox="allow-scripts"' in html
    assert "height:400px" in html
    assert "<svg" not in html
    built = build(tmp_path, "latex")
    assert "gradtrace-" in next(built.out.glob("*.tex")).read_text(encoding="utf-8")


def test_the_same_document_gives_the_same_bytes(project):
    first = project[1].html
    (project[0] / "index.rst").touch()
    assert build(project[0]).html == first


def test_the_same_project_in_two_folders_gives_the_same_bytes(tmp_path):
    code = "   import torch\n   x = torch.ones(2).requires_grad_()\n   (x * x).sum().backward()\n"
    body = f".. gradtrace::\n   :show: source, graph, table\n\n{code}\n.. gradtrace:: saved.json\n"
    made = []
    for folder in (tmp_path / "one", tmp_path / "two" / "deeper"):
        folder.mkdir(parents=True)
        with_trace(folder, body)
        outs = [build(folder, builder).out for builder in ("html", "latex", "man", "text")]
        files = [file for out in outs for file in out.rglob("*") if file.is_file()]
        made.append({str(file.relative_to(folder)): file.read_bytes() for file in files})
    assert made[0].keys() == made[1].keys()
    assert [name for name, data in made[0].items() if made[1][name] != data] == []


def test_a_document_is_read_again_when_what_its_script_imports_has_changed(tmp_path, monkeypatch):
    ran = []
    real = scripts._run
    monkeypatch.setattr(scripts, "_run", lambda script: (ran.append(script.name), real(script))[1])
    broken = ".. gradtrace::\n   :raises: KeyError\n\n   from lessons import cube\n   cube().backward()\n   {}['x']\n"
    write(tmp_path, broken, **{"lessons.py": MODULE})
    first = build(tmp_path)
    labels = [graphs(first.html)[0].get("aria-label")]
    assert ran == ["index.py"]
    (tmp_path / "lessons.py").write_text(MODULE.replace("2.0", "3.0"), encoding="utf-8")
    second = build(tmp_path)
    assert ran == ["index.py", "index.py"]
    assert (first.warnings, second.warnings) == ("", "")  # an error that was announced comes again
    labels.append(graphs(second.html)[0].get("aria-label"))
    assert [label.rpartition(" = ")[2] for label in labels] == ["12", "27"], labels


def test_a_change_of_the_code_or_of_a_version_runs_it_again(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(scripts, "_child", lambda _, script: (ran.append(script.code), (2, "gradtrace: no"))[1])
    for code in ("a = 1", "a = 2"):
        scripts.run(scripts.Script("x.py", code, str(tmp_path)), tmp_path)
    key = scripts._key(scripts.Script("x.py", "a", "."))
    monkeypatch.setattr(scripts, "_versions", lambda: ("other",))
    assert ran == ["a = 1", "a = 2"]
    assert scripts._key(scripts.Script("x.py", "a", ".")) != key


WRONG = {
    "a missing script": (".. gradtrace:: nope.py", 4, "no such file: 'nope.py'"),
    "an unknown option": (".. gradtrace:: saved.json\n   :nope: 1", 4, 'unknown option: "nope"'),
    "an unknown part": (".. gradtrace:: saved.json\n   :show: nope", 4, "choose from source, graph, table"),
    "an unknown pass": (".. gradtrace:: saved.json\n   :pass: 7", 4, "unknown pass '7'; choose from 1, last"),
    "parts without a name": (".. gradtrace:: saved.json\n   :show:", 4, "unknown part ''"),
    "a pass without a number": (".. gradtrace:: saved.json\n   :pass:", 4, "choose from a number from 1, last"),
    "a timeout without a number": (".. gradtrace:: saved.json\n   :timeout:", 4, "must be a number of seconds above 0"),
    "a pass that is none": (".. gradtrace:: saved.json\n   :pass: first", 4, "choose from a number from 1, last"),
    "a wrong timeout": (".. gradtrace:: saved.json\n   :timeout: 0", 4, "must be a number of seconds above 0"),
    "neither script nor code": (".. gradtrace::", 4, "needs a script or code"),
    "both script and code": (".. gradtrace:: saved.json\n\n   x = 1", 4, "not both"),
    "a role without a name": ("word :grad:`saved.json`", 4, "write path/to/script.py::name"),
    "a role with a wrong name": ("word\n:grad:`saved.json::w`", 5, "unknown tensor 'w'; choose from f, u, v"),
    "a trace that is none": (".. gradtrace:: broken.json", 4, "is not a gradtrace trace"),
    "an error that does not come": (".. gradtrace:: saved.json\n   :raises: ValueError", 4, "was expected to raise"),
}


@pytest.mark.usefixtures("no_runs")
@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_is_one_warning_at_the_documents_line(tmp_path, name):
    body, line, words = WRONG[name]
    built = build(with_trace(tmp_path, f"{body}\n\nThe page goes on.\n", **{"broken.json": "{}"}))
    assert words in built.warnings
    assert len(re.findall("WARNING|ERROR", built.warnings)) == 1
    assert f"index.rst:{line}: " in built.warnings
    assert "The page goes on." in built.html


def test_scripts_that_fail_hang_or_compute_no_gradient_are_warned_of_and_the_page_goes_on(tmp_path):
    body = """.. gradtrace::

   a = 1

   raise ValueError("no <luck>")

.. gradtrace::
   :timeout: 0.5

   import time
   time.sleep(60)

.. gradtrace::

   print(1)

.. gradtrace::

   def broken(:

.. gradtrace::

   raise SystemExit(4)

The page goes on.
"""
    write(tmp_path, body)
    built = build(tmp_path)
    found = [line for line in built.warnings.splitlines() if "WARNING" in line]
    assert re.fullmatch(r".*index.rst:8: WARNING: 'index.py' ended in ValueError: no <luck>", found[0])
    assert 'File "index.py", line 3, in <module>\n    raise ValueError("no <luck>")' in built.warnings
    assert re.search(r"index.rst:10: WARNING: 'index.py' ran for more than 0.5 s and was stopped", found[1])
    assert re.search(r"index.rst:16: WARNING: 'index.py' computes no gradient", found[2])
    assert re.search(r"index.rst:20: WARNING: 'index.py' can't be run: .*not valid Python", found[3])
    assert re.search(r"index.rst:24: WARNING: 'index.py' ended with exit code 4", found[4])
    assert len(found) == 5
    assert "The page goes on." in built.html


def test_the_line_of_a_failure_is_right_in_markdown_too(tmp_path, monkeypatch):
    pytest.importorskip("myst_parser")
    ran = scripts.Ran(None, problem="no", details="Traceback", line=2, error="ValueError")
    monkeypatch.setattr(scripts, "_run", lambda _: ran)
    write(tmp_path, "", "extensions += ['myst_parser']\nroot_doc = 'page'\nexclude_patterns = ['index.rst']")
    page = "# T\n\n```{gradtrace}\n:caption: c\n\na = 1\nb = 2\n```\n"
    (tmp_path / "page.md").write_text(page, encoding="utf-8")
    assert "page.md:7: WARNING: no\nTraceback" in build(tmp_path).warnings


@pytest.mark.usefixtures("no_runs")
def test_what_is_wrong_in_an_included_file_is_told_with_that_files_line(tmp_path, monkeypatch):
    ran = scripts.Ran(None, problem="failed", line=2, error="ValueError")
    monkeypatch.setattr(scripts, "_run", lambda _: ran)
    body = "* text\n\n  .. gradtrace::\n\n     a = 1\n     b = 2\n\n.. gradtrace:: nope.py\n"
    write(tmp_path, ".. include:: part.txt\n", **{"part.txt": body})
    warnings = build(tmp_path).warnings
    assert "part.txt:6: WARNING: failed" in warnings
    assert "part.txt:8: WARNING: no such file" in warnings


def test_what_a_stopped_script_started_is_stopped_too(tmp_path):
    mark = tmp_path / "mark"
    child = f"import time; f = open({str(mark)!r}, 'w'); time.sleep(3); f.write('alive'); f.close()"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])"
    script = scripts.Script("x.py", code, str(tmp_path), timeout=2.0)
    assert scripts._child([sys.executable, "-c", code], script) == (None, "")
    time.sleep(2)
    assert mark.read_text(encoding="utf-8") == ""


@pytest.mark.usefixtures("no_runs")
def test_documents_are_read_and_written_in_parallel(tmp_path):
    pages = {f"page{i}.rst": f"{HEAD}.. gradtrace:: saved.json\n" for i in range(8)}
    toc = ".. toctree::\n   :glob:\n\n   page*\n"
    built = build(with_trace(tmp_path, toc, **pages), parallel=2)
    assert built.warnings == ""
    assert all("∂f/∂v = 50" in built.text(f"page{i}.html") for i in range(8))


@pytest.mark.usefixtures("no_runs")
def test_paths_start_at_the_document_the_source_folder_or_the_configured_folders(tmp_path):
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "examples").mkdir()
    with_trace(tmp_path / "docs", ".. toctree::\n\n   deep/page\n", "gradtrace_path = ['..']")
    tracefile.save(builders.trace(), tmp_path / "examples" / "other.json")
    names = ("../saved.json", "/saved.json", "saved.json", "examples/other.json")
    page = HEAD + "".join(f".. gradtrace:: {name}\n\n" for name in names)
    (tmp_path / "docs" / "deep" / "page.rst").write_text(page, encoding="utf-8")
    built = build(tmp_path / "docs")
    assert built.warnings == ""
    assert len(graphs(built.text("deep/page.html"))) == 4


@pytest.mark.usefixtures("no_runs")
def test_the_configuration_says_what_is_shown_by_default(tmp_path):
    built = build(with_trace(tmp_path, ".. gradtrace:: saved.json\n", "gradtrace_show = ['table']"))
    assert "<svg" not in built.html
    assert "flows on to" in built.html


@pytest.mark.usefixtures("no_runs")
def test_a_directive_has_the_last_word_on_what_the_configuration_shows(tmp_path):
    body = ".. gradtrace:: saved.json\n   :include-source: no\n\n.. gradtrace:: saved.json\n   :show-source-link: no\n"
    built = build(with_trace(tmp_path, body, "gradtrace_show_source_link = gradtrace_include_source = True"))
    assert built.html.count("highlight-python") == 1
    assert built.html.count("_downloads/") == 1
    assert "unknown" not in built.warnings


@pytest.mark.usefixtures("no_runs")
@pytest.mark.parametrize(("dark", "bound"), [("yes", True), ("no", False), ("auto", True)])
def test_a_picture_turns_dark_with_its_page(tmp_path, dark, bound):
    built = build(with_trace(tmp_path, ".. gradtrace:: saved.json\n", f"gradtrace_dark = {dark!r}"))
    assert ("prefers-color-scheme" in built.html) == bound
    assert '[data-theme="dark"]' in built.html.replace("&quot;", '"')


@pytest.mark.usefixtures("no_runs")
def test_where_the_engine_fails_the_table_stands_in_with_a_warning(tmp_path, monkeypatch):
    def fail(*_):
        raise EngineError("no luck")

    monkeypatch.setattr(svg, "draw", fail)
    built = build(with_trace(tmp_path, ".. gradtrace:: saved.json\n"))
    assert "index.rst:4: WARNING: no luck" in built.warnings
    assert "flows on to" in built.html
