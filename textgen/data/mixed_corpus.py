"""The tokenized corpora of a mixture's parts, each with a cache entry of its own, whatever the weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from textgen.data.config import DataConfig
from textgen.data.corpus import Corpus, load_corpus, load_entry, load_held_out, parts_of
from textgen.data.document import Document
from textgen.data.mixture.parts import WeightedPart, period_counts
from textgen.data.mixture.streams import MixedStream
from textgen.data.sources import DataSources, find_data
from textgen.data.tokens.build import Counts
from textgen.errors import UserError
from textgen.printable import counted
from textgen.redaction import redact


@dataclass(frozen=True)
class MixedCorpus:
    """Tokenized training documents of several parts, and the validation documents of all of them.

    It has what recipes use of a :class:`textgen.data.corpus.Corpus`.

    Attributes:
        parts: the parts' names and weights.
        corpora: the documents of each.
        validation: held-out documents.
        fingerprint: SHA-256 of the data, independent of the tokenizer.
    """

    parts: tuple[WeightedPart, ...]
    corpora: tuple[Corpus, ...]
    validation: Sequence[Document]
    fingerprint: str

    @property
    def stream(self) -> MixedStream:
        """The training documents for :class:`textgen.data.blocks.GlobalBatches`."""
        return MixedStream(tuple(c.stream for c in self.corpora), period_counts([part.weight for part in self.parts]))

    @property
    def documents(self) -> int:
        """Number of training documents."""
        return sum(corpus.documents for corpus in self.corpora)

    @property
    def token_count(self) -> int:
        """Number of training tokens."""
        return sum(corpus.token_count for corpus in self.corpora)

    @property
    def counts(self) -> Counts:
        """What was counted while the documents were tokenized."""
        counts = [corpus.counts for corpus in self.corpora]
        return Counts(
            examples=sum(c.examples for c in counts),
            context=sum(c.context for c in counts),
            unknown=sum(c.unknown for c in counts),
            untargeted=sum(c.untargeted for c in counts),
            left_out=sum(c.left_out for c in counts),
            first_left_out=next((c.first_left_out for c in counts if c.left_out), ""),
        )

    def facts(self) -> dict[str, Any]:
        """The entries of ``environment.json`` about the data; those of a single corpus are summed."""
        each = [corpus.facts() for corpus in self.corpora]
        summed = ("train_documents", "train_examples", "train_tokens", "train_targets")
        return {name: sum(facts[name] for facts in each) for name in summed} | {
            "validation_documents": len(self.validation),
            "unknown_share": self.counts.unknown / self.token_count,
            "data_sha256": self.fingerprint,
        }

    def document_ids(self, documents: Sequence[tuple[int, int]]) -> list[str]:
        """The ids of training documents, each given as its part and its number: see ``GlobalBatches.documents``."""
        return [id for part, number in documents for id in self.corpora[part].document_ids([(0, number)])]

    def length_counts(self, limit: int) -> np.ndarray:
        """What :meth:`textgen.data.corpus.Corpus.length_counts` counts, of all parts together."""
        return sum((corpus.length_counts(limit) for corpus in self.corpora), np.zeros(limit + 2, dtype=np.int64))

    def longer_than(self, block_size: int) -> int:
        """Number of training documents that do not fit into one block."""
        return sum(corpus.longer_than(block_size) for corpus in self.corpora)

    def block_counts(self, block_size: int) -> list[np.ndarray]:
        """What :func:`textgen.data.blocks.count_blocks` returns for each part."""
        return [counts for corpus in self.corpora for counts in corpus.block_counts(block_size)]

    def __str__(self) -> str:
        return (
            f"{counted(self.documents, 'training document')} ({counted(self.token_count, 'token')}) of "
            f"{len(self.parts)} parts, {counted(len(self.validation), 'held-out document')}"
        )


def load_training_data(
    config: DataConfig, tokenizer: PreTrainedTokenizerBase, sources: DataSources | None = None
) -> Corpus | MixedCorpus:
    """Load what ``--data`` names: one corpus, or those of a mixture's parts.

    Arguments and errors as for :func:`textgen.data.corpus.load_corpus`; every part needs training text.
    """
    sources = sources or find_data(config)
    if not sources.parts:
        return load_corpus(config, tokenizer, sources)
    parts = tuple(part for part, _ in sources.parts)
    corpora = tuple(load_entry(config, tokenizer, own) for own in parts_of(config, sources))
    empty = [part.data for part, corpus in zip(parts, corpora, strict=True) if not corpus.documents]
    if empty:
        raise UserError.of(
            [
                f"--data {data}: this part of the mixture has no training text: it is empty, or all of it is held out. "
                "Provide more, omit the part, or provide held-out text with --validation-data."
                for data in empty
            ]
        )
    mixed = MixedCorpus(parts, corpora, load_held_out(config, sources), sources.fingerprint)
    if config.block_size != "auto" and mixed.token_count < config.block_size and config.packing != "none":
        raise UserError(
            f"--block-size {config.block_size}: the training text of {config.data} has only {mixed.token_count} "
            "tokens, fewer than one block. Provide more text or choose a smaller block."
        )
    return mixed


def part_facts(corpus: Corpus | MixedCorpus, epochs: Sequence[float]) -> dict[str, Any]:
    """The entry of ``environment.json`` about the parts of a mixture; none for a single corpus.

    Args:
        corpus: the training data.
        epochs: how often the run trains on each part, from ``GlobalBatches.epochs_of_parts``.
    """
    if isinstance(corpus, Corpus):
        return {}
    rows = [
        {
            "data": redact(part.data),
            "weight": part.weight,
            "documents": own.documents,
            "tokens": own.token_count,
            "epochs": number,
        }
        for part, own, number in zip(corpus.parts, corpus.corpora, epochs, strict=True)
    ]
    return {"parts": rows}


def describe_parts(facts: dict[str, Any]) -> Iterator[str]:
    """A line for each part in :func:`part_facts`."""
    for row in facts.get("parts", []):
        yield (
            f"  {row['weight']:6.1%} {row['data']}: {counted(row['documents'], 'document')}, "
            f"{counted(row['tokens'], 'token')}, "
            f"{row['epochs']:.2f} epochs"
        )
