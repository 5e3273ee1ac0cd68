"""Errors: each carries an exit code, says what to do instead, and has its place in the drawn tree."""

import re

import pytest

from gradtrace import errors
from gradtrace.errors import GradtraceError, UnknownNameError

CLASSES = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", CLASSES)
def test_the_tree_in_the_docstring_shows_each_error_with_its_exit_code(kind):
    drawn = dict(re.findall(r"(\w+Error) \((\d)\)", errors.__doc__))
    assert int(drawn[kind.__name__]) == kind.exit_code
    assert len(drawn) == len(CLASSES)


@pytest.mark.parametrize("kind", CLASSES)
def test_one_except_catches_them_all(kind):
    assert issubclass(kind, GradtraceError)


@pytest.mark.parametrize("kind", CLASSES)
def test_the_hint_follows_the_message(kind):
    assert str(kind("no such file 'x'", "make it first")) == "no such file 'x'; make it first"
    assert str(kind("no such file 'x'")) == "no such file 'x'"


def test_an_unknown_name_is_a_key_error_and_lists_the_valid_ones():
    error = UnknownNameError.of("format", "svgg", ["dot", "svg"])
    assert isinstance(error, KeyError)
    assert str(error) == "unknown format 'svgg'; choose from dot, svg"
