"""Small Sphinx projects, built for real in a folder of their own."""

import contextlib
import io
import re
from pathlib import Path
from typing import NamedTuple

from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

PARTIALS = Path(__file__).parents[2] / "examples" / "partials.py"
HEAD = "Title\n=====\n\n"


class Built(NamedTuple):
    """A build: its folder of results, and its warnings."""

    out: Path
    warnings: str
    code: int

    def text(self, name):
        """The text of a result."""
        return (self.out / name).read_text(encoding="utf-8")

    @property
    def html(self):
        """The first page."""
        return self.text("index.html")


def write(folder, body, conf="", **files):
    """Write a project of one document, and what else it needs, by name."""
    files = {
        "conf.py": f"extensions = ['gradtrace.sphinx']\nhtml_theme = 'basic'\n{conf}\n",
        "index.rst": HEAD + body,
    } | files
    files["partials.py"] = PARTIALS.read_text(encoding="utf-8")
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def build(folder, builder="html", **settings):
    """Build the project in this process."""
    warnings = io.StringIO()
    out = folder / "_build" / builder
    options = {"parallel": settings.pop("parallel", 1), "warningiserror": False, "confoverrides": settings}
    with patch_docutils(str(folder)), docutils_namespace(), contextlib.redirect_stdout(io.StringIO()):
        app = Sphinx(
            str(folder),
            str(folder),
            str(out),
            str(folder / "_build" / "doctrees"),
            builder,
            status=None,
            warning=warnings,
            **options,
        )
        app.build()
    return Built(out, re.sub(r"\x1b\[[\d;]*m", "", warnings.getvalue()), app.statuscode)
