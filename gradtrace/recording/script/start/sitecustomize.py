"""Start of a process that was started by a script under ``gradtrace record --children``.

Python imports this before anything else, as it stands first on the inherited path. The site's own sitecustomize is
imported after it, and recording begins when the process has imported torch: most never do.
"""

import importlib.util
import os
import sys


class _AfterTorch:
    """Import hook that begins to record when torch has been imported."""

    def find_spec(self, name, path=None, target=None):  # noqa: ARG002
        """Return the usual spec of torch, whose loader then begins to record."""
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("torch")
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                del spec.loader.exec_module
                execute(module)
                _begin()

            spec.loader.exec_module = exec_module
        return spec


def _begin() -> None:
    try:
        from gradtrace.recording.script.child import begin  # noqa: PLC0415
    except ImportError:
        return  # a Python without gradtrace
    begin()


def _start() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder) != here]
    own = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize  # noqa: F401, PLC0415 - the site's
    except ImportError:
        sys.modules["sitecustomize"] = own
    if "GRADTRACE_CHILDREN" in os.environ:
        sys.meta_path.insert(0, _AfterTorch())


_start()
