"""Only one process at a time holds a directory, and a dead one holds nothing."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest

from textgen.run import lock
from textgen.run.lock import LOCK_FILE, is_locked, take_lock

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


@pytest.mark.parametrize("error", [NotImplementedError(), OSError(37, "No locks available")])
def test_where_the_file_system_has_no_locks_nothing_is_locked(tmp_path, monkeypatch, error):
    def acquire(self, timeout):
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    (tmp_path / LOCK_FILE).write_bytes(b"")
    assert not is_locked(tmp_path)
    assert take_lock(tmp_path)
