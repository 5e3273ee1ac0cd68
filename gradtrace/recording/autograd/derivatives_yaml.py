"""Backward formulas of PyTorch, read from the ``derivatives.yaml`` of the installed torch.

``python -m gradtrace.recording.autograd.derivatives_yaml`` writes the table of the installed torch to
``gradtrace/explain/derivatives.json``, so that nothing is parsed at start; for a torch other than the
table's, ``read()`` reads the formulas from the installed file, which takes two seconds and needs PyYAML.
"""

# ruff: noqa: PLC0415 - torchgen takes a second, and only a torch that the table doesn't know needs it

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from gradtrace.files import PACKAGE_FOLDER

__all__ = ["dumps", "read"]

TABLE = Path(PACKAGE_FOLDER) / "explain" / "derivatives.json"


def read() -> dict[str, Any]:
    """Return the formulas of the installed torch, by backward function; raises ImportError without PyYAML.

    Returns:
        ``torch`` (its version) and ``functions``: for each backward function the name of its forward
        (``function``), that one's ``arguments``, and the formula of each differentiable one (``inputs``).
    """
    import torchgen
    from torchgen.packaged.autograd.load_derivatives import load_derivatives

    data = Path(torchgen.__file__).parent / "packaged"
    native = data / "ATen" / "native"
    infos, _ = load_derivatives(
        str(data / "autograd" / "derivatives.yaml"), str(native / "native_functions.yaml"), str(native / "tags.yaml")
    )
    found = [info for by_key in infos.values() for info in by_key.values() if info.op]
    return {
        "torch": torch.__version__.partition("+")[0],
        "functions": {info.op: _entry(info) for info in sorted(found, key=lambda info: str(info.op))},
    }


def _entry(info: Any) -> dict[str, Any]:
    formulas = {name: " ".join(d.original_formula.split()) for d in info.derivatives for name in d.var_names}
    return {
        "function": str(info.func.func.name),
        "arguments": [argument.name for argument in info.func.func.arguments.flat_all],
        "inputs": {argument.name: formulas[argument.name] for argument in info.args_with_derivatives},
    }


def dumps(table: dict[str, Any]) -> str:
    """Return the table as text, one backward function per line, so that a new torch makes a readable diff."""
    lines = [f"{json.dumps(op)}: {json.dumps(entry)}" for op, entry in table["functions"].items()]
    return f'{{"torch": {json.dumps(table["torch"])}, "functions": {{\n' + ",\n".join(lines) + "\n}}\n"


if __name__ == "__main__":
    TABLE.write_text(dumps(read()), encoding="utf-8")
