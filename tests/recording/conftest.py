"""The devices that recording is tested on: the CPU, and the pretend accelerator of ``tests/accelerator``."""

import os

import pytest

from tests.accelerator import compiler, load

# The files whose tests are run once more with all tensors made on the pretend accelerator.
_SUBJECTS = "afterwards checkpoint functional hooks modules names series sources threads watch"
EVERYWHERE = {f"test_{subject}.py" for subject in _SUBJECTS.split()}


def pytest_collection_modifyitems(items):
    """Load the pretend accelerator before the first backward of the process, if a test here is to run on it."""
    if compiler() is not None and any(map(_needs_it, items)):
        load()


def _params(item):
    return item.callspec.params if hasattr(item, "callspec") else {}


def _needs_it(item):
    return "pretend" in {*getattr(item, "fixturenames", ()), *map(str, _params(item).values())}


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
    """Give the tests of the files in EVERYWHERE both devices."""
    if metafunc.definition.path.name in EVERYWHERE and "device" not in metafunc.fixturenames:
        metafunc.parametrize("default_device", ["cpu", "pretend"], indirect=True)


@pytest.fixture(autouse=True)
def default_device(request):
    """Let tensors be made on a device where nothing else is said."""
    if getattr(request, "param", "cpu") == "cpu":
        yield
        return
    import torch  # noqa: PLC0415

    request.getfixturevalue("pretend")
    torch.set_default_device("pretend")
    yield
    torch.set_default_device(None)
