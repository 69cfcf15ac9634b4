"""Files of tensors are read by safetensors, and what the disk has is what is hashed."""

import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from textgen.training import tensor_files
from textgen.training.tensor_files import safetensors_pieces, write_verified

DTYPES = sorted(tensor_files._NAMES, key=str)


@given(
    shapes=st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=1, max_size=6),
    dtypes=st.lists(st.sampled_from(DTYPES), min_size=6, max_size=6),
    metadata=st.none() | st.just({"parts": "{}"}),
)
def test_safetensors_reads_what_was_written(tmp_path_factory, shapes, dtypes, metadata):
    directory = tmp_path_factory.mktemp("files")
    tensors = {}
    for i, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=False)):
        tensors[f"p{i}"] = torch.randint(0, 2, shape).to(dtype)
    entry = write_verified(directory / "ours", safetensors_pieces(tensors, metadata))
    found = load_file(directory / "ours")
    assert found.keys() == tensors.keys()
    assert all(found[k].dtype == t.dtype and torch.equal(found[k], t) for k, t in tensors.items())
    data = (directory / "ours").read_bytes()
    assert entry == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    with safe_open(directory / "ours", "pt") as file:
        assert file.metadata() == metadata


def test_a_file_longer_than_a_chunk_is_written_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_files, "_CHUNK", 7)
    tensor = torch.arange(100.0)
    write_verified(tmp_path / "x", safetensors_pieces({"x": tensor}, None))
    assert torch.equal(load_file(tmp_path / "x")["x"], tensor)


def test_a_disk_that_is_full_is_the_systems_own_error():
    with pytest.raises(OSError, match="No space left on device"):
        write_verified(tensor_files.Path("/dev/full"), safetensors_pieces({"x": torch.zeros(10_000)}, None))
