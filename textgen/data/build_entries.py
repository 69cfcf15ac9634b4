"""Entries of the cache for a configuration: found, or else built by one process while the others wait.

An entry is a directory whose name is a hash of everything that its contents depend on: for tokens, the data, the split
and the tokenizer; for held-out documents, the data and the split. If the process that builds an entry dies, the system
releases its file lock, and a process that waits continues its work.
"""

import errno
import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from textgen.data.cache import cache_directory, cache_lock, create_cache
from textgen.data.config import DataConfig
from textgen.data.document import Document
from textgen.data.examples.encode import EncodedDocument, check_documents, encode_documents
from textgen.data.readers import held_out_fraction
from textgen.data.sources import DataSources, Source, read_rows
from textgen.data.sources.file_checks import check_file
from textgen.data.sources.fingerprints import check_unchanged
from textgen.data.tokenization import document_marks, tokenizer_fingerprint, unknown_id
from textgen.data.tokens.build import Encoding, Part, build
from textgen.data.tokens.bulk_encoding import BulkEncoder
from textgen.data.tokens.entry import is_intact, publish
from textgen.errors import UserError
from textgen.launch_environment import is_main_process
from textgen.progress import progress

_FORMAT = 6  # version of an entry's layout; part of its key, so increase it whenever the layout changes
_HEAD_START = 1.0  # seconds for which other processes let the main one go first, since it shows the progress


def token_entry(config: DataConfig, tokenizer: PreTrainedTokenizerBase, sources: DataSources) -> Path:
    """The directory with the tokens of the training documents, which is built if needed.

    Raises:
        UserError: the data cannot be read, or it changed while it was read.
    """
    key = _key(*_split_settings(config, sources), tokenizer_fingerprint(tokenizer))
    return _complete(create_cache("tokens") / key, config, sources, tokenizer)


def held_out_entry(config: DataConfig, sources: DataSources) -> Path:
    """The directory with the held-out documents; see :func:`token_entry`."""
    return _complete(_held_out_place(config, sources), config, sources, None)


def _complete(entry: Path, config: DataConfig, sources: DataSources, tokenizer: PreTrainedTokenizerBase | None) -> Path:
    if not is_intact(entry):
        if not is_main_process():
            time.sleep(_HEAD_START)
        with cache_lock(entry):
            if not is_intact(entry):
                _build(entry, config, sources, tokenizer)
    return entry


def _held_out_place(config: DataConfig, sources: DataSources) -> Path:
    return create_cache("held-out") / _key(*_split_settings(config, sources))


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps([_FORMAT, *parts]).encode()).hexdigest()[:32]


def _split_settings(config: DataConfig, sources: DataSources) -> list[Any]:
    # Everything that changes the documents and their split, and nothing else; the block size, for example, does not.
    fraction: Any = None if config.validation_data else config.validation_fraction
    if sources.fraction is not None:
        fraction = ["exactly", sources.fraction]
    return [sources.fingerprint, config.text_column, config.one_document, config.loss_on, fraction]


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
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"$TEXTGEN_CACHE {scratch}: {error.strerror}. Free some space, or set TEXTGEN_CACHE to a directory that "
            "has more. The same command continues what was begun."
        ) from None
    if encoding is None:
        publish(scratch / "held-out", entry)
    else:
        held_out = _held_out_place(config, sources)
        with cache_lock(held_out):
            publish(scratch / "tokens", entry)  # first, since they take the longest
            publish(scratch / "held-out", held_out)
    shutil.rmtree(scratch)


def _encoding(tokenizer: PreTrainedTokenizerBase) -> Encoding:
    marks = document_marks(tokenizer)
    largest = max(marks.before, marks.after, *tokenizer.get_vocab().values())  # not the number: there can be gaps

    encode_texts = BulkEncoder(tokenizer)

    def encode(documents: Sequence[Document]) -> list[EncodedDocument]:
        encoded = encode_documents(tokenizer, documents, encode_texts)
        return [document.after(marks.before).until(marks.after) for document in encoded]

    return Encoding(
        encode=encode,
        marks=marks,
        unknown=unknown_id(tokenizer),
        dtype=np.dtype(np.uint16 if largest < 1 << 16 else np.uint32),
        check=partial(check_documents, tokenizer),
    )


def _parts(config: DataConfig, sources: DataSources) -> list[Part]:
    fraction = held_out_fraction(config, sources)
    parts = [_part(source, config, "--data", fraction) for source in sources.train]
    return parts + [_part(source, config, "--validation-data", 1.0) for source in sources.held_out or []]


def _part(source: Source, config: DataConfig, setting: str, held_out: float) -> Part:
    return Part(
        read=partial(read_rows, [source], config, setting=setting),
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
