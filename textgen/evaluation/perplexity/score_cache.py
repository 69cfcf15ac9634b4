"""A cache of window scores on disk, written as they are computed, from which an interrupted evaluation resumes.

A record is the score of one window. Its key is a hash of everything the score depends on: every bit of the model's
weights, the settings, the software versions, the tokens that are read and scored, and where documents begin among them.
Text and tokenizer enter through the tokens. So an evaluation finds a record only if it would compute the same numbers;
dates and names play no part. With ``rolling``, documents do not share windows, so changing one keeps the records of all
others valid; with ``strided``, those of the text before it.

Each process appends to its own file, since few file systems make it safe to append to one file from several machines.
A line that was cut off by a kill is skipped.
"""

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from textgen.disk import naming
from textgen.evaluation.exchange import gather, on_main
from textgen.evaluation.perplexity.document_sums import TokenSums, WindowScore
from textgen.evaluation.perplexity.token_windows import TokenWindow, TokenWindows
from textgen.model.loading import raw_bytes
from textgen.training.distributed.sharding import gather as gather_shards

_DIGEST = 20  # bytes
_FORMAT = 1  # part of every key, so that records in another layout are never found


class ScoreCache:
    """The window scores in a directory, as one process of an evaluation reads and writes them.

    Args:
        directory: the directory of the records, created with the first of them.
        process: index of this process.
    """

    def __init__(self, directory: Path, process: int) -> None:
        self.directory = directory
        self.path = directory / f"process-{process}.jsonl"

    def read(self) -> dict[str, WindowScore]:
        """All records of all processes, by key; damaged lines are skipped."""
        found = {}
        for path in sorted(self.directory.glob("process-*.jsonl")):
            for line in path.read_bytes().split(b"\n"):
                row = _intact(line)
                if row is not None:
                    found[row["key"]] = WindowScore([TokenSums(**sums) for sums in row["tallies"]], row["hardest"])
        return found

    def append(self, rows: Sequence[tuple[str, list[str], WindowScore]]) -> None:
        """Write rows of (key, document ids, score), one per line; scores that are not finite are left out."""
        lines = []
        for key, ids, score in rows:
            if all(math.isfinite(sums.nll) for sums in score.sums):
                sums = [asdict(one) for one in score.sums]
                record = {"key": key, "documents": ids, "tallies": sums, "hardest": score.hardest}
                lines.append(json.dumps({"check": _checksum(record), **record}))
        if not lines:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        with naming(self.path), self.path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a line cut off by a kill must not corrupt the next one
                    lines.insert(0, "")
            file.write(("\n".join(lines) + "\n").encode())


def _intact(line: bytes) -> dict[str, Any] | None:
    """The record in a line, or None unless its checksum matches."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and row.pop("check", None) == _checksum(row) else None


def _checksum(record: Mapping[str, Any]) -> str:
    # JSON preserves every bit of a float, so a record that is read back has the checksum it was written with.
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class CachedScores:
    """What a cache knows of an evaluation's windows.

    Attributes:
        known: whether each window's score is in the cache, [windows]; the same on every process.
        scores: these scores by window index, on the main process only.
        evaluation: the :func:`evaluation_key`.
        repeats: how many earlier windows are identical, by window index, for those that have any.
    """

    known: np.ndarray
    scores: dict[int, WindowScore]
    evaluation: str
    repeats: dict[int, int]

    def key(self, index: int, window: TokenWindow) -> str:
        """The key of a window's record."""
        return f"{window_digest(self.evaluation, window)}-{self.repeats.get(index, 0)}"


def look_up(processes: Any, cache: ScoreCache, evaluation: str, windows: TokenWindows) -> CachedScores:
    """Find out which windows are in the cache; every process calls it.

    Only the main process reads the cache: another machine may see an older state of a shared directory, and all must
    plan the same batches. It gets 20 bytes per window, and sends a bit for each and the numbers of repeated ones.

    Args:
        processes: an Accelerator.
        cache: this process's view of the cache.
        evaluation: the :func:`evaluation_key`.
        windows: the windows of the evaluation.
    """
    digests = b"".join(bytes.fromhex(window_digest(evaluation, windows[index])) for index in windows.own)
    gathered = gather(processes, (np.array(windows.own, np.int64), digests))
    scores: dict[int, WindowScore] = {}

    def compare() -> tuple[np.ndarray, dict[int, int]]:
        assert gathered is not None
        by_index = [b""] * len(windows)
        for indices, part in gathered:
            for number, index in enumerate(indices.tolist()):
                by_index[index] = part[_DIGEST * number : _DIGEST * (number + 1)]
        repeats = _repeats(by_index)
        found = cache.read()
        for index, digest in enumerate(by_index):
            if (score := found.get(f"{digest.hex()}-{repeats.get(index, 0)}")) is not None:
                scores[index] = score
        known = np.zeros(len(windows), bool)
        known[list(scores)] = True
        return np.packbits(known), repeats

    bits, repeats = on_main(processes, compare)
    return CachedScores(np.unpackbits(bits, count=len(windows)).astype(bool), scores, evaluation, repeats)


def _repeats(digests: Sequence[bytes]) -> dict[int, int]:
    """Index → number of equal digests before it, where there are any."""
    seen: Counter[bytes] = Counter()
    repeats = {}
    for index, digest in enumerate(digests):
        if seen[digest]:
            repeats[index] = seen[digest]
        seen[digest] += 1
    return repeats


def window_digest(evaluation: str, window: TokenWindow) -> str:
    """A hash, in hexadecimal digits, of the :func:`evaluation_key`, a window's tokens and where documents begin."""
    begins = np.flatnonzero(np.diff(window.owners, prepend=-1))  # of documents among the targets
    digest = hashlib.sha256(evaluation.encode())
    for array in (window.inputs, window.targets, begins):
        digest.update(len(array).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    return digest.digest()[:_DIGEST].hex()


def evaluation_key(model: Any, settings: Mapping[str, Any]) -> str:
    """A hash of what all records of an evaluation depend on: model, settings, software versions and device.

    With sharded parameters, every process must call it.
    """
    device = next(model.parameters()).device
    autocast = torch.is_autocast_enabled(device.type)
    matmul_precision = torch.get_float32_matmul_precision()
    facts = {
        "format": _FORMAT,
        "settings": dict(settings),
        "weights": _weights(model),
        "structure": repr(model),
        "architecture": getattr(model, "config", None) and model.config.to_dict() | {"_name_or_path": None},
        "adapters": {name: config.to_dict() for name, config in getattr(model, "peft_config", {}).items()},
        "active": str(getattr(model, "active_adapter", None)),
        "device": device.type,
        "autocast": str(torch.get_autocast_dtype(device.type)) if autocast else None,
        "products": matmul_precision,  # this name is part of the hash: with another, no existing record would be found
        "versions": [version(package) for package in ("torch", "transformers", "peft")],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: Any) -> Any:
    # The order of a set of strings differs between processes.
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)


def _weights(model: Any) -> str:
    """SHA-256 of all parameters and buffers; for quantized weights, also of the rest of their state."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    if not all(parameter.is_floating_point() for parameter in model.parameters()):
        tensors |= {name: value for name, value in model.state_dict().items() if torch.is_tensor(value)}
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(raw_bytes(gather_shards(tensor.detach())))
    return digest.hexdigest()
