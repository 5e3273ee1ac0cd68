"""The registry: our own plugins, third parties' by entry point, and a clear word for one that is not there."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from gradtrace.errors import UnknownNameError
from gradtrace.formats.base import FORMATS
from gradtrace.registry import Registry


def shout():
    """Write it in capitals.

    And this is the reason for it.
    """


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An importable package whose one module registers a plugin into the registry that it is given."""
    (tmp_path / "our_plugins").mkdir()
    (tmp_path / "our_plugins" / "__init__.py").write_text("registry = None\n")
    code = "import our_plugins\n@our_plugins.registry.register('own', '.own')\ndef f():\n    'Ours.'\n"
    (tmp_path / "our_plugins" / "own.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield "our_plugins"
    for name in ("our_plugins", "our_plugins.own"):
        sys.modules.pop(name, None)


@pytest.fixture
def registry(package):
    import our_plugins  # noqa: PLC0415 - made by the fixture

    our_plugins.registry = Registry("format", package, "tests.none")
    return our_plugins.registry


def test_a_module_of_the_package_registers_itself_when_first_asked_for(registry):
    assert "our_plugins.own" not in sys.modules
    assert list(registry) == ["own"]
    assert registry["own"].suffixes == (".own",)


def test_a_third_party_registers_by_entry_point(registry, monkeypatch):
    named = {"name": "theirs", "value": "their_module", "dist": None}
    third = SimpleNamespace(load=lambda: registry.register("theirs", ".their")(shout), **named)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [third] if group == "tests.none" else [])
    assert list(registry) == ["own", "theirs"]
    assert registry["theirs"].function is shout


def test_the_help_is_the_first_line_of_the_docstring(registry):
    registry.register("shout")(shout)
    assert registry["shout"].help == "Write it in capitals."


def test_the_decorator_gives_the_function_back(registry):
    assert registry.register("shout")(shout) is shout


def test_an_unknown_name_lists_the_known_ones_and_in_tells_without_raising(registry):
    assert "pdf" not in registry
    assert "own" in registry
    with pytest.raises(UnknownNameError, match="unknown format 'pdf'; choose from own"):
        registry["pdf"]


def test_the_longest_file_ending_wins_in_any_case(registry):
    registry.register("plain", ".json")(shout)
    registry.register("zipped", ".json.gz", ".gz")(shout)
    assert registry.for_suffix("a.JSON.gz").name == "zipped"
    assert registry.for_suffix("a.json").name == "plain"
    assert registry.for_suffix("json") is None


def test_each_format_tells_what_it_is_in_one_line():
    for name in FORMATS:
        assert FORMATS[name].help.endswith(".")
        assert len(FORMATS[name].help) < 100


def test_no_two_formats_claim_one_file_ending():
    endings = [suffix for name in FORMATS for suffix in FORMATS[name].suffixes]
    assert sorted(endings) == sorted(set(endings))


def test_listing_the_formats_imports_no_torch():
    code = "import sys; from gradtrace.formats.base import FORMATS; list(FORMATS); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
