"""What is said about the examples of a corpus before they are trained on."""

from collections.abc import Iterator

from textgen.data.corpus import Corpus
from textgen.data.mixed_corpus import MixedCorpus


def describe_examples(corpus: Corpus | MixedCorpus, block_size: int) -> Iterator[str]:
    """Lines about the examples of a corpus: how many are left out, have no target, or are too long."""
    counts = corpus.counts
    if counts.left_out:
        rows = "1 row is" if counts.left_out == 1 else f"{counts.left_out:,} rows are"
        yield f"{rows} left out, with nothing to train on; the first is {counts.first_left_out}"
    if not counts.examples:
        return
    if counts.untargeted:
        yield f"{counts.untargeted:,} of {counts.examples:,} examples have no target: their answers are not written"
    if longer := corpus.longer_than(block_size):
        yield (
            f"{longer:,} of {corpus.documents:,} documents are longer than a block of {block_size} tokens; what "
            "does not fit goes into further blocks, without the beginning"
        )
