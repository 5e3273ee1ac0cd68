"""The wheel, built from the sdist: installed where there is no compiler, it draws the first example."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOADED = "from gradtrace.recording.native.loader import NATIVE; print(NATIVE.__file__)"


def run(*command, **more):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that pip makes of the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, sdist)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment with the wheel, and with what it depends on lent from this one."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "--disable-pip-version-check", "install", "--no-index", "--no-deps", wheel)
    lent = [path for path in sys.path if path.endswith("-packages")]
    assert sysconfig.get_path("purelib") in lent
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    (Path(site) / "lent.pth").write_text("".join(f"{path}\n" for path in lent))
    return folder


@pytest.mark.slow
def test_the_wheel_is_for_this_platform_and_every_python_from_3_11(wheel):
    assert wheel.name.split("-", 2)[2].startswith("cp311-abi3-")


@pytest.mark.slow
def test_without_a_compiler_the_wheel_draws_the_first_example_and_brings_its_c_part(environment, tmp_path):
    nowhere = {"PATH": str(environment / "bin"), "CC": "no-such-compiler", "GRADTRACE_NATIVE": "require"}
    found = run(environment / "bin" / "python", "-c", LOADED, env=nowhere, cwd=tmp_path)
    assert found.startswith(str(environment))
    run(environment / "bin" / "gradtrace", "render", ROOT / "examples" / "partials.py", env=nowhere, cwd=tmp_path)
    assert "∂f/∂v = 50" in (tmp_path / "partials.svg").read_text(encoding="utf-8")
