"""What README and docs say: every block of code runs as pasted, and prints what the page says that it prints.

Set ``GRADTRACE_WRITE_DOCS=1`` to write the output of the commands into the pages.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import torch
import yaml

import gradtrace
from gradtrace.checks.base import CHECKS
from gradtrace.cli import COMMANDS, main
from gradtrace.formats.base import FORMATS
from gradtrace.model import World
from tests.scripts import run

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"^(?P<indent> *)(?P<mark>`{3,})(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)(?P=mark) *$",
    re.MULTILINE | re.DOTALL,
)
BUILT = re.compile(
    r"\{[\w-]+\}.*|rst|markdown|mermaid"
)  # by Sphinx, or by gradtrace embed: make docs and .ci/run check these
ELSEWHERE = (
    "pip",
    "python3",
    "cd",
    "make",
    "apt-get",
    ".ci/run",
    "pytest",
    "torchrun",
    "pre-commit",
    "git",
)  # said of, not run here
MAY_FIND = ("check", "diff", "embed")  # commands whose exit code 1 is a result
TRAIN = """
import torch
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(100):
    optimizer.zero_grad()
    torch.nn.functional.mse_loss(net(torch.ones(5, 3)), torch.zeros(5, 1)).backward()
    optimizer.step()
"""


@dataclass
class Block:
    """A fenced block: its language, text and first line, and the paragraph before it."""

    language: str
    text: str
    line: int
    before: str
    span: tuple[int, int]


def blocks(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        indent = found["indent"]
        body = "".join(line.removeprefix(indent) for line in found["text"].splitlines(keepends=True))
        before = text[: found.start()].rstrip().rpartition("\n\n")[2]
        yield Block(found["language"].strip(), body, text.count("\n", 0, found.start()) + 1, before, found.span("text"))


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A folder in which the commands of a page find what they name."""
    folder = tmp_path_factory.mktemp("stage")
    shutil.copytree(ROOT / "examples", folder / "examples")
    (folder / "package").mkdir()
    for name in ("train.py", "script.py", "package/module.py", "package/__init__.py"):
        (folder / name).write_text("" if "__init__" in name else TRAIN)
    (folder / "README.md").write_text("<!-- gradtrace: train.py format=text -->\n<!-- /gradtrace -->\n")
    with gradtrace.record() as recording:
        exec(compile(TRAIN, str(folder / "train.py"), "exec"), {"__name__": "__main__"})
    last = msgspec.structs.replace(recording.trace, passes=recording.trace.passes[-2:])
    for name in ("run.json", "run.json.gz", "before.json", "after.json"):
        last.save(folder / name)
    for rank in (0, 1):
        own = [msgspec.structs.replace(graph, rank=rank) for graph in last.passes]
        world = World(2, (rank,), ("here",))
        msgspec.structs.replace(last, passes=tuple(own), world=world).save(folder / f"run.rank{rank}.json.gz")
    return folder


@pytest.fixture
def reader(stage, tmp_path, monkeypatch):
    """A reader who pastes what stands on a page."""
    shutil.copytree(stage, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr("gradtrace.cli.view._wait", lambda: 0)  # a reader who ends the page at once
    monkeypatch.setattr("webbrowser.open", lambda _: True)
    for registry in (FORMATS, CHECKS):  # to which a page adds one of its own
        monkeypatch.setattr(registry, "_plugins", {name: registry[name] for name in registry})
    return Reader(tmp_path, monkeypatch)


class Reader:
    def __init__(self, folder, monkeypatch):
        self.folder, self._monkeypatch = folder, monkeypatch
        page = {"__name__": "__main__"}
        self._page = lambda: page  # a function, so that gradtrace finds no names of tensors in it
        self.printed = ""
        self.cells = []

    def paste(self, block):
        """Do what a reader does with a block; return what it prints, where the page says that."""
        language = block.language.partition(" ")[0]
        saved = re.search(r"[Ss]ave this as `([^`]+)`", block.before)
        if saved:
            path = self.folder / saved[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        if not BUILT.fullmatch(block.language):
            return getattr(self, language)(block, saved=bool(saved))
        return None

    def python(self, block, *, saved):
        code = compile("\n" * block.line + block.text, str(self.folder / "page.py"), "exec")
        if not saved:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(code, self._page())
            self.printed = printed.getvalue()

    def ipython(self, block, *, saved):
        self.cells.append(block.text)
        shell = "import sys; from IPython.core.interactiveshell import InteractiveShell as S; s = S.instance()"
        cells = f"sys.exit(not all(s.run_cell(cell).success for cell in {self.cells!r}))"
        assert run(self.folder, "-c", f"{shell}; {cells}").code == 0

    def sh(self, block, *, saved):
        for line in block.text.splitlines():
            self._command(line)

    def console(self, block, *, saved):
        commands = re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]
        return "".join(
            f"$ {given.partition(chr(10))[0]}\n{self._command(given.partition(chr(10))[0])}" for given in commands
        )

    def _command(self, line):
        words = shlex.split(line, comments=True)
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        if words[0] in ELSEWHERE:
            return ""
        with together() as printed:
            if words[0] == "python":
                code = compile((self.folder / words[1]).read_text(), words[1], "exec")
                exec(code, {"__name__": "__main__"})
            else:
                self._gradtrace(words, line)
        return printed[0]

    def _gradtrace(self, words, line):
        assert words[0] == "gradtrace", line
        if words[1:2] == ["--install-completion"]:  # in tests/cli/test_help.py
            return
        self._monkeypatch.setattr(sys, "argv", list(words))
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code or 0) <= int(words[1] in MAY_FIND), line

    def text(self, block, *, saved):
        return self.printed if re.search(r"prints?:$", block.before) else None

    def yaml(self, block, *, saved):
        yaml.load(block.text, Tolerant)

    def toml(self, block, *, saved):
        tomllib.loads(block.text)


@contextlib.contextmanager
def together():
    """Catch what is written to stdout and stderr, in its order, as a terminal shows it."""
    printed, kept = [], (os.dup(1), os.dup(2), sys.stdout, sys.stderr)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, encoding="utf-8", closefd=False) for number in (1, 2))
        try:
            yield printed
        finally:
            sys.stdout.close()
            sys.stderr.close()
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            os.close(kept[0])
            os.close(kept[1])
            sys.stdout, sys.stderr = kept[2:]
            file.seek(0)
            printed.append(file.read().decode())


class Tolerant(yaml.SafeLoader):
    """Reads the tags of MkDocs, too."""


Tolerant.add_multi_constructor("", lambda loader, tag, node: None)


def matches(said, printed):
    """Tell whether this was printed; ``...`` on a line of its own stands for any lines.

    What is below 1e-4 is rounding, and another number on another machine.
    """
    said, printed = (re.sub(r"\d(\.\d+)?e-\d\d", "0", text) for text in (said, printed))
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(f"{line}\n") for line in said.splitlines())
    return re.fullmatch(pattern, printed) is not None


@pytest.mark.parametrize("page", PAGES)
def test_what_stands_on_a_page_runs_and_prints_what_the_page_says(page, reader):
    torch.manual_seed(0)
    new = []
    for block in blocks(page):
        printed = reader.paste(block)
        if printed is None:
            continue
        if os.environ.get("GRADTRACE_WRITE_DOCS"):
            new.append((block.span, shortened(block, printed)))
        else:
            assert matches(block.text, printed), f"{page}, line {block.line}: prints\n{printed}"
    if new:
        write(page, new)


def shortened(block, printed):
    """Return what is printed; its first paragraph where the page has no more than that."""
    return f"{printed.partition(chr(10) * 2)[0]}\n...\n" if "..." in block.text.splitlines() else printed


def write(page, new):
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    for (start, end), put in reversed(new):
        text = text[:start] + put + text[end:]
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_code_stands_in_a_block_that_names_its_language(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert all(block.language for block in blocks(page))
    rest = FENCE.sub("", text)
    assert not re.search(r"(?<=\n\n) {4}\S", rest), "code that is only indented is not run"


@pytest.mark.parametrize("page", PAGES)
def test_a_command_inside_a_sentence_or_table_exists(page):
    text = FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    for word in re.findall(r"`gradtrace ([\w.-]+)[^`]*`", text):
        assert word in COMMANDS or word.endswith(".py") or word.startswith("-"), word


@pytest.mark.parametrize("page", PAGES)
def test_a_link_to_a_page_and_its_heading_leads_somewhere(page):
    text = FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^):\s]+)\)", text):
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.is_file(), target
        heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", head.lower().replace("`", "")).replace(" ", "-") for head in heads}
        assert not anchor or anchor in slugs, (target, slugs)


def test_the_workflow_that_is_shown_is_the_one_to_copy():
    (shown,) = (block.text for block in blocks("docs/ci.md") if block.text.startswith("name: gradients"))
    assert shown == (ROOT / "examples" / "gradients.yml").read_text(encoding="utf-8")
    for line in re.findall(r"run: gradtrace (.*)", shown):
        assert line.split()[0] in COMMANDS


# Words of the glossary, and how they stand in a sentence; others, such as node, are plain enough.
TERMS = {
    "grad_fn": r"`grad_fn`",
    "leaf": r"\b(?:leaf|leaves(?! (?:it|what|torch|a|no|the|out|behind)\b))\b",
    "backward-pass": r"\bbackward pass(?:es)?\b",
    "seed": r"\bseed\b",
    "saved-tensor": r"\bsaved tensors?\b",
    "norm": r"\bnorms?\b",
    "fold": r"\bfold(?:s|ed)?\b",
    "finite-differences": r"\bfinite differences\b",
    "accumulategrad": r"\bAccumulateGrad\b",
}
NO_PROSE = re.compile(
    FENCE.pattern + r"|^#[^\n]*$|<!--.*?-->|^!\[[^\n]*$|`(?!grad_fn`)[^`\n]*`|\[[^\]]*\]\((?![^)]*glossary)[^)]*\)",
    re.MULTILINE | re.DOTALL,
)  # headings, code, and links to elsewhere
SPOKEN = [page for page in PAGES if page not in {"CONTRIBUTING.md", "docs/glossary.md", "docs/benchmarks.md"}]


@pytest.mark.parametrize("page", SPOKEN)
def test_the_first_use_of_a_word_of_the_glossary_leads_there(page):
    text = NO_PROSE.sub(lambda found: "~" * len(found[0]), (ROOT / page).read_text(encoding="utf-8"))
    for anchor, term in TERMS.items():
        first = re.search(term, text, re.IGNORECASE)
        if first is not None:
            line = text.count("\n", 0, first.start()) + 1
            linked = re.search(rf"\[[^\]]*\]\([^)]*glossary\.md#{anchor}\)", text)
            assert linked, f"{page}, line {line}: {first[0]!r} has no link"
            assert linked.start() < first.start() < linked.end(), f"{page}, line {line}: {first[0]!r}"
