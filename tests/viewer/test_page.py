"""The page as text: one file, with hashes of all that may run, and nothing of a trace that is markup."""

import base64
import hashlib
import re
from importlib.resources import files

import pytest
from msgspec.structs import replace

from gradtrace import tracefile
from gradtrace.formats.base import FORMATS, Style
from gradtrace.model import Report, Source
from gradtrace.viewer.page import MODULES, page
from gradtrace.viewer.sources import source_texts
from tests.builders import FILE, partials, report, trace
from tests.viewer.networks import partials_run


def sha(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.fixture(scope="module")
def made():
    return FORMATS["html"].function(report(), Style())


def test_only_the_page_s_own_script_and_style_may_be_used(made):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', made)[1].replace("&#x27;", "'")
    style = re.search(r"<style>(.*?)</style>", made, re.DOTALL)[1]
    script = re.search(r'<script type="module">(.*?)</script>', made, re.DOTALL)[1]
    assert policy.startswith("default-src 'none'")
    assert sha(style) in policy
    assert sha(script) in policy
    assert "connect-src" not in policy
    assert "unsafe" not in policy


def test_the_page_names_nothing_to_fetch(made):
    without_data = re.sub(r'id="data">[^<]*<', "", made)
    assert not re.search(r'(?:src|href)="(?!data:)', without_data)
    assert set(re.findall(r"https?://[^\"'` ]*", without_data)) == {"http://www.w3.org/2000/svg"}


def test_hostile_names_are_data():
    named = page({"title": "</title><script>alert(1)</script>", "passes": [{"title": "</script><img src=x>"}]})
    assert "<img" not in named
    assert "&lt;/title&gt;&lt;script&gt;alert(1)" in named
    assert named.count("<script") == 2


def test_the_modules_are_all_there_and_import_only_what_stands_before_them():
    assets = files("gradtrace.viewer") / "assets"
    names = {each.name.removesuffix(".js") for each in assets.iterdir() if each.name.endswith(".js")}
    assert names == set(MODULES)
    for at, name in enumerate(MODULES):
        text = (assets / f"{name}.js").read_text(encoding="utf-8")
        assert set(re.findall(r'^import .*"\./([\w-]+)\.js";$', text, re.MULTILINE)) <= set(MODULES[:at])
        assert text.count("\n") < 300


def test_no_two_modules_use_one_name():
    """They share a scope in the page, where the second declaration of a name would be an error."""
    assets = files("gradtrace.viewer") / "assets"
    declared = r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+|\[[^\]]*\])"
    names = [
        name
        for module in MODULES
        for words in re.findall(declared, (assets / f"{module}.js").read_text(encoding="utf-8"), re.MULTILINE)
        for name in re.findall(r"\w+", words)
    ]
    assert len(names) > 100
    assert sorted(names) == sorted(set(names))


def test_all_passes_of_the_trace_are_in_the_page():
    run = partials_run()
    one, two = (FORMATS["html"].function(Report(run, run.passes[at]), Style()) for at in (0, -1))
    assert len(one) == pytest.approx(len(two), rel=0.01)
    assert FORMATS["html"].whole


def test_a_source_is_shown_where_the_trace_knows_what_is_in_it(tmp_path):
    (tmp_path / "examples").mkdir()
    (tmp_path / FILE).write_text("\n" * 5 + "f = u**2 + v**3 + u*v\n")
    assert list(source_texts(trace(), tmp_path)) == [FILE]
    (tmp_path / FILE).write_text("secret = 1\n" * 8)
    assert source_texts(trace(), tmp_path) == {}


@pytest.mark.parametrize("name", ["/etc/passwd", "../key.pem", "examples/absent.py", "a\0b.py"])
def test_a_trace_can_name_no_other_file_of_this_machine(name, tmp_path):
    (tmp_path / "key.pem").write_text("u*v")
    node = tracefile.loads(tracefile.dumps(trace())).passes[0].nodes[1]
    graph = replace(partials(), nodes=(replace(node, source=Source(name, 1, text="")),), edges=())
    assert source_texts(trace(graph), tmp_path / "sub") == {}
