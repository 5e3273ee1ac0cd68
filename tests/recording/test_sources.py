"""Sources: the exact expression of each op, whatever the code around it looks like."""

from __future__ import annotations

import functools
import importlib
import linecache
import sys
import textwrap

import pytest
import torch

import gradtrace

CODE = """
import functools
import torch
from torch.nn import functional as F

x = torch.ones(3, requires_grad=True)

def decorate(function):
    @functools.wraps(function)
    def wrapped(*args):
        return function(*args)
    return wrapped

@decorate
def multi(a):
    return (
        a.sin()
        + a.cos(
        )
    )

λ = lambda größe: größe.tanh()  # 中文
total = sum([(é * 2).exp() for é in (x,)], x); y = multi(x)*λ(x);  z = "日本語" and x.sqrt()
both = F.gelu(x) + torch.nn.functional.layer_norm(x, (3,))
inplace = x * 1
inplace += 2
inplace[0] = 7
class Model:
    def __call__(self, a): return a.sigmoid()
w = Model()(x) @ x
(total + y + z + both + inplace).sum().mul(w).backward()
"""

# Each op, the line that holds it, and the text that must be cut out of it.
EXPECTED = {
    "SinBackward0": "a.sin()",
    "CosBackward0": "a.cos(\n        )",
    "TanhBackward0": "größe.tanh()",
    "ExpBackward0": "(é * 2).exp()",
    "SqrtBackward0": "x.sqrt()",
    "GeluBackward0": "F.gelu(x)",
    "NativeLayerNormBackward0": "torch.nn.functional.layer_norm(x, (3,))",
    "SigmoidBackward0": "a.sigmoid()",
    "DotBackward0": "Model()(x) @ x",
    "CopySlices": "inplace[0]",  # what Python says of an assignment
    "SumBackward0": "(total + y + z + both + inplace).sum()",
}


@pytest.fixture
def nodes(tmp_path):
    """The nodes of the code's pass, when it is a file of the user's."""
    path = tmp_path / "code.py"
    path.write_text(CODE, encoding="utf-8")
    with gradtrace.record() as recording:
        exec(compile(CODE, str(path), "exec"), {"__name__": "code"})
    (graph,) = recording.trace.passes
    assert graph.call.text.endswith(".backward()")
    return [node for node in graph.nodes if node.kind == "function"]


def test_each_op_shows_its_own_expression(nodes):
    found = {node.op: node.source.text for node in nodes}
    assert {op: found.get(op) for op in EXPECTED} == EXPECTED


def test_lines_and_columns_cut_the_text_out_of_the_file(nodes):
    lines = CODE.splitlines()
    for node in nodes:
        source = node.source
        if source.line == source.end_line:
            assert lines[source.line - 1][source.column : source.end_column] == source.text
        else:
            whole = "\n".join(lines[source.line - 1 : source.end_line])
            assert whole[source.column :].startswith(source.text)


def test_a_function_is_told_with_its_qualified_name(nodes):
    names = {node.op: node.source.function for node in nodes}
    assert names["SinBackward0"] == "multi"
    assert names["TanhBackward0"] == "<lambda>"
    assert names["SigmoidBackward0"] == "Model.__call__"
    assert names["ExpBackward0"] in {"<listcomp>", "<module>"}


def test_all_nodes_of_a_composite_op_point_to_its_one_call():
    torch.manual_seed(0)
    attention = torch.nn.MultiheadAttention(4, 2)
    x = torch.randn(3, 1, 4)
    with gradtrace.record() as recording:
        attention(x, x, x)[0].sum().backward()
    places = {
        (n.source.line, n.source.text) for n in recording.trace.passes[0].nodes if n.source and n.op != "SumBackward0"
    }
    assert {text for _, text in places} == {"attention(x, x, x)"}


def test_code_without_a_file_has_a_line_and_no_text():
    names = {"torch": torch}
    with gradtrace.record() as recording:
        exec("x = torch.ones(2, requires_grad=True)\ny = x.sin().sum()\ny.backward()", names)
    sources = {node.op: node.source for node in recording.trace.passes[0].nodes}
    assert (sources["SinBackward0"].filename, sources["SinBackward0"].line) == ("<string>", 2)
    assert sources["SinBackward0"].text == ""


def test_code_whose_text_python_knows_shows_it_as_notebooks_do():
    text = "z = (x.sin() +\n     x.cos())\nz.sum().backward()\n"
    linecache.cache["<cell 7>"] = (len(text), None, text.splitlines(keepends=True), "<cell 7>")
    with gradtrace.record() as recording:
        exec(compile(text, "<cell 7>", "exec"), {"x": torch.ones(2, requires_grad=True)})
    found = {node.op: node.source.text for node in recording.trace.passes[0].nodes if node.source}
    assert (found["CosBackward0"], found["AddBackward0"]) == ("x.cos()", "x.sin() +\n     x.cos()")


def test_a_cell_that_marimo_runs_without_its_indentation_shows_the_text_of_the_file():
    cell = 'y = x.sin() + "é" * 0 if False else x**2\nz = (y +\n     x.cos())\nz.sum().backward()\n'
    text = textwrap.indent(cell, "    ")
    linecache.cache["notebook.py"] = (len(text), None, text.splitlines(keepends=True), "notebook.py")
    with gradtrace.record() as recording:
        exec(compile(cell, "notebook.py", "exec"), {"x": torch.ones(2, requires_grad=True)})
    found = {node.op: node.source.text for node in recording.trace.passes[0].nodes if node.source}
    assert found["PowBackward0"] == "x**2"
    assert (found["CosBackward0"], found["AddBackward0"]) == ("x.cos()", "y +\n         x.cos()")
    assert recording.trace.passes[0].call.text == "z.sum().backward()"


def test_a_library_of_site_packages_keeps_its_line_beside_the_user_s(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages" / "layers_of_theirs"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(
        textwrap.dedent("""
        def activate(x):
            return x.sigmoid() * 2
        def train(x):
            activate(x).sum().backward()
    """)
    )
    monkeypatch.syspath_prepend(folder.parent)
    theirs = importlib.import_module("layers_of_theirs")
    x = torch.ones(2, requires_grad=True)
    with gradtrace.record() as recording:
        activated = theirs.activate(x)
        activated.sum().backward()
        functools.partial(theirs.train)(x)
    node = next(node for node in recording.trace.passes[0].nodes if node.op == "SigmoidBackward0")
    assert node.source.text == "theirs.activate(x)"
    assert (node.library.filename, node.library.line, node.library.text) == (
        "layers_of_theirs/__init__.py", 3, "x.sigmoid()",
    )  # fmt: skip
    assert recording.trace.passes[1].call.text == "functools.partial(theirs.train)(x)"
    del sys.modules["layers_of_theirs"]
