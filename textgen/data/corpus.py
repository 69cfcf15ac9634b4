"""Documents → a flat file of token ids, written once, memory-mapped by everyone.

A cache entry is a directory named by what its contents depend on: the data, the tokenizer and the settings of the
split. It is built in a temporary directory beside its place and renamed into it, so it is there whole or not at all;
a file lock makes the other processes wait for the one that builds it.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from textgen.data.config import DataConfig
from textgen.data.document import Document, least_fraction
from textgen.data.sources import Source, data_fingerprint, find_sources, read_documents
from textgen.errors import UserError

_FORMAT = 1  # part of every key: an entry written in another layout is never found
_BATCH_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class Corpus:
    """Tokenised training documents, and the validation documents as text.

    Attributes:
        tokens: (T,) memory-mapped token ids: the end-of-text token, document, end-of-text, document, …, end-of-text.
        offsets: (D,) int64, where each training document's first token stands in ``tokens``.
        validation: held-out documents.
        fingerprint: SHA-256 of the data, whatever it is tokenised with.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    validation: list[Document]
    fingerprint: str


def load_corpus(config: DataConfig, tokenizer: PreTrainedTokenizerBase) -> Corpus:
    """The corpus that the configuration names, from the cache or, the first time, from its sources.

    Safe to call from any number of processes at once: one builds, the others wait and find.

    Raises:
        UserError: the data cannot be read, has no documents on one side of the split, or is shorter than one block.
    """
    from filelock import FileLock

    train = find_sources(config.data, config)
    held_out = (
        find_sources(config.validation_data, config, setting="--validation-data") if config.validation_data else None
    )
    fingerprint = hashlib.sha256(
        json.dumps([data_fingerprint(train), data_fingerprint(held_out) if held_out else None]).encode()
    ).hexdigest()
    entry = cache_directory() / _key(config, tokenizer, fingerprint)
    entry.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{entry}.lock"):
        if not _is_whole(entry):
            _build(entry, config, tokenizer, train, held_out)
    return _open(entry, config, fingerprint)


def cache_directory() -> Path:
    """Where tokenised data is kept: ``$TEXTGEN_CACHE``, or ``textgen`` in the user's cache directory."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "textgen"
    return Path(os.environ.get("TEXTGEN_CACHE", default)).expanduser() / "tokens"


def encode_batch(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, with no special tokens and no truncation."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
    return [list(tokenizer.encode(text, add_special_tokens=False)) for text in texts]


def separator_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token between documents: end-of-text, or begin-of-text where a tokenizer has only that.

    Raises:
        UserError: the tokenizer has neither.
    """
    for token in (tokenizer.eos_token_id, tokenizer.bos_token_id):
        if token is not None:
            return int(token)
    raise UserError(
        f"--model {tokenizer.name_or_path}: its tokenizer has no end-of-text token to separate documents with."
    )


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of all that decides which ids a text becomes."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(f"{content}{tokenizer.eos_token}{tokenizer.bos_token}".encode()).hexdigest()


def _key(config: DataConfig, tokenizer: PreTrainedTokenizerBase, fingerprint: str) -> str:
    # Everything that changes the contents, and nothing else: block size, for one, is applied when reading.
    parts = [_FORMAT, fingerprint, tokenizer_fingerprint(tokenizer), config.text_column, config.one_document]
    parts.append(None if config.validation_data else config.validation_fraction)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _build(
    entry: Path,
    config: DataConfig,
    tokenizer: PreTrainedTokenizerBase,
    train: list[Source],
    held_out: list[Source] | None,
) -> None:
    dtype = np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32
    separator = separator_id(tokenizer)
    scratch = Path(tempfile.mkdtemp(prefix=f"{entry.name}.", dir=entry.parent))
    try:
        offsets, position, held = [], 1, 0
        with (scratch / "tokens.bin").open("wb") as tokens, (scratch / "validation.jsonl").open("w") as validation:

            def hold_out(document: Document) -> None:
                nonlocal held
                held += 1
                validation.write(json.dumps(asdict(document)) + "\n")

            np.array([separator], dtype).tofile(tokens)
            documents = read_documents(train, config)
            if held_out is None:
                documents = _divert(documents, config.validation_fraction, hold_out)
            for ids in _encoded(documents, tokenizer):
                offsets.append(position)
                np.array([*ids, separator], dtype).tofile(tokens)
                position += len(ids) + 1
            for document in read_documents(held_out, config, setting="--validation-data") if held_out else ():
                hold_out(document)
        if held_out is None and not held and len(offsets) > 1:
            # So few documents that the fraction held out none by chance: the one with the lowest hash is.
            fraction = least_fraction(read_documents(train, config))
            return _build(entry, replace(config, validation_fraction=fraction), tokenizer, train, held_out)
        np.array(offsets, np.int64).tofile(scratch / "offsets.bin")
        meta = {"tokens": position, "documents": len(offsets), "dtype": np.dtype(dtype).name, "format": _FORMAT}
        (scratch / "meta.json").write_text(json.dumps(meta))
        scratch.chmod(0o755)
        if entry.exists():  # not whole, so it is not one that was built here: a copy that was cut short
            shutil.rmtree(entry)
        scratch.rename(entry)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _is_whole(entry: Path) -> bool:
    """Whether an entry is there with all its tokens."""
    try:
        meta = json.loads((entry / "meta.json").read_text())
        return (entry / "tokens.bin").stat().st_size == meta["tokens"] * np.dtype(meta["dtype"]).itemsize
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _divert(documents: Iterable[Document], fraction: float, hold_out: Callable[[Document], None]) -> Iterator[Document]:
    """The training documents; the others go to ``hold_out``."""
    for document in documents:
        if document.in_validation(fraction):
            hold_out(document)
        else:
            yield document


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
    meta = json.loads((entry / "meta.json").read_text())
    with (entry / "validation.jsonl").open() as lines:
        validation = [Document(**json.loads(line)) for line in lines]
    _refuse_too_little(config, documents=meta["documents"], tokens=meta["tokens"], validation=len(validation))
    tokens = np.memmap(entry / "tokens.bin", dtype=meta["dtype"], mode="r", shape=(meta["tokens"],))
    return Corpus(tokens, np.fromfile(entry / "offsets.bin", np.int64), validation, fingerprint)


def _refuse_too_little(config: DataConfig, *, documents: int, tokens: int, validation: int) -> None:
    problems = []
    if not validation:
        problems.append(
            f"--data {config.data}: with {documents} document(s) there is none to hold out. Give more, or name "
            "held-out text with --validation-data."
        )
    if not documents:
        problems.append(f"--data {config.data}: no document is left to train on. Lower --validation-fraction.")
    elif tokens < config.block_size and config.packing:
        problems.append(
            f"--block-size {config.block_size}: the training text of {config.data} has only {tokens} tokens, too "
            f"few for one block. Give more text or a smaller block."
        )
    if problems:
        raise UserError.of(problems)


def peek(config: DataConfig, tokenizer: PreTrainedTokenizerBase) -> str:
    """What the first documents show: read until there is one block to train on and one document held out.

    Raises:
        UserError: what :func:`load_corpus` would raise, as far as these documents show.
    """
    held_out = config.validation_data
    if held_out:
        sources = find_sources(held_out, config, setting="--validation-data")
        next(read_documents(sources, config, setting="--validation-data"), None)
    read, train, tokens, validation = 0, 0, 1, int(bool(held_out))
    for document in read_documents(find_sources(config.data, config), config):
        read += 1
        if not held_out and document.in_validation(config.validation_fraction):
            validation += 1
        else:
            train += 1
            if tokens < config.block_size:
                tokens += len(encode_batch(tokenizer, [document.text])[0]) + 1
        if tokens >= config.block_size and validation:
            break
    if not validation and train > 1:  # as for the corpus: of several documents, one is always held out
        validation, train = 1, train - 1
    _refuse_too_little(config, documents=train, tokens=tokens, validation=validation)
    return f"enough for a block of {config.block_size} and a held-out document within the first {read} documents"
