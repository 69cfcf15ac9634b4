"""The tokenized corpus and its held-out documents, from a cache that all processes share.

An entry of the cache is a directory whose name is a hash of everything that its contents depend on: for tokens, the
data, the split and the tokenizer; for held-out documents, the data and the split. A file lock lets one process build an
entry while the others wait; if that one dies, the system releases the lock, and another one continues its work.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from textgen.data.blocks import count_blocks
from textgen.data.bulk_encoding import BulkEncoder
from textgen.data.cache import cache_directory, create_cache
from textgen.data.config import DataConfig
from textgen.data.file_checks import check_file
from textgen.data.fingerprints import check_unchanged
from textgen.data.readers import held_out_fraction, read_documents
from textgen.data.sources import DataSources, Source, find_data
from textgen.data.split import is_held_out
from textgen.data.tokenization import encode_batch, separator_id, tokenizer_fingerprint
from textgen.data.tokens.build import OFFSETS, TOKENS, Encoding, Part, build
from textgen.data.tokens.entry import facts_of, map_array, publish
from textgen.data.tokens.held_out import HeldOut
from textgen.errors import UserError
from textgen.launch_environment import is_main_process
from textgen.progress import progress

_FORMAT = 2  # version of an entry's layout; part of its key, so increase it whenever the layout changes
_HEAD_START = 1.0  # seconds for which other processes let the main one go first, since it shows the progress


@dataclass(frozen=True)
class Corpus:
    """Tokenized training documents, and the validation documents as text. All of it stays on disk, memory-mapped.

    Attributes:
        tokens: (T,) token ids: the end-of-text token, document, end-of-text, document, …, end-of-text.
        offsets: (D,) int64, position of each training document's first token in ``tokens``.
        validation: held-out documents.
        fingerprint: SHA-256 of the data, independent of the tokenizer.
        entry: its directory in the cache.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    validation: HeldOut
    fingerprint: str
    entry: Path = field(compare=False)

    def facts(self) -> dict[str, Any]:
        """The entries of ``environment.json`` about the data."""
        return {
            "train_documents": len(self.offsets),
            "validation_documents": len(self.validation),
            "train_tokens": len(self.tokens) - 1,
            "data_sha256": self.fingerprint,
        }

    def block_counts(self, block_size: int) -> np.ndarray:
        """What :func:`textgen.data.blocks.count_blocks` returns: counted once, then memory-mapped by every process."""
        path = self.entry / f"blocks-{block_size}.bin"
        if not path.exists():
            with _locked(self.entry):
                if not path.exists():
                    temporary = path.with_suffix(".tmp")
                    count_blocks(len(self.tokens), block_size, self.offsets).tofile(temporary)
                    temporary.replace(path)
        return map_array(path, np.int64)

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
        UserError: the data cannot be read, it changed while it was read, one side of the split is empty, or the data is
            shorter than one block.
    """
    sources = sources or find_data(config)
    key = _key(*_split_settings(config, sources), tokenizer_fingerprint(tokenizer))
    entry = create_cache("tokens") / key
    if facts_of(entry) is None:
        _wait_for_the_main_process()
        with _locked(entry):
            if facts_of(entry) is None:
                _build(entry, config, sources, tokenizer)
    facts = facts_of(entry)
    assert facts, "just built"
    validation = _held_out(config, sources)
    tokens, offsets = map_array(entry / TOKENS, facts["dtype"]), map_array(entry / OFFSETS, np.int64)
    _check_sizes(config, documents=len(offsets), tokens=len(tokens), validation=len(validation))
    return Corpus(tokens, offsets, validation, sources.fingerprint, entry)


def load_held_out(config: DataConfig, sources: DataSources | None = None) -> HeldOut:
    """All of ``--validation-data``, or else the validation split of ``--data``; cached like the corpus.

    Arguments as for :func:`load_corpus`; no tokenizer is needed.

    Raises:
        UserError: there is no such document, or the data cannot be read.
    """
    found = _held_out(config, sources or find_data(config))
    if not found and config.validation_data:
        raise UserError(f"--validation-data {config.validation_data}: contains no text.")
    if not found:
        raise UserError(
            f"--validation-fraction {config.validation_fraction}: no document of {config.data} falls into the "
            "validation split. Increase it, or specify the text to evaluate with --validation-data."
        )
    return found


def preview_corpus(config: DataConfig, tokenizer: PreTrainedTokenizerBase, sources: DataSources | None = None) -> str:
    """Read just enough documents to fill one block and hold one document out, and describe how many that took.

    For dry runs: it writes nothing. Arguments as for :func:`load_corpus`.

    Raises:
        UserError: what :func:`load_corpus` would raise, as far as these documents show.
    """
    sources = sources or find_data(config)
    fraction = held_out_fraction(config, sources)
    read, train, tokens = 0, 0, 1
    validation = sum(1 for _ in islice(read_documents(sources.held_out or [], config, setting="--validation-data"), 1))
    for document in read_documents(sources.train, config):
        read += 1
        if is_held_out(document, fraction):
            validation += 1
        else:
            train += 1
            if tokens < config.block_size:
                tokens += len(encode_batch(tokenizer, [document.text])[0]) + 1
        if tokens >= config.block_size and validation:
            break
    _check_sizes(config, documents=train, tokens=tokens, validation=validation)
    found = f"the first {read} documents fill a block of {config.block_size} tokens"
    return found + ("" if sources.held_out else " and hold one document out")


def _held_out(config: DataConfig, sources: DataSources) -> HeldOut:
    entry = _held_out_entry(config, sources)
    if facts_of(entry) is None:
        _wait_for_the_main_process()
        with _locked(entry):
            if facts_of(entry) is None:
                _build(entry, config, sources, None)
    return HeldOut(entry)


def _held_out_entry(config: DataConfig, sources: DataSources) -> Path:
    return create_cache("held-out") / _key(*_split_settings(config, sources))


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps([_FORMAT, *parts]).encode()).hexdigest()[:32]


def _split_settings(config: DataConfig, sources: DataSources) -> list[Any]:
    # Everything that changes the documents and their split, and nothing else; the block size, for example, does not.
    fraction = None if config.validation_data else config.validation_fraction
    return [sources.fingerprint, config.text_column, config.one_document, fraction]


@contextmanager
def _locked(entry: Path) -> Iterator[None]:
    from filelock import FileLock

    with FileLock(f"{entry}.lock"):
        yield


def _wait_for_the_main_process() -> None:
    if not is_main_process():
        time.sleep(_HEAD_START)


def _build(entry: Path, config: DataConfig, sources: DataSources, tokenizer: PreTrainedTokenizerBase | None) -> None:
    """Build an entry, or finish one that was begun; with a tokenizer, an entry of tokens, and the held-out documents.

    The caller holds the entry's lock.
    """
    encoding = None if tokenizer is None else _encoding(tokenizer)
    scratch = cache_directory("building") / entry.name
    try:
        work = "tokenizing" if encoding else "reading"
        with progress(work, total=_characters(sources), unit="characters") as advance:
            build(scratch, _parts(config, sources), encoding, advance=advance)
    except UserError:  # about the data; what was built of it is of no use
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    if encoding is None:
        publish(scratch / "held-out", entry)
    else:
        held_out = _held_out_entry(config, sources)
        with _locked(held_out):
            publish(scratch / "held-out", held_out)
        publish(scratch / "tokens", entry)
    shutil.rmtree(scratch)


def _encoding(tokenizer: PreTrainedTokenizerBase) -> Encoding:
    separator = separator_id(tokenizer)
    largest = max(separator, *tokenizer.get_vocab().values())  # not the number of tokens: there can be gaps
    encode = BulkEncoder(tokenizer)
    return Encoding(
        encode=lambda documents: encode([document.text for document in documents]),
        opening=[separator],
        frame=lambda ids: [*ids, separator],
        start=0,
        dtype=np.dtype(np.uint16 if largest < 1 << 16 else np.uint32),
    )


def _parts(config: DataConfig, sources: DataSources) -> list[Part]:
    fraction = held_out_fraction(config, sources)
    parts = [_part(source, config, "--data", fraction) for source in sources.train]
    return parts + [_part(source, config, "--validation-data", 1.0) for source in sources.held_out or []]


def _part(source: Source, config: DataConfig, setting: str, held_out: float) -> Part:
    return Part(
        read=partial(read_documents, [source], config, setting=setting),
        check_unchanged=partial(_check_unchanged, source),
        held_out=held_out,
    )


def _characters(sources: DataSources) -> int | None:
    """About how many characters there are to read; None unless all sources are text files."""
    every = [*sources.train, *(sources.held_out or [])]
    return sum(Path(s.location).stat().st_size for s in every) if all(s.kind == "text" for s in every) else None


def _check_unchanged(source: Source) -> None:
    if source.kind not in ("bundled", "hub"):
        check_unchanged(Path(source.location), source.fingerprint, check_file)


def _check_sizes(config: DataConfig, *, documents: int, tokens: int, validation: int) -> None:
    problems = []
    if not validation and config.validation_data:
        problems.append(f"--validation-data {config.validation_data}: contains no text.")
    elif not validation:
        found = "1 document" if documents == 1 else f"{documents} documents"
        problems.append(
            f"--data {config.data}: {found}, too few for a validation split. Provide more documents, or held-out text "
            "with --validation-data."
        )
    if not documents:
        problems.append(f"--data {config.data}: no document is left to train on. Lower --validation-fraction.")
    elif tokens < config.block_size and config.packing:
        problems.append(
            f"--block-size {config.block_size}: the training text of {config.data} has only {tokens} tokens, fewer "
            "than one block. Provide more text or choose a smaller block."
        )
    if problems:
        raise UserError.of(problems)
