"""The documentation, built with our own extension: make docs."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

from gradtrace import __version__  # noqa: E402

project = "gradtrace"
author = "gradtrace contributors"
copyright = "gradtrace contributors"  # noqa: A001 - Sphinx's name
release = version = __version__

extensions = ["gradtrace.sphinx", "myst_parser", "reference", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
gradtrace_path = [".."]  # so that examples/partials.py is found in the repository

exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]
autodoc_typehints = "none"  # signatures of strings; the docstrings say more
autodoc_member_order = "bysource"
add_module_names = False
python_display_short_literal_types = True

html_theme = "furo"
html_title = f"gradtrace {release}"
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
templates_path = []

latex_elements = {"extraclassoptions": "openany,oneside"}
