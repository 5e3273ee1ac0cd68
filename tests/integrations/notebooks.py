"""Notebooks made and run for real: a kernel of its own, nbclient as Jupyter."""

import warnings

import nbformat
from nbclient import NotebookClient


def run(*cells, allow_errors=False):
    """Run these cells in a fresh kernel; return the outputs of each."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter's own making
        NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=allow_errors).execute()
    return [cell.outputs for cell in notebook.cells]


def shown(outputs, kind="text/plain"):
    """What the outputs of a cell show of one media type, one after the other."""
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


def printed(outputs, stream="stdout"):
    """What a cell wrote to one of its streams."""
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == stream)
