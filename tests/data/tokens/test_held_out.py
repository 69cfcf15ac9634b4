"""Held-out documents are read one at a time, and are what was written."""

from pathlib import Path

import numpy as np
import pytest

from textgen.data.document import Document
from textgen.data.split import split_hash
from textgen.data.tokens import held_out
from textgen.data.tokens.chunk_sums import SUFFIX, ChunkSums
from textgen.data.tokens.held_out import HeldOut, line

DOCUMENTS = [Document(f"a#{i}", "a", text) for i, text in enumerate(["one\n", "zwölf \u2028", "three", "one"] * 4)]


def write(directory: Path, documents: list[Document]) -> HeldOut:
    directory.mkdir(exist_ok=True)
    lines = [line(document) for document in documents]
    files = {
        "documents.jsonl": b"".join(lines),
        "ends.bin": np.cumsum([len(one) for one in lines], dtype=np.int64).tobytes(),
        "hashes.bin": np.array([split_hash(document) for document in documents], np.float64).tobytes(),
        "bytes.bin": np.array([document.bytes for document in documents], np.int64).tobytes(),
    }
    for name, data in files.items():
        sums = ChunkSums()
        (directory / name).write_bytes(data)
        (directory / f"{name}{SUFFIX}").write_bytes(sums.append(data) + sums.rest())
    return HeldOut(directory)


def test_it_is_a_sequence_of_the_documents(tmp_path):
    found = write(tmp_path / "entry", DOCUMENTS)
    assert list(found) == DOCUMENTS
    assert len(found) == len(DOCUMENTS)
    assert found[3] == DOCUMENTS[3]
    assert found[-1] == DOCUMENTS[-1]
    assert found[np.int64(2)] == DOCUMENTS[2]
    assert found[2:9:3] == DOCUMENTS[2:9:3]
    assert found[:0] == []
    assert DOCUMENTS[1] in found
    for index in (len(DOCUMENTS), -len(DOCUMENTS) - 1):
        with pytest.raises(IndexError):
            found[index]


def test_it_can_be_empty(tmp_path):
    found = write(tmp_path / "entry", [])
    assert not found
    assert list(found) == list(found.hashes_and_bytes()) == []


def test_hashes_are_those_of_the_split(tmp_path):
    found = write(tmp_path / "entry", DOCUMENTS)
    assert found.split_hashes.tolist() == [split_hash(document) for document in DOCUMENTS]


@pytest.mark.parametrize("at_a_time", [1, 3, 1000])
def test_hashes_and_sizes_are_known_without_the_texts(tmp_path, monkeypatch, at_a_time):
    monkeypatch.setattr(held_out, "_READ_AT_A_TIME", at_a_time)
    found = write(tmp_path / "entry", DOCUMENTS)
    monkeypatch.setattr(held_out, "parse", None)
    assert list(found.hashes_and_bytes()) == [(split_hash(document), document.bytes) for document in DOCUMENTS]
