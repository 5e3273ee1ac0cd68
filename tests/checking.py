"""Runs a script as the command does, in this process, and tells what the checks find in it."""

from __future__ import annotations

import sys
import textwrap
from contextlib import contextmanager

from gradtrace.checks.checker import run


@contextmanager
def restored():
    """Give back what running a script changes in the interpreter."""
    import torch  # noqa: PLC0415

    main, argv, path = sys.modules["__main__"], list(sys.argv), list(sys.path)
    dtype = torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        sys.modules["__main__"] = main
        sys.argv[:], sys.path[:] = argv, path


def recorded(code, folder, **options):
    """The trace of a script with this text, recorded with these options beside the facts."""
    from gradtrace.recording.recorder import Options  # noqa: PLC0415 - torch
    from gradtrace.recording.script.program import read_script  # noqa: PLC0415
    from gradtrace.recording.script.session import run_recorded  # noqa: PLC0415

    path = folder / "train.py"
    path.write_text("import torch\nfrom torch import nn\ntorch.manual_seed(0)\n" + textwrap.dedent(code))
    with restored():
        session = run_recorded(read_script(str(path)), [], Options(facts=True, **options), None)
    return session.trace


def findings(code, folder, **more):
    """What the checks find in a script with this text."""
    return run(recorded(code, folder), **more)


def told(found):
    """Each finding as its check and its line's text."""
    return [(finding.check, finding.source.text if finding.source else "") for finding in found]
