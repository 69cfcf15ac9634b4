"""A checkpoint's manifest says what is in it, and every kind of damage is named."""

import hashlib
import json

import pytest

from textgen.training.checkpoint_manifest import find_damage, read_manifest, write_manifest


@pytest.fixture
def checkpoint(tmp_path):
    """A directory with two files and their manifest."""
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    contents = {path.name: path.read_bytes() for path in sorted(tmp_path.iterdir())}
    files = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in contents.items()}
    write_manifest(tmp_path, step=7, files=files, fingerprints={"data": "d" * 64})
    return tmp_path


def test_a_manifest_lists_the_files_and_what_they_belong_to(checkpoint):
    manifest = read_manifest(checkpoint)
    assert (manifest["step"], manifest["fingerprints"]) == (7, {"data": "d" * 64})
    assert list(manifest["files"]) == ["a.bin", "b.bin"]
    assert manifest["files"]["a.bin"]["size"] == 500
    assert find_damage(checkpoint) is None


@pytest.mark.parametrize("change", ["step", "files", "fingerprints", "format"])
def test_an_edited_manifest_does_not_match_its_checksum(checkpoint, change):
    manifest = read_manifest(checkpoint)
    (checkpoint / "manifest.json").write_text(json.dumps(manifest | {change: {}}, indent=2) + "\n")
    assert find_damage(checkpoint) == "manifest.json does not match its checksum"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", "1", "[" * 100_000])
def test_what_is_not_a_manifest_cannot_be_read(checkpoint, text):
    (checkpoint / "manifest.json").write_text(text)
    assert find_damage(checkpoint) == "manifest.json cannot be read"


def test_without_a_manifest_it_is_no_checkpoint(checkpoint):
    (checkpoint / "manifest.json").unlink()
    assert find_damage(checkpoint) == "manifest.json cannot be read"


def test_a_missing_or_changed_file_is_named(checkpoint):
    path = checkpoint / "b.bin"
    path.write_bytes(path.read_bytes()[::-1])
    assert find_damage(checkpoint) == "b.bin does not match its checksum"
    path.unlink()
    assert find_damage(checkpoint) == "b.bin is missing"
