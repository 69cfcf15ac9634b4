"""The tokenized corpus and its held-out documents, from a cache that all processes share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from textgen.data.block_size import SHORTEST
from textgen.data.blocks import count_blocks, count_lengths
from textgen.data.build_entries import held_out_entry, token_entry
from textgen.data.cache import cache_lock
from textgen.data.config import DataConfig
from textgen.data.document import Document
from textgen.data.examples.encode import encode_documents
from textgen.data.mixture.joined import JoinedDocuments
from textgen.data.readers import held_out_fraction
from textgen.data.sources import DataSources, find_data, read_documents
from textgen.data.split import is_held_out, split_hash
from textgen.data.token_stream import TokenStream
from textgen.data.tokenization import document_marks
from textgen.data.tokens.build import EDGES, OFFSETS, PLACES, ROW_BITS, TOKENS, Counts
from textgen.data.tokens.entry import facts_of, open_array, read_derived, save_derived
from textgen.data.tokens.held_out import HeldOut
from textgen.errors import UserError
from textgen.printable import counted


@dataclass(frozen=True)
class Corpus:
    """Tokenized training documents, and the validation documents as text. All of it stays on disk, memory-mapped.

    Attributes:
        tokens: (T,) token ids: the end-of-text token, document, end-of-text, document, …, end-of-text. If the tokenizer
            has a begin-of-text token as well: begin-of-text, document, end-of-text, begin-of-text, ….
        offsets: (D,) int64, position of each training document's first token in ``tokens``.
        edges: (2 N,) int64, positions between which tokens are context only: see
            :class:`textgen.data.token_stream.TokenStream`.
        counts: see :class:`textgen.data.tokens.build.Counts`.
        validation: held-out documents.
        fingerprint: SHA-256 of the data, independent of the tokenizer.
        entry: its directory in the cache.
        places: (D,) int64, where each training document is: the number of its source and, in the lower bits, its row.
        names: the names of the sources.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    edges: np.ndarray
    counts: Counts
    validation: HeldOut
    fingerprint: str
    entry: Path = field(compare=False)
    places: np.ndarray
    names: tuple[str, ...]

    @property
    def stream(self) -> TokenStream:
        """The training documents for :class:`textgen.data.blocks.GlobalBatches`."""
        return TokenStream(self.tokens, self.offsets, self.edges, shared_mark=bool(self.tokens[0] == self.tokens[-1]))

    @property
    def documents(self) -> int:
        """Number of training documents."""
        return len(self.offsets)

    @property
    def token_count(self) -> int:
        """Number of training tokens."""
        return len(self.tokens)

    @property
    def targets(self) -> int:
        """Number of training tokens that are trained on: all but context, and the special tokens before documents."""
        return len(self.tokens) - self.counts.context - (1 if self.stream.shared_mark else self.documents)

    @property
    def unknown_share(self) -> float:
        """Share of the training tokens that stand for text that the tokenizer does not know."""
        return self.counts.unknown / len(self.tokens)

    def facts(self) -> dict[str, Any]:
        """The entries of ``environment.json`` about the data."""
        return {
            "train_documents": len(self.offsets),
            "train_examples": self.counts.examples,
            "validation_documents": len(self.validation),
            "train_tokens": len(self.tokens) - 1,
            "train_targets": self.targets,
            "unknown_share": self.unknown_share,
            "data_sha256": self.fingerprint,
        }

    def document_ids(self, documents: Sequence[tuple[int, int]]) -> list[str]:
        """The ids of training documents, each given as part 0 and its number: see ``GlobalBatches.documents``."""
        places = (int(self.places[number]) for _, number in documents)
        return [f"{self.names[place >> ROW_BITS]}#{place & ((1 << ROW_BITS) - 1)}" for place in places]

    def length_counts(self, limit: int) -> np.ndarray:
        """What :func:`textgen.data.blocks.count_lengths` returns for the training documents."""
        stream = self.stream
        return count_lengths(len(stream.ids), limit, stream.offsets, shared_mark=stream.shared_mark)

    def longer_than(self, block_size: int) -> int:
        """Number of training documents that do not fit into one block."""
        return int(self.length_counts(block_size)[-1])

    def block_counts(self, block_size: int) -> list[np.ndarray]:
        """What :func:`textgen.data.blocks.count_blocks` returns, as the only element of a list.

        Counted once, then read by every process.
        """
        path = self.entry / f"blocks-{block_size}.bin"
        counts = read_derived(path)
        if counts is None:
            with cache_lock(self.entry):
                counts = read_derived(path)  # another process has counted meanwhile
                if counts is None:
                    stream = self.stream
                    counts = count_blocks(len(stream.ids), block_size, stream.offsets, shared_mark=stream.shared_mark)
                    save_derived(path, counts)
        return [counts]

    def __str__(self) -> str:
        kind = "example" if self.counts.examples == len(self.offsets) else "document"
        targets = f", {self.targets:,} of them targets" if self.counts.context else ""
        unknown = f", {self.unknown_share:.1%} of them unknown to the tokenizer" if self.counts.unknown else ""
        tokens = f"{counted(len(self.tokens), 'token')}{targets}{unknown}"
        held_out = counted(len(self.validation), f"held-out {kind}")
        return f"{counted(len(self.offsets), f'training {kind}')} ({tokens}), {held_out}"


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
    corpus = load_entry(config, tokenizer, sources or find_data(config))
    # How many different texts there are is of interest only if nothing is left.
    different = 0 if corpus.documents else len(np.unique(corpus.validation.split_hashes))
    sizes = {"documents": corpus.documents, "tokens": corpus.token_count, "validation": len(corpus.validation)}
    _check_sizes(config, **sizes, different=different)
    return corpus


def load_entry(config: DataConfig, tokenizer: PreTrainedTokenizerBase, sources: DataSources) -> Corpus:
    """The corpus like :func:`load_corpus`, but with nothing on a side of the split, or little, if that is so."""
    entry = token_entry(config, tokenizer, sources)
    facts = facts_of(entry)
    assert facts, "token_entry completes it"
    validation = HeldOut(held_out_entry(config, sources))
    tokens = open_array(entry / TOKENS, facts.pop("dtype"))
    offsets, edges = (open_array(entry / name, np.int64) for name in (OFFSETS, EDGES))
    places, names = open_array(entry / PLACES, np.int64), tuple(source.name for source in sources.train)
    return Corpus(tokens, offsets, edges, Counts(**facts), validation, sources.fingerprint, entry, places, names)


def load_held_out(config: DataConfig, sources: DataSources | None = None) -> Sequence[Document]:
    """All of ``--validation-data``, or else the validation split of ``--data``; cached like the corpus.

    Arguments as for :func:`load_corpus`; no tokenizer is needed.

    Raises:
        UserError: there is no such document, or the data cannot be read.
    """
    sources = sources or find_data(config)
    if sources.parts and config.validation_data:
        own = [DataSources([], sources.held_out)]
    else:
        own = parts_of(config, sources) if sources.parts else [sources]
    entries = [HeldOut(held_out_entry(config, each)) for each in own]
    found = entries[0] if len(entries) == 1 else JoinedDocuments(entries)
    if not found and config.validation_data:
        raise UserError(f"--validation-data {config.validation_data}: contains no text.")
    if not found:
        raise UserError(
            f"--validation-fraction {config.validation_fraction}: no document of {config.data} falls into the "
            "validation split. Increase it, or specify the text to evaluate with --validation-data."
        )
    return found


def parts_of(config: DataConfig, sources: DataSources) -> list[DataSources]:
    """The sources of each part of a mixture; the same fraction of each is held out, so equal texts stay together."""
    fraction = held_out_fraction(config, sources)
    return [DataSources(own, fraction=fraction) for _, own in sources.parts]


def preview_corpus(config: DataConfig, tokenizer: PreTrainedTokenizerBase, sources: DataSources | None = None) -> str:
    """Read just enough documents to fill one block and hold one document out, and describe how many that took.

    For dry runs: it writes nothing. Arguments as for :func:`load_corpus`.

    Raises:
        UserError: what :func:`load_corpus` would raise, as far as these documents show.
    """
    sources = sources or find_data(config)
    fraction = held_out_fraction(config, sources)
    marks = document_marks(tokenizer)
    block_size = SHORTEST if config.block_size == "auto" else config.block_size
    read, train, tokens = 0, 0, len(marks.opening)
    different: set[float] = set()  # hashes of held-out texts, two at most
    validation = sum(1 for _ in islice(read_documents(sources.held_out or [], config, setting="--validation-data"), 1))
    for document in read_documents(sources.train, config):
        read += 1
        if is_held_out(document, fraction):
            validation += 1
            different.update([split_hash(document)] if len(different) < 2 else [])
        else:
            train += 1
            if tokens < block_size:
                tokens += len(marks.frame(encode_documents(tokenizer, [document])[0].ids))
        if tokens >= block_size and validation:
            break
    _check_sizes(config, documents=train, tokens=tokens, validation=validation, different=len(different))
    found = f"the first {read} documents fill a block of {block_size} tokens"
    return found + ("" if sources.held_out else " and hold one document out")


def _check_sizes(config: DataConfig, *, documents: int, tokens: int, validation: int, different: int) -> None:
    """Check that there is enough on both sides; ``different`` is the number of different texts held out, if all are."""
    problems = []
    if not validation and config.validation_data:
        problems.append(f"--validation-data {config.validation_data}: contains no text.")
    elif not validation and not documents:
        problems.append(f"--data {config.data}: contains no text.")
    elif not validation:
        found = counted(documents, "document")
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
    elif documents and config.block_size != "auto" and tokens < config.block_size and config.packing != "none":
        problems.append(
            f"--block-size {config.block_size}: the training text of {config.data} has only {tokens} tokens, fewer "
            "than one block. Provide more text or choose a smaller block."
        )
    if problems:
        raise UserError.of(problems)
