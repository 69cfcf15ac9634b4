"""Errors that lie with the disk become one message; all others stay what they are."""

import errno
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from textgen.disk import DiskError, disk_error, disk_errors, free_bytes, in_words, naming
from textgen.errors import UserError


def os_error(number: int, file: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), file)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "the disk is full: "),
        (errno.EDQUOT, "the disk quota is used up: "),
        (errno.EROFS, "the file system is read-only. Make it writable, and run the same command again"),
        (errno.EIO, "the disk reported an error (Input/output error). Check it"),
        (errno.EFBIG, "files of this size are not allowed here. Raise the limit"),
    ],
)
def test_a_reason_is_named_with_the_file_and_a_remedy(tmp_path, number, reason):
    found = disk_error(os_error(number, str(tmp_path / "x")))
    assert str(found).startswith(f"{tmp_path / 'x'}: cannot be written: {reason}")
    assert str(disk_error(os_error(number), tmp_path)).startswith(f"{tmp_path}: cannot be written: {reason}")


def test_a_full_disk_is_described_in_numbers(tmp_path):
    message = str(disk_error(os_error(errno.ENOSPC, str(tmp_path / "no" / "x")), needed=1_500_000_000))
    assert "the disk is full: about 1.5 GB is needed, and " in message
    assert "B is free. Free some space, and run" in message


def test_errors_of_rust_libraries_have_the_systems_number_in_their_text():
    error = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert str(disk_error(error, Path("/run/model"))).startswith("/run/model: cannot be written: the disk is full")
    assert disk_error(SafetensorError("Error while serializing: I/O error (os error 2)"), Path("/")) is None


def test_a_directory_that_is_gone_is_named_and_a_missing_file_is_a_bug(tmp_path):
    missing = os_error(errno.ENOENT, str(tmp_path / "run" / "x"))
    assert str(disk_error(missing, tmp_path / "run")).startswith(f"{tmp_path / 'run'}: the directory is gone")
    assert disk_error(missing, tmp_path) is None
    assert disk_error(missing) is None
    assert disk_error(ValueError("a bug"), tmp_path) is None
    assert disk_error(os_error(errno.EACCES, "x"), tmp_path) is None


@pytest.mark.parametrize("number", [errno.EISDIR, errno.EEXIST, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM])
def test_what_is_in_the_way_in_the_directory_is_named(tmp_path, number):
    file = str(tmp_path / "deep" / "x")
    for error in (os_error(number, file), OSError(number, "", str(tmp_path / ".x.tmp"), None, file)):
        assert str(disk_error(error, tmp_path)).startswith(f"{file}: cannot be written or read: ")
    assert disk_error(os_error(number, str(tmp_path.parent / "x")), tmp_path) is None, "elsewhere, it is a bug"
    assert disk_error(os_error(number, file)) is None


def test_inside_only_errors_of_the_disk_are_changed(tmp_path):
    for error, expected in [
        (os_error(errno.ENOSPC), DiskError),
        (UserError("x (os error 28)"), UserError),
        (KeyError("x"), KeyError),
    ]:
        with pytest.raises(expected) as caught, disk_errors(lambda: tmp_path):
            raise error
        assert type(caught.value) is expected
    with (
        pytest.raises(DiskError, match=r"^a file: cannot be written: the disk is full\. Free"),
        disk_errors(lambda: None),
    ):
        raise os_error(errno.ENOSPC)


def test_an_error_of_an_open_file_names_it(tmp_path):
    file = Path("/dev/full")
    with pytest.raises(OSError, match="No space") as caught, naming(tmp_path), file.open("wb", buffering=0) as opened:
        opened.write(b"x")
    assert caught.value.filename == str(tmp_path)
    with pytest.raises(FileNotFoundError) as caught, naming(tmp_path):
        (tmp_path / "missing").read_bytes()
    assert caught.value.filename == str(tmp_path / "missing")


def test_sizes_are_in_words_and_free_space_is_that_of_the_nearest_directory(tmp_path):
    assert [in_words(n) for n in (0, 999, 1500, 2.5e6, 1.5e9, 3e12)] == [
        "0 bytes", "999 bytes", "1.5 kB", "2.5 MB", "1.5 GB", "3.0 TB"
    ]  # fmt: skip
    assert free_bytes(tmp_path / "a" / "b") == pytest.approx(free_bytes(tmp_path), rel=0.01)
