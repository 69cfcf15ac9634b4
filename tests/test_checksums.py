"""JSON that carries its own checksum: every flipped byte is noticed."""

import json

import pytest

from textgen.checksums import check_seal, file_sha256, read_sealed, sha256_of, with_seal, write_sealed

VALUE = {"files": {"a": [1, 2.5]}, "text": "ü", "nothing": None}


def test_what_was_sealed_is_read_back_without_the_seal(tmp_path):
    write_sealed(tmp_path / "x.json", VALUE)
    assert read_sealed(tmp_path / "x.json") == VALUE
    assert check_seal(json.loads(json.dumps(with_seal(VALUE)))) == VALUE
    assert read_sealed(tmp_path / "missing.json") is None


def test_no_flipped_bit_gives_another_value(tmp_path):
    path = tmp_path / "x.json"
    write_sealed(path, VALUE)
    whole = path.read_bytes()
    read = []
    for index in range(len(whole)):
        for bit in (1, 16, 128):
            path.write_bytes(whole[:index] + bytes([whole[index] ^ bit]) + whole[index + 1 :])
            read.append(read_sealed(path))
    assert len(read) > 300
    assert all(value in (None, VALUE) for value in read)
    assert read.count(None) > 0.9 * len(read), "the others are white space"


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b'"x"', b"{}", b'{"sha256": 1}', b"[" * 100_000, b"\xff"])
def test_anything_else_is_not_sealed(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    assert read_sealed(tmp_path / "x.json") is None


def test_a_file_has_the_hash_of_its_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    assert file_sha256(tmp_path / "x") == sha256_of(b"12345")
    assert file_sha256(tmp_path / "missing") is None
    assert file_sha256(tmp_path) is None, "a directory"
