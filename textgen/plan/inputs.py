"""The files that a run reads, as its ``environment.json`` has them: so that a file that changed can be named."""

import hashlib
from pathlib import Path
from typing import Any

from textgen.data.sources import DataSources
from textgen.data.sources.fingerprints import content_sha256
from textgen.model.locate import FoundModel
from textgen.run.changes import Files

_MOST_FILES = 1000  # of the data; with more, only their number is recorded
_HASHED_BYTES = 1 << 26  # larger files of a model are known by their time of modification
_TOKENIZER = ("tokenizer*", "vocab*", "merges*", "special_tokens_map.json", "added_tokens.json", "chat_template*")
_WEIGHTS = ("config.json", "*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json")


def run_inputs(sources: DataSources, found: FoundModel) -> dict[str, Files]:
    """The inputs of a run, for :mod:`textgen.run.changes`.

    Args:
        sources: the data.
        found: the model; the files of one on the hub are not known before it is loaded.
    """
    directory = Path(found.location.base)
    weights = _WEIGHTS[:1] if found.config.from_scratch else _WEIGHTS
    return {
        "data": _data_files(sources),
        "tokenizer": _model_files(directory, _TOKENIZER),
        "model": _model_files(directory, weights),
    }


def _data_files(sources: DataSources) -> dict[str, Any]:
    every = [*sources.train, *(sources.held_out or [])]
    if len(every) > _MOST_FILES:
        return {"files": [len(every), sources.fingerprint[:16]]}
    named = {source.name: source for source in sources.train}
    named |= {f"--validation-data {source.name}": source for source in sources.held_out or []}
    return {name: [_size(Path(one.location)), one.fingerprint[:16]] for name, one in named.items()}


def _model_files(directory: Path, patterns: tuple[str, ...]) -> dict[str, Any]:
    if not directory.is_dir():
        return {}
    paths = sorted({path for pattern in patterns for path in directory.glob(pattern) if path.is_file()})
    return {path.name: [_size(path), _mark(path)] for path in paths}


def _mark(path: Path) -> Any:
    status = path.stat()
    return status.st_mtime_ns if status.st_size > _HASHED_BYTES else content_sha256(path, _sha256)[:16]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
