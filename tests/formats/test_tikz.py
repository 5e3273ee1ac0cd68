import string
import subprocess

import pytest

from gradtrace.formats.base import Style
from gradtrace.formats.tikz import render
from gradtrace.model import BackwardPass
from tests import builders
from tests.fold.graphs import repeated
from tests.formats.test_folds import ribbon

DOCUMENT = r"""\documentclass{article}
\usepackage{tikz}
\begin{document}
\resizebox{\textwidth}{!}{\input{picture}}
\end{document}
"""


def compiled(graph, folder):
    (folder / "picture.tex").write_text(render(builders.report(graph), Style()), encoding="utf-8")
    (folder / "main.tex").write_text(DOCUMENT, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    return (folder / "main.pdf").read_bytes()


def test_each_box_and_each_link_is_drawn_once_where_the_engine_put_it():
    text = render(builders.report(), Style())
    assert text.count("\\node[draw=") == 8
    assert text.count("\\draw[") == 9
    assert "∂" not in text
    assert text.isascii()
    assert render(builders.report(), Style()) == text


@pytest.mark.latex
@pytest.mark.usefixtures("latex")
@pytest.mark.parametrize(
    "graph", [builders.partials(), repeated(4, 60), ribbon(60)], ids=["small", "folded", "columns"]
)
def test_it_compiles_with_a_plain_latex(graph, tmp_path):
    assert compiled(graph, tmp_path).startswith(b"%PDF")


@pytest.mark.latex
@pytest.mark.usefixtures("latex")
@pytest.mark.parametrize("text", [string.punctuation, "é 漢 ‖ ∂ × …", "[x] -- \\end{document}"])
def test_any_text_of_a_script_compiles(text, tmp_path):
    node = builders.function("n0", "XBackward0", text, 1.0, order=0)
    assert compiled(BackwardPass(1, "backward", (node,)), tmp_path)
