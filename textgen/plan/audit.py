"""What is said about examples of a task before they are trained on."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from textgen.data.corpus import Corpus
from textgen.data.examples.audit import audit_examples
from textgen.data.mixed_corpus import MixedCorpus

_AUDITED = 64  # held-out examples, which are a random sample of all


def describe_examples(corpus: Corpus | MixedCorpus, tokenizer: Any, block_size: int) -> Iterator[str]:
    """Lines about the examples of a corpus: two of them with their targets set apart, and how many are too long.

    Raises:
        UserError: they cannot be trained on; see :func:`textgen.data.examples.audit.audit_examples`.
    """
    if not corpus.counts.examples:
        return
    yield from audit_examples(tokenizer, list(islice((d for d in corpus.validation if d.is_example), _AUDITED)))
    if longer := corpus.longer_than(block_size):
        yield (
            f"{longer:,} of {corpus.documents:,} documents are longer than a block of {block_size} tokens; what "
            "does not fit goes into further blocks, without the beginning"
        )
