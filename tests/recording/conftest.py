"""The devices that recording is tested on: the CPU, and the pretend accelerator of ``tests/accelerator``."""

import os

import pytest

from tests.accelerator import compiler, load


def pytest_collection_modifyitems(items):
    """Load the pretend accelerator before the first backward of the process, if a test here is to run on it."""
    asking = [item for item in items if {"device", "pretend"}.intersection(getattr(item, "fixturenames", ()))]
    if asking and compiler() is not None:
        load()


@pytest.fixture
def pretend():
    """Give the pretend accelerator, with nothing counted and nothing amiss."""
    if compiler() is None:
        told = "the pretend accelerator needs a C++ compiler: apt-get install g++"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(told)
    import torch  # noqa: PLC0415 - 1.5 s

    torch.ops.pretend.reset()
    yield torch.ops.pretend
    torch.ops.pretend.reset()


@pytest.fixture(params=["cpu", "pretend"])
def device(request):
    """Give a device by its name; a test that takes it runs on each."""
    if request.param != "cpu":
        request.getfixturevalue("pretend")
    return request.param
