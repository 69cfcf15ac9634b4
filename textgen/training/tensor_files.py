"""Writing files of a checkpoint: safetensors from memory, read back from the disk before anything relies on them.

The package ``safetensors`` writes these files too, but hashes nothing on the way, hides the system's errors behind its
own, and would read all bytes again only to learn their checksum.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from textgen.disk import naming

_CHUNK = 1 << 22  # bytes that are written or read at a time
_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def safetensors_pieces(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None) -> list[np.ndarray]:
    """The bytes of a safetensors file, uint8, in pieces: its header, and each tensor's memory, which is not copied.

    Args:
        tensors: contiguous, in the CPU's memory.
        metadata: more strings for the header.
    """
    # Larger elements first, as safetensors orders them, so that every tensor is aligned in the file.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    first = np.frombuffer(len(text).to_bytes(8, "little") + text, np.uint8)
    return [first, *(tensor.reshape(-1).view(torch.uint8).numpy() for _, tensor in ordered)]


def write_verified(path: Path, pieces: Sequence[np.ndarray]) -> dict[str, Any]:
    """Write a file, and compare what is then on disk with what was to be written; returns its size and SHA-256.

    Args:
        path: the file.
        pieces: its bytes, uint8.

    Raises:
        OSError: it cannot be written, or the disk returns other bytes.
    """
    with naming(path), path.open("wb") as file:
        for chunk in _chunks(pieces):
            file.write(chunk.data)
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):  # otherwise the bytes would be read back from memory, not from the disk
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        for chunk in _chunks(pieces):
            found = np.fromfile(file, np.uint8, len(chunk))
            if not np.array_equal(found, chunk):
                raise OSError(errno.EIO, "the disk returned other bytes than were written", str(path))
            digest.update(found.data)
            size += len(found)
    return {"size": size, "sha256": digest.hexdigest()}


def _chunks(pieces: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    for piece in pieces:
        for start in range(0, len(piece), _CHUNK):
            yield piece[start : start + _CHUNK]
