import re
import sys
from pathlib import Path

import pytest
import yaml

from gradtrace import tracefile
from gradtrace.cli import main
from tests import builders

ROOT = Path(__file__).parents[2]


@pytest.fixture
def embed(tmp_path, monkeypatch, capsys):
    """``gradtrace embed`` on one document beside a saved trace: the exit code, the document, what was said."""
    monkeypatch.chdir(tmp_path)
    tracefile.save(builders.trace(), tmp_path / "saved.json")

    def run(text, *options):
        file = tmp_path / "page.md"
        if text is not None:
            file.write_bytes(text.encode())
        monkeypatch.setattr(sys, "argv", ["gradtrace", "embed", "page.md", *options])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, file.read_bytes().decode(), capsys.readouterr().err

    return run


def block(words="saved.json", inside=""):
    return f"before\n\n<!-- gradtrace: {words} -->\n{inside}<!-- /gradtrace -->\n\nafter\n"


def test_a_block_is_filled_with_the_table_and_the_rest_stays(embed):
    code, text, said = embed(block(inside="old\n"))
    assert code == 0
    assert text.startswith("before\n\n<!-- gradtrace: saved.json -->\n\n```text\n")
    assert text.endswith("\n```\n\n<!-- /gradtrace -->\n\nafter\n")
    assert "u**2 = 4" in text
    assert "old" not in text
    assert "page.md updated" in said


def test_a_second_run_changes_nothing_and_a_check_is_content(embed):
    _, text, _ = embed(block())
    code, again, said = embed(None)
    assert (code, again) == (0, text)
    assert "up to date" in said
    assert embed(None, "--check")[:2] == (0, text)


def test_a_check_tells_what_would_change_and_changes_nothing(embed):
    code, text, said = embed(block(), "--check")
    assert (code, text) == (1, block())
    assert "page.md is out of date; update it with: gradtrace embed page.md" in said


def test_a_picture_is_written_beside_the_document_and_referred_to(embed, tmp_path):
    code, text, _ = embed(block("saved.json format=svg alt='two ways' file=graph.svg"))
    assert code == 0
    assert "\n![two ways](graph.svg)\n" in text
    assert (tmp_path / "graph.svg").read_text(encoding="utf-8").startswith("<svg")
    (tmp_path / "graph.svg").write_text("stale", encoding="utf-8")
    code, _, said = embed(None, "--check")
    assert code == 1
    assert "graph.svg is out of date" in said


def test_blocks_in_code_are_examples(embed):
    inside = "```md\n<!-- gradtrace: nope.py -->\n<!-- /gradtrace -->\n```\n\n    <!-- gradtrace: nope.py -->\n"
    code, text, _ = embed(inside)
    assert (code, text) == (0, inside)


def test_several_blocks_keep_their_order_and_their_indent(embed):
    _, text, _ = embed(f"{block()}- item\n\n  <!-- gradtrace: saved.json format=dot -->\n  <!-- /gradtrace -->\n")
    assert text.index("```text") < text.index("  ```dot\n  digraph")


def test_line_ends_of_windows_stay(embed):
    _, text, _ = embed(block().replace("\n", "\r\n"))
    assert text.count("\n") == text.count("\r\n") > 10


WRONG = {
    "unknown format": ("saved.json format=nope", "page.md, line 3: unknown format 'nope'; choose from dot, html, json"),
    "unknown option": ("saved.json nope=1", "page.md, line 3: unknown option 'nope=1'; choose from format=…, pass=…"),
    "unknown pass": ("saved.json pass=9", "page.md, line 3: unknown pass '9'"),
    "missing script": ("nope.py", "page.md, line 3: no such file"),
    "no script": ("format=text", "page.md, line 3: no script is named"),
    "no folder": ("saved.json format=svg file=none/x.svg", "page.md, line 3: no such folder 'none'"),
    "open quote": ("saved.json alt='x", "page.md, line 3: no closing quotation"),
    "wrong timeout": ("saved.json timeout=soon", "page.md, line 3: timeout 'soon' must be a number of seconds"),
    "no time": ("saved.json timeout=0", "page.md, line 3: timeout '0' must be a number of seconds above 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_block_is_told_with_its_line_and_nothing_is_written(embed, name):
    words, message = WRONG[name]
    code, text, said = embed(block(words, "kept\n"))
    assert (code, text) == (2, block(words, "kept\n"))
    assert message in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- gradtrace: saved.json -->\n", "line 1: a block never ends"),
        ("\n<!-- /gradtrace -->\n", "line 2: a block ends that never began"),
        ("<!-- gradtrace: a -->\n<!-- gradtrace: b -->\n", "line 2: a block begins inside that of line 1"),
    ],
)
def test_blocks_that_do_not_match_are_told(embed, text, message):
    code, _, said = embed(text)
    assert code == 2
    assert message in said


def test_a_missing_document_is_told(embed, tmp_path):
    (tmp_path / "page.md").touch()
    code, _, said = embed(None, "none.md")
    assert code == 2
    assert "no such file: 'none.md'" in said


def test_a_script_that_fails_shows_its_traceback(embed, tmp_path):
    (tmp_path / "fails.py").write_text("a = 1\nraise ValueError('no luck')\n", encoding="utf-8")
    code, _, said = embed(block("fails.py"))
    assert code == 2
    assert "page.md, line 3: 'fails.py' ended in ValueError: no luck" in said
    assert 'fails.py", line 2' in said


FAILING = {
    "none.py": ("print(1)\n", "'none.py' computes no gradient"),
    "slow.py timeout=0.5": ("import time\ntime.sleep(60)\n", "'slow.py' ran for more than 0.5 s and was stopped"),
}


@pytest.mark.parametrize("words", FAILING)
def test_a_script_that_hangs_or_computes_no_gradient_is_told_with_the_blocks_line(embed, tmp_path, words):
    code, message = FAILING[words]
    (tmp_path / words.split()[0]).write_text(code, encoding="utf-8")
    ended, text, said = embed(block(words))
    assert (ended, text) == (2, block(words))
    assert f"page.md, line 3: {message}" in said


def test_a_mermaid_block_is_a_fence_that_github_draws(embed):
    _, text, _ = embed(block("saved.json format=mermaid"))
    fenced = re.search(r"```mermaid\nflowchart TD\n(.*?)\n```\n", text, re.DOTALL)[1]
    assert fenced.count(" -->|") == len(builders.partials().edges)


def test_our_hooks_for_pre_commit_run_what_they_say(embed, monkeypatch):
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    ended = []
    for hook in hooks:
        program, command, *options = hook["entry"].split()
        assert (program, command, hook["types"]) == ("gradtrace", "embed", ["markdown"])
        ended.append(embed(block(), *options)[0])
    assert [hook["id"] for hook in hooks] == ["gradtrace-embed", "gradtrace-embed-check"]
    assert ended == [0, 1]
