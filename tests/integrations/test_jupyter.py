import re
import xml.etree.ElementTree as ET

import pytest

pytest.importorskip("nbclient")

from tests.integrations.notebooks import printed, run, shown

CELLS = {
    "load": "import torch\n%load_ext gradtrace",
    "partials": """%%gradtrace
u, v = torch.tensor(2.0, requires_grad=True), torch.tensor(4.0, requires_grad=True)
f = u**2 + v**3 + u*v
f.backward()
print("du", u.grad.item())""",
    "plain": "(u * 3).backward(); u.grad.item()",
    "value": "%%gradtrace\nw = u.detach().requires_grad_()\n(w * 5).backward()\nw.grad",
    "seeded": "%%gradtrace\ng = w * w\n",
    "draw": "import gradtrace\nloss = u * v\ngradtrace.draw(loss)",
    "last": "loss",
    "again": "trace = gradtrace.draw(loss)\ntrace",
    "nothing": "%%gradtrace\n1 + 1",
    "options": "%%gradtrace --pass 1 --as kept -o first.svg\n(u * 7).backward()\n(u * 8).backward()",
    "kept": "len(kept.passes), open('first.svg').read().count('<svg')",
    "raises": "%%gradtrace\nh = u.exp()\nh.backward()\nh.backward()",
    "unknown format": "%%gradtrace -o picture.nope\nprint('ran')",
    "unknown option": "%%gradtrace --nope\nprint('ran')",
    "unknown pass": "%%gradtrace --pass 9\n(u * 7).backward()",
    "awaits": """%%gradtrace --as awaited
import asyncio
a = torch.tensor(3.0, requires_grad=True)
await asyncio.sleep(0.01)
b = a * 7
b.backward()
await asyncio.sleep(0.01, a.grad.item())""",
    "awaits and raises": "%%gradtrace\nimport asyncio\nawait asyncio.sleep(0)\n(a * a).backward()\n1 / 0",
    "awaits no more": "%%gradtrace\nasync def inner():\n    await asyncio.sleep(0)\n(a * 2).backward()",
    "awaits by hand": 'get_ipython().run_cell_magic("gradtrace", "", "import asyncio\\nawait asyncio.sleep(0)")',
    "module": "import sys\nsorted(name for name in sys.modules if name.startswith('sphinx'))",
}


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """The outputs of each cell of one notebook, executed once: a kernel takes seconds to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        return dict(zip(CELLS, run(*CELLS.values(), allow_errors=True), strict=True))


def rows(outputs):
    """The lines of the table that a cell shows."""
    return shown(outputs)[0].splitlines()


def test_a_cell_runs_in_the_notebooks_namespace_and_shows_its_graph_once(notebook):
    outputs = notebook["partials"]
    assert printed(outputs) == "du 8.0\n"
    (svg,) = shown(outputs, "image/svg+xml")
    assert ET.fromstring(svg).tag.endswith("svg")
    assert shown(notebook["plain"]) == ["11.0"]


def test_tensors_are_named_by_the_notebooks_variables_and_expressions_by_the_cells_lines(notebook):
    table = shown(notebook["partials"])[0]
    assert re.search(r"leaf +v = 4 +50\b", table)
    assert re.search(r"PowBackward0 +v\*\*3 = 64 .* cell 2:3", table)
    assert "f.backward() · cell 2:4" in table
    assert "cell 2 · backward pass" in shown(notebook["partials"], "image/svg+xml")[0]
    assert "ipykernel" not in table


def test_the_value_of_the_last_expression_is_still_shown(notebook):
    assert "tensor(5.)" in shown(notebook["value"])


def test_a_cell_without_backward_is_seeded_from_the_tensors_that_it_made(notebook):
    table = shown(notebook["seeded"])[0]
    assert "seeded by gradtrace" in table
    assert re.search(r"output +g = 4", table)  # the first pass accumulated 8 in u, w is 2
    assert re.search(r"MulBackward0 +g = w \* w = 4 .* cell 5:2", table)


def test_draw_shows_itself_and_a_result_that_was_displayed_keeps_its_variables_name(notebook):
    assert re.search(r"output +loss = 8", shown(notebook["draw"])[0])
    assert re.search(r"output +loss = 8", shown(notebook["again"])[0])


def test_jupyter_is_given_an_svg_and_a_text_and_no_html_that_it_would_prefer_and_cut_down(notebook):
    assert set(notebook["draw"][0].data) == {"image/svg+xml", "text/plain"}


def test_a_cell_without_any_gradient_says_so_and_still_shows_its_value(notebook):
    assert "no backward pass was recorded" in printed(notebook["nothing"], "stderr")
    assert shown(notebook["nothing"]) == ["2"]


def test_the_options_choose_a_pass_keep_the_trace_and_write_the_picture(notebook):
    assert "pass 1 of 2" in shown(notebook["options"])[0]
    assert re.search(r"leaf +u = 2 +7\b", shown(notebook["options"])[0])
    assert shown(notebook["kept"]) == ["(2, 1)"]


def test_a_cell_that_raises_shows_what_was_recorded_then_its_own_traceback(notebook):
    table, error = shown(notebook["raises"])[0], notebook["raises"][-1]
    assert "pass 2 of 2" in table
    assert (error.output_type, error.ename) == ("error", "RuntimeError")
    traceback = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback))
    assert "h.backward()" in traceback
    assert "integrations" not in traceback


@pytest.mark.parametrize("name", ["unknown format", "unknown option"])
def test_wrong_options_are_told_before_the_cell_runs(notebook, name):
    assert printed(notebook[name]) == ""
    assert "nope" in str(notebook[name])


def test_a_pass_that_was_not_made_is_told_with_those_that_were(notebook):
    assert "unknown pass '9'; choose from 1, last" in printed(notebook["unknown pass"], "stderr")


def test_a_cell_may_await_at_its_top_level(notebook):
    table = shown(notebook["awaits"])[0]
    assert re.search(r"leaf +a = 3 +7\b", table)
    assert re.search(r"MulBackward0 +b = a \* 7 = 21 .* cell \d+:5", table)
    assert re.search(r"b\.backward\(\) · cell \d+:6", table)
    assert shown(notebook["awaits"])[1:] == ["7.0"]
    assert "a * 2" in shown(notebook["awaits no more"])[0]
    assert "only a cell that IPython itself has read can await" in str(notebook["awaits by hand"])


def test_a_cell_that_awaits_and_raises_shows_its_own_traceback(notebook):
    table, error = shown(notebook["awaits and raises"])[0], notebook["awaits and raises"][-1]
    assert "(a * a).backward()" in table
    assert (error.output_type, error.ename) == ("error", "ZeroDivisionError")
    traceback = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback))
    assert "1 / 0" in traceback
    assert "integrations" not in traceback


def test_a_notebook_imports_no_sphinx(notebook):
    assert shown(notebook["module"]) == ["[]"]
