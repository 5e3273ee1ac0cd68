"""Who this process is, and the names of the files of each."""

import pytest

from gradtrace.errors import GradtraceError
from gradtrace.processes.process import Process, file_name, read_ranks, this_process


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("run.json.gz", "run.rank1.json.gz"),
        ("run.json", "run.rank1.json"),
        ("a.b/run", "a.b/run.rank1"),
        ("train.svg", "train.rank1.svg"),
        ("run-{rank}-of-{world}.json", "run-1-of-2.json"),
        ("{host}.json", "here.rank1.json"),
        ("-", "-"),
    ],
)
def test_each_process_has_a_file_of_its_own(pattern, name):
    assert file_name(pattern, Process(1, 2, "here")) == name


def test_what_was_recorded_before_a_restart_is_not_written_over():
    names = [file_name("run.json", Process(0, 2, restart=count)) for count in range(3)]
    assert names == ["run.rank0.json", "run.restart1.rank0.json", "run.restart2.rank0.json"]
    assert file_name("run-{restart}-{rank}.json", Process(0, 2, restart=2)) == "run-2-0.json"


def test_one_process_keeps_the_name_as_it_is():
    assert file_name("run.json", Process()) == "run.json"


@pytest.mark.parametrize(
    ("environment", "rank", "world", "restart"),
    [
        ({}, 0, 1, 0),
        ({"RANK": "3", "WORLD_SIZE": "8", "TORCHELASTIC_RESTART_COUNT": "2"}, 3, 8, 2),
        ({"RANK": "3"}, 0, 1, 0),
        ({"RANK": "x", "WORLD_SIZE": "8"}, 0, 1, 0),
        ({"RANK": "8", "WORLD_SIZE": "8"}, 0, 1, 0),
    ],
)
def test_the_launcher_says_which_process_this_is(monkeypatch, environment, rank, world, restart):
    for name in ("RANK", "WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = this_process()
    assert (found.rank, found.world, found.restart) == (rank, world, restart)


@pytest.mark.parametrize("text", ["", "a", "1-", "3-1", "0,,1", "-1"])
def test_ranks_that_are_none_are_refused(text):
    with pytest.raises(GradtraceError, match="write them as"):
        read_ranks(text)
