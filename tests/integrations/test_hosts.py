"""Hosts that have nothing of ours built in, run for real: Zensical, sphinx-gallery."""

import re
import subprocess
import sys

import pytest

from gradtrace import tracefile
from tests import builders
from tests.integrations.projects import build, write

ZENSICAL = """site_name: x
markdown_extensions:
  - gradtrace
  - admonition
  - pymdownx.superfences
"""
PAGE = """# Title

```gradtrace caption="at the top"
saved.json
```

!!! note

    ```gradtrace
    saved.json
    ```

```gradtrace
nope.json
```
"""


def test_zensical_shows_graphs_wherever_they_stand_and_tells_the_line_of_one_that_fails(tmp_path):
    pytest.importorskip("zensical")
    (tmp_path / "docs").mkdir()
    tracefile.save(builders.trace(), tmp_path / "saved.json")
    (tmp_path / "docs" / "index.md").write_text(PAGE, encoding="utf-8")
    (tmp_path / "mkdocs.yml").write_text(ZENSICAL, encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "-f", "mkdocs.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    html = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert html.count("∂f/∂v = 50</text>") == 2
    assert "<figcaption>at the top</figcaption>" in html
    assert "gradtrace: docs/index.md:13: no such file: 'nope.json'" in done.stderr


GALLERY = '"""\nA trace\n=======\n\nWords.\n"""\nimport gradtrace\n\ngradtrace.load("saved.json")\n'


def test_sphinx_gallery_shows_a_trace_that_ends_a_block(tmp_path):
    pytest.importorskip("sphinx_gallery")
    conf = (
        "extensions += ['sphinx_gallery.gen_gallery']\n"
        "sphinx_gallery_conf = {'examples_dirs': 'examples', 'gallery_dirs': 'auto',"
        " 'image_scrapers': (), 'reset_modules': ()}"
    )
    write(tmp_path, ".. toctree::\n\n   auto/index\n", conf)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "README.txt").write_text("Gallery\n=======\n", encoding="utf-8")
    (tmp_path / "examples" / "plot_trace.py").write_text(GALLERY, encoding="utf-8")
    tracefile.save(builders.trace(), tmp_path / "examples" / "saved.json")
    built = build(tmp_path)
    assert built.warnings == ""
    (picture,) = re.findall(r"<svg .*?</svg>", built.text("auto/plot_trace.html"), re.DOTALL)
    assert "∂f/∂v = 50</text>" in picture
