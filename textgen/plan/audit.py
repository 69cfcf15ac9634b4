"""What is said about the examples of a corpus before they are trained on."""

from collections.abc import Iterator

from textgen.data.corpus import Corpus
from textgen.data.mask_coverage import mask_coverage
from textgen.data.mixed_corpus import MixedCorpus
from textgen.errors import UserError


def describe_examples(corpus: Corpus | MixedCorpus, block_size: int, packing: str) -> Iterator[str]:
    """Lines about the examples of a corpus: how many are left out, have no target, or are too long.

    Args:
        corpus: the training data.
        block_size: tokens in a block.
        packing: how documents fill blocks.

    Raises:
        UserError: no example has a target in the same block as its prompt.
    """
    counts = corpus.counts
    if counts.left_out:
        rows = "1 row is" if counts.left_out == 1 else f"{counts.left_out:,} rows are"
        yield f"{rows} left out, with nothing to train on; the first is {counts.first_left_out}"
    coverage = mask_coverage(corpus, block_size, packing)
    if coverage is None:
        return
    if counts.untargeted:
        yield f"{counts.untargeted:,} of {counts.examples:,} examples have no target: the template writes no answer"
    if coverage.without_prompt == counts.examples:
        raise UserError(
            f"--block-size {block_size}: the prompt of every example fills a block, so that all completions would be "
            "trained on without their prompts. Use a larger block, a model with a longer context, or shorter prompts."
        )
    longer = corpus.longer_than(block_size) if packing == "none" else coverage.cut
    if longer:
        kind, whole = ("documents", corpus.documents) if packing == "none" else ("examples", counts.examples)
        how = f"longer than a block of {block_size} tokens" if packing == "none" else "cut at the end of a block"
        alone = f" ({coverage.without_prompt:,} by their prompts alone)" if coverage.without_prompt else ""
        yield (
            f"{longer:,} of {whole:,} {kind} are {how}{alone}; what does not fit goes into further blocks, without the "
            "beginning"
        )
