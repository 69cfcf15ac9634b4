"""What is said about examples of a task before they are trained on."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from textgen.data.corpus import Corpus
from textgen.data.examples.audit import audit_examples

_AUDITED = 64  # held-out examples, which are a random sample of all


def describe_examples(corpus: Corpus, tokenizer: Any, block_size: int) -> Iterator[str]:
    """Lines about the examples of a corpus: two of them with their targets set apart, and how many are too long.

    Raises:
        UserError: they cannot be trained on; see :func:`textgen.data.examples.audit.audit_examples`.
    """
    if not corpus.counts.examples:
        return
    yield from audit_examples(tokenizer, [d for d in islice(corpus.validation, _AUDITED) if d.is_example])
    if longer := corpus.longer_than(block_size):
        yield (
            f"{longer:,} of {len(corpus.offsets):,} documents are longer than a block of {block_size} tokens; what "
            "does not fit goes into further blocks, without the beginning"
        )
