"""Checksums of a file's chunks, so that part of a large file can be checked when it is read.

``NAME.crc32`` beside a file has the CRC-32 of each of its chunks of 64 KiB. It detects every flipped bit, every burst
of up to 32 bits, and all but one in four billion other damages. A hash that withstands an attacker would not help: who
can write one of the files can write the other. The checksums are those of the data in memory, before it was written.
"""

import zlib
from pathlib import Path

import numpy as np

CHUNK = 1 << 16  # bytes
SUFFIX = ".crc32"
SUM_BYTES = 4


class ChunkSums:
    """Computes the checksums of data that is appended.

    Args:
        size: bytes of the file so far.
        partial: checksum of the last, incomplete chunk of these.

    Attributes:
        partial: checksum of the last, incomplete chunk.
    """

    def __init__(self, size: int = 0, partial: int = 0) -> None:
        self._filled, self.partial = size % CHUNK, partial

    def append(self, data: bytes | memoryview) -> bytes:
        """Add data; returns the checksums of the chunks that it completes."""
        found = []
        rest = memoryview(data)
        rest = rest.cast("B") if rest.nbytes else memoryview(b"")
        while rest:
            piece, rest = rest[: CHUNK - self._filled], rest[CHUNK - self._filled :]
            self.partial = zlib.crc32(piece, self.partial)
            self._filled += len(piece)
            if self._filled == CHUNK:
                found.append(self.partial)
                self._filled = self.partial = 0
        return np.array(found, "<u4").tobytes()

    def rest(self) -> bytes:
        """The checksum of the last, incomplete chunk; empty if there is none."""
        return np.array([self.partial], "<u4").tobytes() if self._filled else b""


def first_damage(data: np.ndarray, sums: np.ndarray, chunks: range) -> int | None:
    """The first of some chunks that does not match its checksum; None if all match.

    Args:
        data: the file's bytes, (size,) uint8.
        sums: the checksums of its chunks.
        chunks: which to check.
    """
    for chunk in chunks:
        if zlib.crc32(data[chunk * CHUNK : (chunk + 1) * CHUNK].data) != sums[chunk]:
            return chunk
    return None


def read_sums(path: Path) -> np.ndarray:
    """The checksums of the file at a path."""
    return np.fromfile(path.with_name(path.name + SUFFIX), "<u4")


def chunks_in(size: int) -> int:
    """Number of chunks of a file of so many bytes."""
    return -(-size // CHUNK)
