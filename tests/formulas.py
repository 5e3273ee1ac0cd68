"""Every backward formula that PyTorch's own operator samples reach on the CPU, plain and recorded: a child process.

    python -m tests.formulas RESULTS SAMPLES DTYPE...

Writes a line of JSON to RESULTS before each operator and after it, so that a crash has a name.
"""

from __future__ import annotations

import json
import random
import sys
import warnings
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.recording.recorder import Options, Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Return the tensors among arguments or results, in their order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [tensor for item in value for tensor in tensors_in(item)] if isinstance(value, (list, tuple)) else []


def differentiate(op: Any, sample: Any) -> list[torch.Tensor | None]:
    """Return the gradients of a sample by its leaves, and those of their sum: the formulas of the formulas."""
    torch.manual_seed(0)
    leaves = [t for t in tensors_in([sample.input, sample.args, sample.kwargs]) if t.requires_grad]
    outputs = [t for t in tensors_in(op(sample.input, *sample.args, **sample.kwargs)) if t.requires_grad]
    if not outputs:
        return []
    seeds = [torch.ones_like(output) for output in outputs]
    first = torch.autograd.grad(outputs, leaves, seeds, create_graph=op.supports_gradgrad, allow_unused=True)
    again = [gradient for gradient in first if gradient is not None and gradient.requires_grad]
    if not again:
        return [*first]
    seeds = [torch.ones_like(gradient) for gradient in again]
    return [*first, *torch.autograd.grad(again, leaves, seeds, allow_unused=True)]


def same(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    """Tell whether two gradients are the same to the last bit, and alike in all else."""
    if one is None or other is None:
        return one is other
    if one.layout is not torch.strided:
        one, other = one.to_dense(), other.to_dense()
    alike = (one.shape, one.dtype, one.stride()) == (other.shape, other.dtype, other.stride())
    return alike and torch.equal(torch.nan_to_num(one.detach()), torch.nan_to_num(other.detach()))


def samples_of(op: Any, dtype: torch.dtype, count: int) -> list[Any]:
    """Return samples, the same at each call."""
    torch.manual_seed(1)
    random.seed(1)
    # Not op.sample_inputs(), which searches the stack for each.
    return list(islice(op.sample_inputs_func(op, "cpu", dtype, True), count))


def expected_of(op: Any, dtype: torch.dtype, count: int) -> list[list[torch.Tensor | None] | None]:
    """Return the gradients of some samples of an operator; None for one that has no derivative, or no second one."""
    found: list[list[torch.Tensor | None] | None] = []
    for sample in samples_of(op, dtype, count):
        try:
            found.append(differentiate(op, sample))
        except (RuntimeError, NotImplementedError):
            found.append(None)
    return found


def wrong(op: Any, dtype: torch.dtype, expected: list[list[torch.Tensor | None] | None]) -> Iterator[str]:
    """Yield what is not as expected where the same is computed again."""
    samples = samples_of(op, dtype, len(expected))
    for number, (sample, gradients) in enumerate(zip(samples, expected, strict=True)):
        if gradients is not None:
            found = differentiate(op, sample)
            if len(found) != len(gradients) or not all(map(same, found, gradients)):
                yield f"{op.name} {dtype}, sample {number}: other gradients"


def main(results: str, count: int, dtypes: list[torch.dtype]) -> None:
    """Try all operators: first plain, then recorded."""
    warnings.simplefilter("ignore")  # torch's own, of its own samples
    warnings.filterwarnings("error", module=r"gradtrace\b")
    tasks = [(op, dtype) for op in op_db if op.supports_autograd for dtype in dtypes]
    tasks = [(op, dtype) for op, dtype in tasks if dtype in op.supported_backward_dtypes("cpu")]
    plain = [expected_of(op, dtype, count) for op, dtype in tasks]
    formulas: set[str] = set()
    see = Options(facts=True, consume=lambda graph: formulas.update(node.op for node in graph.nodes))
    with Path(results).open("w", encoding="utf-8") as out, Recorder(see) as recorder:
        for (op, dtype), expected in zip(tasks, plain, strict=True):
            tried = sum(gradients is not None for gradients in expected)
            print(json.dumps({"started": f"{op.name} {dtype}"}), file=out, flush=True)
            print(json.dumps({"samples": tried, "wrong": [*wrong(op, dtype, expected)]}), file=out, flush=True)
        assert recorder.trace.passes
        print(json.dumps({"passes": recorder.count, "formulas": sorted(formulas)}), file=out)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), [getattr(torch, name) for name in sys.argv[3:]])
