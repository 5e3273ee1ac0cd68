import sys

import pytest

from gradtrace.documents import script as scripts
from gradtrace.documents.imports import local_modules


@pytest.fixture
def project(tmp_path):
    """Modules that import each other in each way, and one that nobody imports."""
    texts = {
        "plain.py": "import json\nimport torch\n",
        "around.py": "import plain\nimport around\n",
        "late.py": "raise SystemExit('nothing is run')\n",
        "unused.py": "",
        "pack/__init__.py": "from . import first\n",
        "pack/first.py": "from .second import value\nfrom ..outside import nothing\n",
        "pack/second.py": "from pack.deep.third import x\nvalue = 1\n",
        "pack/deep/__init__.py": "",
        "pack/deep/third.py": "from .. import fourth\n",
        "pack/fourth.py": "def broken(:\n",
        "pack/unused.py": "",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


FOUND = {
    "import torch, json, os.path, numpy.linalg, gradtrace": [],
    "import plain": ["plain.py"],
    "import around as a": ["around.py", "plain.py"],
    "def f():\n    if 1:\n        from late import x": ["late.py"],
    "import pack": [
        "pack/__init__.py",
        "pack/deep/__init__.py",
        "pack/deep/third.py",
        "pack/first.py",
        "pack/fourth.py",
        "pack/second.py",
    ],
    "from nowhere import x\nimport none.at.all\nfrom . import y": [],
    "this is no python": [],
}


@pytest.mark.parametrize("code", FOUND)
def test_the_modules_of_a_project_are_found_and_no_others(project, code):
    found = local_modules(code, str(project), sys.path)
    assert [file.relative_to(project).as_posix() for file in found] == FOUND[code]


def test_a_script_is_run_again_when_a_module_that_it_imports_has_changed(project):
    for code in ("import around\n", scripts.attribute_code("around:plain.x")):
        script = scripts.Script("x.py", code, str(project))
        first = scripts._key(script)
        assert scripts._key(script) == first
        (project / "plain.py").write_text(f"# {code}", encoding="utf-8")
        assert scripts._key(script) != first
