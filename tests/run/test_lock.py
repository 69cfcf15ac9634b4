"""Only one process at a time holds a directory, and a dead one holds nothing."""

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest

from textgen.errors import UserError
from textgen.run import lock
from textgen.run.lock import LOCK_FILE, is_locked, lock_holder, take_lock

HOLD = """
import sys
from pathlib import Path
from textgen.run.lock import take_lock
print(take_lock(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which has taken the lock of ``tmp_path``."""
    root = str(Path(lock.__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_a_lock_is_held_until_its_process_ends_even_if_that_is_killed(other, tmp_path):
    assert is_locked(tmp_path)
    assert not take_lock(tmp_path)
    other.kill()
    other.wait()
    assert not is_locked(tmp_path)
    assert take_lock(tmp_path)


def test_a_process_does_not_lock_itself_out(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    assert take_lock(tmp_path)
    assert take_lock(tmp_path / "link")
    assert not is_locked(tmp_path)


def test_looking_writes_nothing_and_leaves_the_lock_free(tmp_path):
    assert not is_locked(tmp_path / "nowhere")
    assert not is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / LOCK_FILE).write_bytes(b"")
    assert not is_locked(tmp_path)
    assert str(tmp_path) not in lock._held


def test_the_file_says_who_holds_the_lock(other, tmp_path):
    assert lock_holder(tmp_path) == (socket.gethostname(), other.pid)
    assert not take_lock(tmp_path)
    assert lock_holder(tmp_path) == (socket.gethostname(), other.pid)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"host": "a", "process_id": "x"}', b"\xff"])
def test_a_damaged_file_names_nobody(tmp_path, content):
    (tmp_path / LOCK_FILE).write_bytes(content)
    assert lock_holder(tmp_path) is None
    assert take_lock(tmp_path)


@pytest.fixture(params=[NotImplementedError(), OSError(errno.ENOLCK, ""), OSError(errno.EOPNOTSUPP, "")], ids=repr)
def _no_locks(request, monkeypatch) -> None:
    def acquire(self, timeout):
        raise request.param

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)


@pytest.mark.usefixtures("_no_locks")
def test_without_locks_a_process_that_lives_on_this_machine_is_respected(other, tmp_path):
    assert is_locked(tmp_path)
    assert not take_lock(tmp_path)
    other.kill()
    other.wait()
    assert not is_locked(tmp_path)
    assert take_lock(tmp_path)


@pytest.mark.usefixtures("_no_locks")
def test_without_locks_other_machines_cannot_be_respected_which_is_said(tmp_path, capsys):
    (tmp_path / LOCK_FILE).write_text(json.dumps({"host": "elsewhere", "process_id": os.getppid()}))
    assert not is_locked(tmp_path)
    assert capsys.readouterr().err == ""
    assert take_lock(tmp_path)
    assert "this file system has no locks. Make sure that no other machine runs" in capsys.readouterr().err


def test_any_other_error_is_the_users_to_mend(tmp_path, monkeypatch):
    def acquire(self, timeout):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    with pytest.raises(UserError, match=r"\.lock: cannot be locked: Permission denied\. Make it writable, or"):
        take_lock(tmp_path)
