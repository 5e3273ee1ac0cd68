"""The child process of the engine: reads DOT from stdin, writes the picture to stdout.

It is run as a script, isolated and without site, so that it starts in milliseconds. Its arguments are
the folder of the pygraphviz package, the format, and the dots per inch of a PNG.
"""

from __future__ import annotations

import _thread
import os
import sys
from types import ModuleType

TYPE_CHECKING = False  # importing typing takes milliseconds
if TYPE_CHECKING:
    from gradtrace.engine.layout import Graph

STACK = 256 * 2**20  # bytes: dot's depth-first searches recurse once per rank
FAILED, CANNOT_IMPORT = 1, 3
PIXELS, LONGEST = 30_000_000, 16_000  # of a PNG: cairo cuts it at 32,767, and 30 million take a second


def main() -> int:
    """Draw the graphs on stdin, in a thread with a deep stack; return the exit code."""
    stdout = os.dup(1)
    os.dup2(2, 1)  # pango and fontconfig may print to stdout, which is for the picture alone
    codes: list[int] = []
    done = _thread.allocate_lock()
    done.acquire()

    def work() -> None:
        try:
            codes.append(_answer(stdout))
        finally:
            done.release()

    _thread.stack_size(STACK)
    _thread.start_new_thread(work, ())
    done.acquire()
    return codes[0] if codes else FAILED


def _answer(stdout: int) -> int:
    folder, output, dpi = sys.argv[1:]
    try:
        gv = _bindings(folder)
    except ImportError:
        return CANNOT_IMPORT
    _bare_package("gradtrace", "")
    _bare_package("gradtrace.engine", os.path.dirname(__file__))  # noqa: PTH120 - pathlib takes 15 ms
    from gradtrace.engine.layout import Graph  # noqa: PLC0415 - only now can it be found

    context = gv.gvContextWithBuiltins()  # first: it declares that a node's label is its name
    try:
        texts = sys.stdin.buffer.read().split(b"\0")
        pictures = [_answer_for(Graph.read(gv, context, text), output, int(dpi)) for text in texts]
    except ValueError:
        return FAILED  # Graphviz has printed the error on stderr
    with os.fdopen(stdout, "wb") as file:
        file.write(b"\0".join(pictures))
    return 0


def _answer_for(graph: Graph, output: str, dpi: int) -> bytes:
    """Return the requested result for one graph: its size, its layout, or its picture."""
    from gradtrace.engine.layout import laid_out, size_of  # noqa: PLC0415 - see _answer

    if output == "size":
        return size_of(graph)
    if output == "json0":
        graph.lay_out(b"dot")
        return graph.rendered(output)
    return _picture(laid_out(graph), output, dpi)


def _picture(graph: Graph, output: str, dpi: int) -> bytes:
    """Return the bytes of the picture of a graph that is laid out."""
    if output == "png":
        graph.set_dpi(min(dpi, _dpi(graph)))
    return graph.rendered(output)


def _dpi(graph: Graph) -> int:
    """Return the dots per inch that keep a picture within the pixels a viewer can open."""
    wide, high = (max(1.0, float(word)) for word in graph.rendered("plain").split()[2:4])  # inches
    return int(min(LONGEST / max(wide, high), (PIXELS / (wide * high)) ** 0.5))


def _bare_package(name: str, folder: str) -> None:
    """Make a package's modules importable without its ``__init__``, which imports all of them."""
    package = ModuleType(name)
    package.__path__ = [folder]
    sys.modules[name] = package


def _bindings(folder: str) -> ModuleType:
    """Return the C bindings of pygraphviz."""
    _bare_package("pygraphviz", folder)
    if sys.platform == "win32":
        os.add_dll_directory(f"{folder}.libs")
    from pygraphviz import graphviz  # noqa: PLC0415 - only now can it be found

    bindings: ModuleType = graphviz
    return bindings


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # no tear-down: freeing the graph takes as long as drawing it
