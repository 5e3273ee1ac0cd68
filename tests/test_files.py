"""Files are written whole or not at all, where the system lets us, as the system would."""

import errno
import os
import stat
from pathlib import Path

import pytest

from gradtrace.errors import OutputError
from gradtrace.files import check_writable, write_whole

as_user = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
posix = pytest.mark.skipif(os.name != "posix", reason="permissions, links and pipes of a POSIX system")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def disk_full(monkeypatch):
    """The disk fills up after some bytes of a file are written."""

    def write_some(path, pieces):
        data = b"".join(pieces)
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("gradtrace.files._write", write_some)


@pytest.mark.parametrize("data", [b"\x89PNG", "∂f/∂u\n"])
def test_bytes_and_text_arrive_as_they_are(tmp_path, data):
    write_whole(tmp_path / "out", data)
    assert (tmp_path / "out").read_bytes() == (data if isinstance(data, bytes) else data.encode("utf-8"))


def test_a_file_that_was_there_is_replaced(tmp_path):
    (tmp_path / "out").write_text("much longer than the new one")
    write_whole(tmp_path / "out", "new")
    assert (tmp_path / "out").read_text() == "new"


@pytest.mark.usefixtures("disk_full")
def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path):
    with (tmp_path / "out").open("w") as file:
        file.write("old")
    with pytest.raises(OutputError, match="no space left"):
        write_whole(tmp_path / "out", "new and longer")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "old"


@posix
def test_a_new_file_has_the_permissions_that_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "out", "x")
    finally:
        os.umask(before)
    assert mode(tmp_path / "out") == 0o640


@posix
def test_a_file_that_was_there_keeps_its_permissions(tmp_path):
    (tmp_path / "out").touch(0o600)
    write_whole(tmp_path / "out", "x")
    assert mode(tmp_path / "out") == 0o600


@posix
def test_a_link_stays_a_link_and_its_file_is_written(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere" / "file")
    write_whole(tmp_path / "out", "x")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "elsewhere" / "file").read_text() == "x"


@posix
def test_a_device_is_written_and_not_replaced():
    write_whole(os.devnull, "x")
    assert not Path(os.devnull).is_file()


@posix
def test_a_pipe_gets_the_data_and_stays_a_pipe():
    reader, writer = os.pipe()
    try:
        write_whole(f"/dev/fd/{writer}", "x")
        assert os.read(reader, 9) == b"x"
    finally:
        os.close(reader)
        os.close(writer)


def test_checking_leaves_nothing_behind(tmp_path):
    check_writable(tmp_path / "out.svg")
    assert not list(tmp_path.iterdir())


def test_a_name_without_a_folder_means_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_writable("out.svg")
    write_whole("out.svg", "x")
    assert (tmp_path / "out.svg").read_text() == "x"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is a directory"),
        ("nowhere/out.svg", "no such folder"),
        ("file/out.svg", "no such folder"),
        ("x" * 5000, "too long"),
    ],
)
@pytest.mark.parametrize("call", [check_writable, lambda path: write_whole(path, "x")])
def test_what_cannot_be_written_is_told_in_one_line(tmp_path, name, reason, call):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=reason) as caught:
        call(tmp_path / name)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@as_user
def test_a_folder_without_permission_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="permission"):
        check_writable(tmp_path / "out.svg")


@as_user
def test_a_read_only_file_is_told(tmp_path):
    (tmp_path / "out").touch(0o400)
    with pytest.raises(OutputError, match="permission"):
        check_writable(tmp_path / "out")
