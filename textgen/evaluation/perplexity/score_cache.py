"""Scores on the disk as they are made, so that an evaluation that was killed goes on where it stopped.

A record is what came of one window, under a key that is a hash of everything that it depends on: the model, to the last
bit of its weights; the settings and the versions of the software; the tokens read and scored, and where in them
documents begin. Text and tokenizer are in it through their tokens. So a record is found again by an evaluation that
would compute the same, and by no other: a changed document or weight is not noticed by comparing dates or names, its
key is simply another. With ``rolling``, documents do not share windows, and a changed one leaves the records of all
others good; with ``strided``, those of the text before it.

Every process appends to a file of its own, since appending to one file from many machines is safe on few file systems.
A line that a kill cut off is passed over.
"""

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from textgen.evaluation.perplexity.document_sums import PassageScore, Tally
from textgen.evaluation.perplexity.windows import Passage
from textgen.model.loading import raw_bytes
from textgen.training.distributed.sharding import gather

_FORMAT = 1  # part of every key: a record of another layout is never found


class Records:
    """The records of one directory, as one process of an evaluation sees them.

    Args:
        directory: made when the first record is written.
        process: number of this process.
    """

    def __init__(self, directory: Path, process: int) -> None:
        self.directory = directory
        self.path = directory / f"process-{process}.jsonl"

    def read(self) -> dict[str, PassageScore]:
        """Everything that any process has written, by key; lines that are not whole are left out."""
        found = {}
        for path in sorted(self.directory.glob("process-*.jsonl")):
            for line in path.read_bytes().split(b"\n"):
                row = _whole(line)
                if row is not None:
                    found[row["key"]] = PassageScore([Tally(**tally) for tally in row["tallies"]], row["hardest"])
        return found

    def append(self, rows: Sequence[tuple[str, list[str], PassageScore]]) -> None:
        """Write rows of (key, ids of the documents, score), a line each; but none of what is not finite."""
        finite = [row for row in rows if all(math.isfinite(tally.nll) for tally in row[2].tallies)]
        records = [{"key": key, "documents": ids, **asdict(score)} for key, ids, score in finite]
        lines = [json.dumps({"check": _check(record), **record}) for record in records]
        if not lines:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # what a kill left of a line must not take the next one with it
                    lines.insert(0, "")
            file.write(("\n".join(lines) + "\n").encode())


def _whole(line: bytes) -> dict[str, Any] | None:
    """The record in a line, or None if the line is not, to the last bit, what was written."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and row.pop("check", None) == _check(row) else None


def _check(record: Mapping[str, Any]) -> str:
    """A checksum: JSON gives back the bits of a float, so what was read is hashed to what was written."""
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()[:16]


def passage_keys(evaluation: str, passages: Sequence[Passage]) -> list[str]:
    """A key for each window of an evaluation (:func:`evaluation_key`); equal windows are told apart by their order."""
    keys = []
    seen: Counter[str] = Counter()
    for passage in passages:
        begins = np.flatnonzero(np.diff(passage.owners, prepend=-1))  # of documents among the targets
        digest = hashlib.sha256(evaluation.encode())
        for array in (passage.inputs, passage.targets, begins):
            digest.update(len(array).to_bytes(8, "little"))
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        key = digest.hexdigest()[:40]
        keys.append(f"{key}-{seen[key]}")
        seen[key] += 1
    return keys


def evaluation_key(model: Any, settings: Mapping[str, Any]) -> str:
    """A hash of what all records of an evaluation depend on: the model, these settings, the software and the device.

    All processes call it where parameters are sharded.
    """
    device = next(model.parameters()).device
    autocast = torch.is_autocast_enabled(device.type)
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
        "products": torch.get_float32_matmul_precision(),
        "versions": [version(package) for package in ("torch", "transformers", "peft")],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: Any) -> Any:
    # A set of strings is in another order in every process.
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)


def _weights(model: Any) -> str:
    """SHA-256 of all parameters and buffers; and of what else the state of quantised weights consists of."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    if not all(parameter.is_floating_point() for parameter in model.parameters()):
        tensors |= {name: value for name, value in model.state_dict().items() if torch.is_tensor(value)}
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(raw_bytes(gather(tensor.detach())))
    return digest.hexdigest()
