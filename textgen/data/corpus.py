"""Documents → one flat file of token ids, written once and memory-mapped by every process.

A cache entry is a directory whose name is a hash of everything that its contents depend on: the data, the tokenizer and
the settings of the split. It is built in a temporary directory and then renamed, so it is complete or absent; a file
lock makes the other processes wait for the one that builds it.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from textgen.data.cache import create_cache
from textgen.data.config import DataConfig
from textgen.data.document import Document
from textgen.data.readers import held_out_fraction
from textgen.data.sources import DataSources, find_data, read_documents
from textgen.data.split import is_held_out, split_hash
from textgen.data.tokenization import encode_batch, separator_id, tokenizer_fingerprint
from textgen.errors import UserError

_FORMAT = 1  # version of a cache entry's layout; part of its key, so increase it whenever the layout changes
_BATCH_CHARACTERS = 1 << 20  # text that is tokenized at a time


@dataclass(frozen=True)
class Corpus:
    """Tokenized training documents, and the validation documents as text.

    Attributes:
        tokens: (T,) memory-mapped token ids: the end-of-text token, document, end-of-text, document, …, end-of-text.
        offsets: (D,) int64, position of each training document's first token in ``tokens``.
        validation: held-out documents.
        fingerprint: SHA-256 of the data, independent of the tokenizer.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    validation: list[Document]
    fingerprint: str

    def facts(self) -> dict[str, Any]:
        """The entries of ``environment.json`` about the data."""
        return {
            "train_documents": len(self.offsets),
            "validation_documents": len(self.validation),
            "train_tokens": len(self.tokens) - 1,
            "data_sha256": self.fingerprint,
        }

    def __str__(self) -> str:
        return (
            f"{len(self.offsets):,} training documents ({len(self.tokens):,} tokens), "
            f"{len(self.validation):,} held-out documents"
        )


def load_corpus(config: DataConfig, tokenizer: PreTrainedTokenizerBase, sources: DataSources | None = None) -> Corpus:
    """Load the corpus that the configuration names: from the cache or, the first time, from its sources.

    Safe to call from any number of processes at once: one builds the cache entry, the others wait for it.

    Args:
        config: names the data and the split.
        tokenizer: the model's tokenizer.
        sources: what :func:`textgen.data.sources.find_data` found, to save finding it again.

    Raises:
        UserError: the data cannot be read, one side of the split is empty, or the data is shorter than one block.
    """
    from filelock import FileLock

    sources = sources or find_data(config)
    fingerprint = sources.fingerprint
    entry = create_cache() / _key(config, tokenizer, fingerprint)
    with FileLock(f"{entry}.lock"):
        if not _is_complete(entry):
            _build(entry, config, tokenizer, sources)
    return _open(entry, config, fingerprint)


def preview_corpus(config: DataConfig, tokenizer: PreTrainedTokenizerBase, sources: DataSources | None = None) -> str:
    """Read just enough documents to fill one block and hold one document out, and describe how many that took.

    For dry runs: nothing is written. Arguments as for :func:`load_corpus`.

    Raises:
        UserError: what :func:`load_corpus` would raise, as far as these documents show.
    """
    sources = sources or find_data(config)
    fraction = held_out_fraction(config, sources)
    read, train, tokens = 0, 0, 1
    different: set[float] = set()  # hashes of held-out texts, two at most
    validation = sum(1 for _ in islice(read_documents(sources.held_out or [], config, setting="--validation-data"), 1))
    for document in read_documents(sources.train, config):
        read += 1
        if is_held_out(document, fraction):
            validation += 1
            different.update([split_hash(document)] if len(different) < 2 else [])
        else:
            train += 1
            if tokens < config.block_size:
                tokens += len(encode_batch(tokenizer, [document.text])[0]) + 1
        if tokens >= config.block_size and validation:
            break
    _check_sizes(config, documents=train, tokens=tokens, validation=validation, different=len(different))
    found = f"the first {read} documents fill a block of {config.block_size} tokens"
    return found + ("" if sources.held_out else " and hold one document out")


def _key(config: DataConfig, tokenizer: PreTrainedTokenizerBase, fingerprint: str) -> str:
    # Everything that changes the contents, and nothing else; the block size, for example, does not.
    parts = [_FORMAT, fingerprint, tokenizer_fingerprint(tokenizer), config.text_column, config.one_document]
    parts.append(None if config.validation_data else config.validation_fraction)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _build(entry: Path, config: DataConfig, tokenizer: PreTrainedTokenizerBase, sources: DataSources) -> None:
    dtype = np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32
    separator = separator_id(tokenizer)
    fraction = held_out_fraction(config, sources)
    scratch = Path(tempfile.mkdtemp(prefix=f"{entry.name}.", dir=entry.parent))
    try:
        offsets, position = [], 1
        with (
            (scratch / "tokens.bin").open("wb") as tokens,
            (scratch / "validation.jsonl").open("w", encoding="utf-8") as validation,
        ):

            def hold_out(document: Document) -> None:
                validation.write(json.dumps(asdict(document)) + "\n")

            def training() -> Iterator[Document]:
                for document in read_documents(sources.train, config):
                    if is_held_out(document, fraction):
                        hold_out(document)
                    else:
                        yield document

            np.array([separator], dtype).tofile(tokens)
            for ids in _encoded(training(), tokenizer):
                offsets.append(position)
                np.array([*ids, separator], dtype).tofile(tokens)
                position += len(ids) + 1
            for document in read_documents(sources.held_out or [], config, setting="--validation-data"):
                hold_out(document)
        np.array(offsets, np.int64).tofile(scratch / "offsets.bin")
        meta = {"tokens": position, "documents": len(offsets), "dtype": np.dtype(dtype).name, "format": _FORMAT}
        (scratch / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        scratch.chmod(0o755)
        if entry.exists():  # incomplete, which a build cannot leave behind: a copy that was interrupted
            shutil.rmtree(entry)
        scratch.rename(entry)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _is_complete(entry: Path) -> bool:
    """Whether an entry exists and contains all its tokens."""
    try:
        meta = json.loads((entry / "meta.json").read_text(encoding="utf-8"))
        return (entry / "tokens.bin").stat().st_size == meta["tokens"] * np.dtype(meta["dtype"]).itemsize
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _encoded(documents: Iterable[Document], tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    """Token ids of each document, encoded a megabyte at a time: fast, and in bounded memory."""
    texts: list[str] = []
    size = 0
    for document in documents:
        texts.append(document.text)
        size += len(document.text)
        if size >= _BATCH_CHARACTERS:
            yield from encode_batch(tokenizer, texts)
            texts, size = [], 0
    yield from encode_batch(tokenizer, texts)


def _open(entry: Path, config: DataConfig, fingerprint: str) -> Corpus:
    meta = json.loads((entry / "meta.json").read_text(encoding="utf-8"))
    with (entry / "validation.jsonl").open(encoding="utf-8") as lines:
        validation = [Document(**json.loads(line)) for line in lines]
    documents = meta["documents"]
    different = 0 if documents else len(set(map(split_hash, validation)))  # of interest only if nothing is left
    _check_sizes(config, documents=documents, tokens=meta["tokens"], validation=len(validation), different=different)
    tokens = np.memmap(entry / "tokens.bin", dtype=meta["dtype"], mode="r", shape=(meta["tokens"],))
    return Corpus(tokens, np.fromfile(entry / "offsets.bin", np.int64), validation, fingerprint)


def _check_sizes(config: DataConfig, *, documents: int, tokens: int, validation: int, different: int) -> None:
    """Check that there is enough on both sides; ``different`` is the number of different texts held out, if all are."""
    problems = []
    if not validation and config.validation_data:
        problems.append(f"--validation-data {config.validation_data}: contains no text.")
    elif not validation and not documents:
        problems.append(f"--data {config.data}: contains no text.")
    elif not validation:
        found = "1 document" if documents == 1 else f"{documents} documents"
        problems.append(
            f"--data {config.data}: {found}, too few for a validation split. Provide more documents, or held-out text "
            "with --validation-data."
        )
    if not documents and different == 1 and not config.validation_data:
        problems.append(
            f"--data {config.data}: all {validation:,} documents are the same text, so they cannot be split. Provide "
            "different documents, or held-out text with --validation-data."
        )
    elif not documents and config.validation_data:
        problems.append(f"--data {config.data}: contains no text.")
    elif not documents and validation:
        problems.append(
            f"--data {config.data}: all {validation:,} documents fall into the validation split. Lower "
            f"--validation-fraction {config.validation_fraction}, or provide more documents."
        )
    elif documents and tokens < config.block_size and config.packing:
        problems.append(
            f"--block-size {config.block_size}: the training text of {config.data} has only {tokens} tokens, fewer "
            "than one block. Provide more text or choose a smaller block."
        )
    if problems:
        raise UserError.of(problems)
