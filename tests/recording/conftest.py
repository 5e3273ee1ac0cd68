"""The devices that recording is tested on: the CPU, and the pretend accelerator of ``tests/accelerator``."""

import os

import pytest

from tests.accelerator import compiler, load


EVERYWHERE = {f"test_{name}.py" for name in "afterwards checkpoint facts functional gradcheck hooks kinds modules names no_memory oracle rest series sources statistics threads watch formulas".split()}


def pytest_collection_modifyitems(items):
    """Load the pretend accelerator before the first backward of the process, if a test here is to run on it."""
    asking = [item for item in items if {"device", "default_device", "pretend"}.intersection(getattr(item, "fixturenames", ()))]
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


def pytest_generate_tests(metafunc):
    """Run the tests of the files in EVERYWHERE once more, with all tensors made on the pretend accelerator."""
    if metafunc.definition.path.name in EVERYWHERE and "device" not in metafunc.fixturenames:
        metafunc.fixturenames.insert(0, "default_device")
        metafunc.parametrize("default_device", ["cpu", "pretend"], indirect=True)


@pytest.fixture
def default_device(request):
    """Let tensors be made on a device where nothing else is said."""
    if request.param == "cpu":
        yield
        return
    import torch  # noqa: PLC0415

    request.getfixturevalue("pretend")
    torch.set_default_device("pretend")
    yield
    torch.set_default_device(None)
