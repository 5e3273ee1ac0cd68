"""The formula table, and the readable formulas: against PyTorch's own table and its own gradients."""

from __future__ import annotations

import math

import pytest
import torch

from gradtrace.explain.formulas import formula_line, pinned
from gradtrace.explain.notation import evaluated
from gradtrace.explain.readable import READABLE
from gradtrace.model import BackwardPass, Node
from gradtrace.recording.autograd.derivatives_yaml import TABLE, dumps, read
from tests.builders import partials

# One number at which each is differentiable, away from where formulas are alike.
AT = {"asin": 0.3, "acos": 0.3, "atanh": 0.3, "acosh": 1.7}
UNARY = {
    "Neg": torch.neg, "Reciprocal": torch.reciprocal, "Sqrt": torch.sqrt, "Rsqrt": torch.rsqrt, "Exp": torch.exp,
    "Exp2": torch.exp2, "Expm1": torch.expm1, "Log": torch.log, "Log2": torch.log2, "Log10": torch.log10,
    "Log1P": torch.log1p, "Sin": torch.sin, "Cos": torch.cos, "Tan": torch.tan, "Asin": torch.asin,
    "Acos": torch.acos, "Atan": torch.atan, "Sinh": torch.sinh, "Cosh": torch.cosh, "Tanh": torch.tanh,
    "Asinh": torch.asinh, "Acosh": torch.acosh, "Atanh": torch.atanh, "Erf": torch.erf, "Relu": torch.relu,
    "Abs": torch.abs, "Sigmoid": torch.sigmoid, "LogSigmoid": torch.nn.functional.logsigmoid,
    "Silu": torch.nn.functional.silu,
}  # fmt: skip


@pytest.mark.slow
def test_the_committed_table_is_that_of_the_pinned_torch():
    if torch.__version__.partition("+")[0] != pinned().torch:
        pytest.skip("another torch than the table's")
    assert dumps(read()) == TABLE.read_text(encoding="utf-8")


def test_each_backward_function_of_torch_has_its_formula():
    table = pinned()
    assert len(table) >= 640
    formula = table.formula("PowBackward0", 0)
    assert formula.text == "grad · n · xⁿ⁻¹"


def test_each_readable_formula_names_an_input_of_its_function():
    for op, formulas in READABLE.items():
        assert set(formulas) <= {formula.input for formula in pinned().formulas(op)}, op


@pytest.mark.parametrize("name", UNARY)
def test_a_readable_formula_of_one_input_is_the_derivative(name):
    x = torch.tensor(AT.get(name.lower(), 0.7), dtype=torch.float64, requires_grad=True)
    y = UNARY[name](x)
    y.backward(torch.tensor(3.0, dtype=torch.float64))
    op = type(y.grad_fn).__name__
    values = {"grad": 3.0, "self": x.item(), "result": y.item()}
    expression = READABLE[op]["self"]
    assert evaluated(expression, values) == pytest.approx(x.grad.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "function"), [("Add", torch.add), ("Sub", torch.sub), ("Mul", torch.mul), ("Div", torch.div)]
)
def test_a_readable_formula_of_two_inputs_is_each_derivative(name, function):
    x, y = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.7, -1.3))
    (function(x, y) * 3).backward()
    values = {"grad": 3.0, "self": 0.7, "other": -1.3, "alpha": 1}
    for argument, leaf in (("self", x), ("other", y)):
        assert evaluated(READABLE[f"{name}Backward0"][argument], values) == pytest.approx(leaf.grad.item(), rel=1e-12)


def test_a_power_by_its_exponent_has_the_logarithm():
    x, n = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.7, 2.5))
    y = x**n
    y.backward()
    values = {"grad": 1.0, "self": 0.7, "exponent": 2.5, "result": y.item()}
    assert evaluated(READABLE["PowBackward1"]["exponent"], values) == pytest.approx(n.grad.item(), rel=1e-12)


def test_a_picture_writes_the_formula_with_the_attributes_put_in():
    graph = partials()
    lines = {node.id: formula_line(graph, node, pinned()) for node in graph.nodes if node.kind == "function"}
    assert lines["n4"] == "grad · 3 · v²"
    assert lines["n2"] == "grad · v, grad · u"


def test_a_custom_function_has_no_formula():
    node = Node("n1", "function", "MyBackward")
    assert formula_line(BackwardPass(1, "backward", (node,)), node, pinned()) == ""
    assert pinned().formula("MyBackward", 0) is None
    assert math.isclose(evaluated("2*pi", {}), math.tau)
