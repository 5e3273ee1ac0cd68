"""The C part is required or off, never missing by accident."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from gradtrace.recording.native import loader

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def hatch_build(monkeypatch):
    """The build hook as a module, without hatchling, which only builds have."""
    fake = type(sys)("hatchling")
    fake.BuildHookInterface = object
    for name in ("hatchling", "hatchling.builders", "hatchling.builders.hooks", "hatchling.builders.hooks.plugin"):
        monkeypatch.setitem(sys.modules, name, fake)
    monkeypatch.setitem(sys.modules, "hatchling.builders.hooks.plugin.interface", fake)
    spec = spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def sources(hatch_build, tmp_path):
    shutil.copytree(ROOT / hatch_build.FOLDER, tmp_path / hatch_build.FOLDER, ignore=shutil.ignore_patterns("*.so"))
    return tmp_path


def test_all_sources_are_compiled(hatch_build):
    assert {Path(source).name for source in hatch_build.SOURCES} == {
        p.name for p in (ROOT / hatch_build.FOLDER).glob("*.c")
    }


def test_a_typo_is_told_in_the_compilers_words(hatch_build, sources):
    assert not hatch_build.compile_library(sources)
    with (sources / hatch_build.FOLDER / "reduce.c").open("a") as file:
        file.write("int typo = ;\n")
    assert "expected expression" in hatch_build.compile_library(sources)


def test_without_a_compiler_that_is_what_is_told(hatch_build, sources, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    assert hatch_build.compile_library(sources) == "no C compiler: 'no-such-compiler' is not on the PATH"


@pytest.mark.parametrize(("wanted", "loaded"), [("require", "True"), ("0", "False"), ("", "True")])
def test_the_environment_chooses(wanted, loaded):
    code = "from gradtrace.recording.native.loader import NATIVE; print(NATIVE is not None)"
    env = {**os.environ, "GRADTRACE_NATIVE": wanted}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert done.stdout.strip() == loaded, done.stderr


def test_a_library_of_other_sources_is_an_error_where_it_is_required(monkeypatch):
    monkeypatch.setattr(loader, "INTERFACE", -1)
    assert loader._load("") is None
    with pytest.raises(ImportError, match="compiled from other sources"):
        loader._load("require")
