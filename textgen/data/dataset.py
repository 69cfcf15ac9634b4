"""The first thing to read: texts as a plain PyTorch dataset."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from textgen.data.blocks import block, block_spans
from textgen.data.tokenization import encode_batch, separator_id
from textgen.errors import UserError


class TextDataset(Dataset[dict[str, torch.Tensor]]):
    """A list of texts as blocks that a causal language model can train on.

    The texts are tokenised, joined into one long run with the end-of-text token before, between and after them, and
    cut into blocks of ``block_size`` tokens. A block's last token is the next block's first, so that every token is
    predicted exactly once. What is left at the end becomes a last block, filled up to the same length; its filling
    has the label -100, which the loss skips.

    Each item is ``{"input_ids": (block_size,), "labels": (block_size,)}``, both int64. The labels are *not* shifted:
    Hugging Face models, and textgen's own loss, compare the prediction at position i with the label at i + 1.

    Example:
        >>> dataset = TextDataset(["One text.", "Another."], tokenizer, block_size=4)  # doctest: +SKIP
        >>> model(**torch.utils.data.default_collate([dataset[0], dataset[1]])).loss  # doctest: +SKIP

    Args:
        texts: the documents; white space alone is passed over.
        tokenizer: any Hugging Face tokenizer with an end-of-text token.
        block_size: tokens in a block, at least 2 and at most the model's context.

    Raises:
        UserError: (a ValueError) the texts are too short for one block, or the block size is below 2.
    """

    def __init__(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, block_size: int) -> None:
        if isinstance(texts, str):
            raise UserError("texts: expected a list of texts, got one string; write [text].")
        if block_size < 2:
            raise UserError(f"block_size {block_size}: a block needs at least 2 tokens, one to predict the other.")
        separator = separator_id(tokenizer)
        run = [separator]
        for ids in encode_batch(tokenizer, [text for text in texts if text.strip()]):
            run += [*ids, separator]
        if len(run) < block_size:
            raise UserError(f"block_size {block_size}: the texts have only {len(run)} tokens, too few for one block.")
        self.tokens = np.array(run, np.int64)
        self.block_size = block_size
        self.spans = block_spans(len(run), block_size)

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"block {index} of {len(self)}")
        input_ids, labels = block(self.tokens, self.spans[index], self.block_size)
        return {"input_ids": torch.from_numpy(input_ids), "labels": torch.from_numpy(labels)}
