"""What all tests share; importing it costs nothing, for most tests need no torch."""

import os
import shutil
import sys
from collections import Counter

import pytest

collect_ignore = ["larger"]  # scripts that the tests run, not tests


def pytest_configure(config):
    """Under xdist, give all tests of a file to one process: what they share is then made once."""
    if config.getoption("dist", "no") == "load":
        config.option.dist = "loadfile"


def pytest_collection_modifyitems(items):
    """Skip the tests marked ``cuda`` where there is no GPU; torch is imported only if there is such a test."""
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if not marked:
        return
    import torch  # noqa: PLC0415 - 1.5 s

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture
def counted(record_property):
    """Let a test that tries many say how many: the sums stand in the summary."""
    return lambda **counts: record_property("counted", counts)


def pytest_terminal_summary(terminalreporter):
    """Tell how many programs, files and the like were tried, which the number of tests does not."""
    sums = Counter()
    for report in (*terminalreporter.stats.get("passed", ()), *terminalreporter.stats.get("failed", ())):
        sums.update(
            {
                what: count
                for name, counts in report.user_properties
                if name == "counted"
                for what, count in counts.items()
            }
        )
    if sums:
        terminalreporter.write_line("tried: " + ", ".join(f"{count:,} {what}" for what, count in sums.items()))


@pytest.fixture(autouse=True)
def _default_dtype():
    """Take back the default dtype that a script set which ran in this process."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_default_dtype(sys.modules["torch"].float32)


@pytest.fixture(scope="session")
def latex():
    """Let a test use LaTeX and read PDFs; where they must be (in CI) and are not, that is a failure."""
    missing = [name for name in ("pdflatex", "pdftotext") if shutil.which(name) is None]
    if missing:
        needed = "texlive-latex-recommended texlive-pictures poppler-utils"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs {missing}: apt-get install {needed}")
