"""The table of ops, held against PyTorch itself."""

import pytest

from gradtrace.explain.formulas import pinned
from gradtrace.ops import OPS, op_name

INVERTED = [name for name, op in OPS.items() if op.inverse]


@pytest.mark.parametrize("name", INVERTED)
def test_the_inverse_gives_back_what_the_op_was_given(name):
    import torch  # noqa: PLC0415 - 1.5 s

    function = getattr(torch, name.lower())
    result = function(torch.tensor(0.3, dtype=torch.float64, requires_grad=True))
    assert op_name(type(result.grad_fn).__name__) == name
    assert OPS[name].inverse(result.item()) == pytest.approx(0.3)


def test_each_op_is_one_of_pytorch():
    unknown = {name for name in OPS if not any(f"{name}Backward{number}" in pinned() for number in range(3))}
    assert unknown == {"CopySlices", "Dropout"}
