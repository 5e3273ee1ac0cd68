"""Every operator of ATen that can be called by its schema alone, plain and recorded, each in a fork: for crashes.

    python -m tests.schemas RESULTS FIRST EACH

Tries each ``EACH``-th operator from ``FIRST`` on. PyTorch's own samples (tests/formulas.py) leave out the operators
that no public function has a name for, and with them a third of the backward formulas.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.recording.recorder import Options, Recorder
from tests.formulas import same, tensors_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHAPES: tuple[tuple[int, ...], ...] = ((3, 3), (4,), (2, 3, 3), (2, 3, 4, 4), (1, 2, 4, 4, 4), ())
NUMBERS = {"int": 1, "SymInt": 1, "float": 0.5, "number": 1, "Scalar": 1, "bool": False}
REFUSED = (RuntimeError, TypeError, ValueError, NotImplementedError, IndexError, AttributeError)


def operators() -> list[Any]:
    """Return the schemas of ATen that change nothing in place and write into no argument, in a fixed order."""
    schemas = [schema for schema in torch._C._jit_get_all_schemas() if schema.name.startswith("aten::")]
    pure = [schema for schema in schemas if not any(a.alias_info and a.alias_info.is_write for a in schema.arguments)]
    return sorted(pure, key=str)


def argument(kind: str, shape: tuple[int, ...], dtype: torch.dtype, size: int | None) -> Any:
    """Return a value for an argument of a type."""
    if kind == "Tensor":
        return torch.rand(shape, dtype=dtype).requires_grad_()
    if kind.startswith("Optional["):
        return None
    if kind.startswith("List["):
        return [argument(kind[5:-1], shape, dtype, None) for _ in range(size or 2)]
    if kind in NUMBERS:
        return NUMBERS[kind]
    raise NotImplementedError(kind)


def calls(schema: Any) -> Iterator[Callable[[], list[torch.Tensor | None]]]:
    """Yield what computes the first and second derivatives of an operator, for each shape and type."""
    packet = getattr(torch.ops.aten, schema.name.removeprefix("aten::"))
    overload = getattr(packet, schema.overload_name or "default")

    def gradients(shape: tuple[int, ...], dtype: torch.dtype) -> list[torch.Tensor | None]:
        torch.manual_seed(0)
        given = [
            a.default_value if a.has_default_value() else argument(str(a.type), shape, dtype, a.N)
            for a in schema.arguments
        ]
        leaves = [tensor for tensor in tensors_in(given) if tensor.requires_grad]
        names = [a.name for a in schema.arguments]
        positional = [value for a, value in zip(schema.arguments, given, strict=True) if not a.kwarg_only]
        keywords = {n: v for n, v, a in zip(names, given, schema.arguments, strict=True) if a.kwarg_only}
        outputs = [t for t in tensors_in([overload(*positional, **keywords)]) if t.requires_grad]
        if not leaves or not outputs:
            return []
        seeds = [torch.ones_like(output) for output in outputs]
        first: tuple[torch.Tensor | None, ...] = torch.autograd.grad(
            outputs, leaves, seeds, create_graph=True, allow_unused=True
        )
        again = [gradient for gradient in first if gradient is not None and gradient.requires_grad]
        seeds = [torch.ones_like(gradient) for gradient in again]
        return [*first, *(torch.autograd.grad(again, leaves, seeds, allow_unused=True) if again else ())]

    for shape in SHAPES:
        for dtype in (torch.float32, torch.complex64):
            yield lambda shape=shape, dtype=dtype: gradients(shape, dtype)  # type: ignore[misc]


def tried(call: Callable[[], list[torch.Tensor | None]]) -> list[torch.Tensor | None] | str:
    """Return the gradients of a call, or the kind of what it raised."""
    try:
        return call()
    except REFUSED as error:
        return type(error).__name__


def alike(one: list[torch.Tensor | None] | str, other: list[torch.Tensor | None] | str) -> bool:
    """Tell whether two answers of one call are the same to the last bit."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return len(one) == len(other) and all(map(same, one, other))


def compared(schema: Any) -> tuple[set[str], list[str]]:
    """Run an operator plain and recorded; return the backward functions that ran, and what differs.

    What reads memory that nobody has written, as some do with these arguments, differs from itself: it is left out.
    """
    plain = [tried(call) for call in calls(schema)]
    with Recorder(Options(facts=True)) as recorder:
        recorded = [tried(call) for call in calls(schema)]
    nodes = {node.op for graph in recorder.trace.passes for node in graph.nodes if node.order is not None}
    wrong = [
        f"{schema}, call {number}: {str(one)[:99]}, recorded {str(other)[:99]}"
        for number, (one, other, call) in enumerate(zip(plain, recorded, calls(schema), strict=True))
        if not alike(one, other) and alike(one, tried(call))
    ]
    return nodes, wrong


def lives(schema: Any) -> bool:
    """Tell whether plain PyTorch survives each call of an operator: some read memory that is not theirs."""
    return all(forked(lambda call=call: bool(tried(call))) is not None for call in calls(schema))  # type: ignore[misc]


def forked(work: Callable[[], Any]) -> Any:
    """Return what work returns, done in a fork; None where that died."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        code = 1
        try:
            os.close(read)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            answer = json.dumps(work(), default=lambda value: sorted(value) if isinstance(value, set) else None)
            with os.fdopen(write, "w") as out:
                out.write(answer)
            code = 0
        except BaseException:  # noqa: BLE001 - shown by the parent, whose stderr it is
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as answered:
        answer = answered.read()
    _, status = os.waitpid(child, 0)
    return json.loads(answer) if status == 0 else None


def main(results: str, first: int, each: int) -> None:
    """Try the operators."""
    warnings.simplefilter("ignore")
    warnings.filterwarnings("error", module=r"gradtrace\b")
    torch.set_num_threads(1)
    with Path(results).open("w", encoding="utf-8") as out:
        for schema in operators()[first::each]:
            answer = forked(lambda schema=schema: compared(schema))  # type: ignore[misc]
            if answer is None:
                row = {"schema": str(schema), "died": lives(schema)}  # recorded only
            else:
                row = {"schema": str(schema), "formulas": answer[0], "wrong": answer[1]}
            print(json.dumps(row), file=out, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:4]))
