import logging
import re
import xml.etree.ElementTree as ET

import pytest

pytest.importorskip("markdown")

import markdown
from mkdocs.commands.build import build
from mkdocs.config import load_config

from gradtrace import tracefile
from gradtrace.documents import script as scripts
from gradtrace.integrations import mkdocs
from tests import builders

PAGE = """# Title

{fence}gradtrace caption="f & its derivatives" name="fig" show="graph, table"
saved.json
{fence}

after

````text
```gradtrace
nope.py
```
````
"""
SUPERFENCES = """
  - pymdownx.superfences:
      custom_fences:
        - name: gradtrace
          class: gradtrace
          format: !!python/name:gradtrace.integrations.mkdocs.fence
          validator: !!python/name:gradtrace.integrations.mkdocs.validate
"""
EXTENSIONS = {
    "the extension": "\n  - gradtrace.integrations.mkdocs\n  - fenced_code\n",
    "superfences": SUPERFENCES,
    "both": "\n  - gradtrace.integrations.mkdocs" + SUPERFENCES,
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A function that builds a site of one page with MkDocs, and returns its HTML."""
    monkeypatch.chdir(tmp_path)
    tracefile.save(builders.trace(), tmp_path / "saved.json")

    def make(page, extensions, theme="mkdocs", *, strict=True):
        (tmp_path / "docs").mkdir(exist_ok=True)
        (tmp_path / "docs" / "index.md").write_text(page, encoding="utf-8")
        head = f"site_name: x\nstrict: {str(strict).lower()}\ntheme: {theme}\nplugins: []\n"
        config = f"{head}markdown_extensions:{extensions}"
        (tmp_path / "mkdocs.yml").write_text(config, encoding="utf-8")
        build(load_config(str(tmp_path / "mkdocs.yml")))
        return (tmp_path / "site" / "index.html").read_text(encoding="utf-8")

    return make


@pytest.mark.parametrize("how", EXTENSIONS)
@pytest.mark.parametrize("theme", ["mkdocs", "readthedocs"])
def test_a_fenced_block_becomes_a_figure_in_a_site(site, how, theme):
    html = site(PAGE.format(fence="```"), EXTENSIONS[how], theme)
    (picture,) = re.findall(r"<svg .*?</svg>", html, re.DOTALL)
    assert "∂f/∂v = 50" in [text.text for text in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert "<figcaption>f &amp; its derivatives</figcaption>" in html
    assert 'id="fig"' in html
    assert "flows on to" in html
    assert "after" in html
    assert html.count("nope.py") == 1


def test_an_interactive_block_is_the_page_in_a_frame(site):
    html = site('```gradtrace interactive="yes" height="400"\nsaved.json\n```\n', EXTENSIONS["the extension"])
    assert 'sandbox="allow-scripts"' in html
    assert "height:400px" in html


NESTED = """!!! note

    ```gradtrace caption="within"
    saved.json
    ```

- item

    ```{ .gradtrace width="300" }
    saved.json
    ```
"""


@pytest.mark.parametrize("how", EXTENSIONS)
def test_a_block_within_an_admonition_or_a_list_is_a_figure_where_superfences_finds_it(site, how):
    known = EXTENSIONS[how].replace("  - fenced_code\n", "  - pymdownx.superfences\n")
    html = site(NESTED, f"{known}\n  - admonition\n")
    assert html.count("<svg") == 2
    assert re.search(r'admonition note">.*<figure.*within</figcaption>.*</div>.*<li>.*<figure', html, re.DOTALL)


FAILING = """---
title: two of the same, one in a list
---

```gradtrace
nope.py
```

- item

    ```gradtrace
    a = 1
    raise ValueError("no luck")
    ```

~~~gradtrace
nope.py
~~~
"""


@pytest.mark.parametrize("how", ["both", "superfences"])
def test_a_warning_names_the_page_and_the_line(site, caplog, monkeypatch, how):
    ran = scripts.Ran(None, problem="failed", line=2, error="ValueError")
    monkeypatch.setattr(scripts, "_run", lambda _: ran)
    with caplog.at_level(logging.WARNING):
        site(FAILING, EXTENSIONS[how], strict=False)
    told = sorted(record.getMessage() for record in caplog.records if record.name == "mkdocs.gradtrace")
    assert [line.split(";")[0] for line in told] == [
        "gradtrace: docs/index.md:13: failed",
        "gradtrace: docs/index.md:16: no such file: 'nope.py'",
        "gradtrace: docs/index.md:5: no such file: 'nope.py'",
    ]


def test_a_script_is_found_beside_its_page(site, tmp_path):
    (tmp_path / "saved.json").rename(tmp_path / "beside.json")
    (tmp_path / "docs").mkdir()
    (tmp_path / "beside.json").rename(tmp_path / "docs" / "beside.json")
    assert "<svg" in site("```gradtrace\nbeside.json\n```\n", EXTENSIONS["the extension"])


def convert(text, **settings):
    return markdown.markdown(text, extensions=[mkdocs.makeExtension(**settings), "fenced_code"])


@pytest.fixture
def here(tmp_path):
    tracefile.save(builders.trace(), tmp_path / "saved.json")
    return tmp_path


WRONG = {
    "a missing script": ("nope.py", "", "no such file"),
    "an unknown option": ("saved.json", "nope=1", "unknown option 'nope'; choose from alt"),
    "an unknown part": ("saved.json", "show=all", "unknown part 'all'; choose from source"),
    "an unknown pass": ("saved.json", "pass=7", "unknown pass '7'"),
    "an empty block": ("", "", "an empty block"),
    "a wrong timeout": ("saved.json", "timeout=soon", "timeout 'soon' must be a number of seconds above 0"),
    "a script that fails": ("raise ValueError('<no>')", "", "ended in ValueError: <no>"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_a_warning_and_a_word_in_the_page(here, caplog, name):
    source, options, words = WRONG[name]
    with caplog.at_level(logging.WARNING):
        html = convert(f"~~~gradtrace {options}\n{source}\n~~~\n\nafter", root=str(here), cache="")
    (record,) = caplog.records
    assert record.name.startswith("mkdocs.")
    assert words in record.getMessage()
    assert "could not be drawn" in html
    assert "<no>" not in html
    assert "<p>after</p>" in html


def test_code_runs_in_the_root_and_is_kept_from_build_to_build(here, monkeypatch):
    (here / "lesson.py").write_text("import torch\nx = torch.tensor(3.0, requires_grad=True)\n", encoding="utf-8")
    text = "```{ .gradtrace show='source,graph' }\nfrom lesson import x\n(x * x).backward()\n```\n"
    first = convert(text, root=str(here))
    assert "∂" in first or "gradient of" in first
    assert "from lesson import x" in first
    monkeypatch.setattr("gradtrace.documents.script._child", None)
    assert convert(text, root=str(here)) == first
    assert list((here / ".cache" / "gradtrace").glob("*.svg"))


@pytest.mark.parametrize("how", ["superfences", "the extension"])
def test_code_has_the_colours_of_the_site_where_it_has_any(site, how):
    html = site("```gradtrace show='source'\nsaved.json\n```\n", EXTENSIONS[how])
    assert ('<div class="highlight">' in html) == (how == "superfences")


def test_a_block_that_never_ends_is_left_alone(here):
    assert "svg" not in convert("```gradtrace\nsaved.json\n", root=str(here))
