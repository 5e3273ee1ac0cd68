"""The table of ops, held against PyTorch itself."""

import pytest

from gradtrace.explain.formulas import pinned
from gradtrace.ops import OPS, op_name

INVERTED = [name for name, op in OPS.items() if op.inverse]
RECOMPUTED = [name for name, op in OPS.items() if op.recompute]


@pytest.mark.parametrize("name", RECOMPUTED)
def test_the_function_to_recompute_an_op_makes_the_node_of_that_name(name):
    import torch  # noqa: PLC0415 - 1.5 s

    result = getattr(torch, OPS[name].recompute)(torch.tensor(0.5, requires_grad=True))
    assert op_name(type(result.grad_fn).__name__) == name


@pytest.mark.parametrize("name", INVERTED)
def test_the_inverse_gives_back_what_the_op_was_given(name):
    import torch  # noqa: PLC0415 - 1.5 s

    function = getattr(torch, name.lower())
    result = function(torch.tensor(0.3, dtype=torch.float64, requires_grad=True))
    assert op_name(type(result.grad_fn).__name__) == name
    assert OPS[name].inverse(result.item()) == pytest.approx(0.3)


@pytest.mark.parametrize("name", [name for name, op in OPS.items() if op.least is not None])
def test_below_its_least_input_an_op_has_no_value_and_so_no_derivative(name):
    import torch  # noqa: PLC0415 - 1.5 s

    below = torch.tensor(OPS[name].least - 0.5, requires_grad=True)
    result = getattr(torch, name.lower())(below)
    assert result.isnan()
    assert getattr(torch, name.lower())(below + 1).isfinite()


def test_each_op_is_one_of_pytorch():
    unknown = {name for name in OPS if not any(f"{name}Backward{number}" in pinned() for number in range(3))}
    assert unknown == {"CopySlices", "Dropout"}
