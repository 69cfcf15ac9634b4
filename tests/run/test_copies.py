"""Copies of small files in checkpoints: only intact ones are read, of the newest checkpoint that has one."""

import pytest

from textgen.checksums import sha256_of, write_sealed
from textgen.run.copies import intact_copy, newest_copy


@pytest.fixture
def checkpoint(tmp_path):
    """``checkpoint(2, b"copy")``: a checkpoint with a copy of ``config.yaml``."""

    def make(step, data):
        path = tmp_path / f"checkpoints/step-{step:08d}"
        path.mkdir(parents=True)
        (path / "config.yaml").write_bytes(data)
        write_sealed(path / "manifest.json", {"files": {"config.yaml": {"sha256": sha256_of(data)}}})
        return path

    return make


def test_an_intact_copy_is_read(checkpoint):
    path = checkpoint(2, b"seed: 1")
    assert intact_copy(path, "config.yaml") == b"seed: 1"
    assert intact_copy(path, "metrics.jsonl") is None
    assert intact_copy(path.parent / "step-00000009", "config.yaml") is None


@pytest.mark.parametrize("name", ["config.yaml", "manifest.json"])
@pytest.mark.parametrize("content", [b"", b"seed: 2", b"[]", b'{"files": 3}', None])
def test_a_damaged_one_is_not(checkpoint, name, content):
    path = checkpoint(2, b"seed: 1")
    (path / name).unlink() if content is None else (path / name).write_bytes(content)
    assert intact_copy(path, "config.yaml") is None


def test_the_newest_intact_copy_counts(checkpoint, tmp_path):
    assert newest_copy(tmp_path, "config.yaml") is None
    for step in (2, 4, 6):
        checkpoint(step, f"seed: {step}".encode())
    assert newest_copy(tmp_path, "config.yaml") == b"seed: 6"
    (tmp_path / "checkpoints/step-00000006/config.yaml").write_bytes(b"seed: 7")
    assert newest_copy(tmp_path, "config.yaml") == b"seed: 4"
