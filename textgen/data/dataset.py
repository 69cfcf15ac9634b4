"""Texts as a plain PyTorch dataset: the simplest way from texts to blocks, and the file to read first."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from textgen.data.blocks import BlockSpans
from textgen.data.token_stream import TokenStream
from textgen.data.tokenization import document_marks, encode_batch
from textgen.errors import UserError


class TextDataset(Dataset[dict[str, torch.Tensor]]):
    """A list of texts as blocks that a causal language model can train on.

    The texts are tokenized and joined into one sequence with the end-of-text token before, between and after them; if
    the tokenizer has a begin-of-text token as well, that is before and end-of-text after each. The sequence is cut into
    blocks of ``block_size`` tokens. A block's last token is also the next block's first, so that every token except
    those before the texts is predicted exactly once. The last block is padded to the same length; padding has the label
    -100, which the loss ignores.

    Each item is ``{"input_ids": (block_size,), "labels": (block_size,)}``, both int64. The labels are *not* shifted:
    Hugging Face models, and textgen's own loss, compare the prediction at position i with the label at i + 1.

    Example:
        >>> dataset = TextDataset(["One text.", "Another."], tokenizer, block_size=4)  # doctest: +SKIP
        >>> model(**torch.utils.data.default_collate([dataset[0], dataset[1]])).loss  # doctest: +SKIP

    Args:
        texts: the documents; empty ones are skipped.
        tokenizer: any Hugging Face tokenizer with an end-of-text token.
        block_size: tokens in a block: at least 2, at most the model's context.

    Raises:
        UserError: (a ValueError) the texts are too short for one block, or the block size is less than 2.
    """

    def __init__(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, block_size: int) -> None:
        if isinstance(texts, str):
            raise UserError("texts: expected a list of texts, got a string. Use [text].")
        if block_size < 2:
            raise UserError(f"block_size {block_size}: must be at least 2, to predict one token from another.")
        marks = document_marks(tokenizer)
        tokens, offsets = marks.opening, []
        for ids in encode_batch(tokenizer, [text for text in texts if text.strip()]):
            tokens += marks.frame(ids)
            offsets.append(len(tokens) - len(ids) - 1)
        if len(tokens) < block_size:
            raise UserError(f"block_size {block_size}: the texts have only {len(tokens)} tokens, fewer than one block.")
        self.stream = TokenStream(np.array(tokens, np.int64), np.array(offsets), shared_mark=bool(marks.opening))
        self.block_size = block_size
        self.spans = BlockSpans(len(tokens), block_size)

    @property
    def tokens(self) -> np.ndarray:
        """(T,) int64: all token ids, in one sequence."""
        return self.stream.ids

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"block {index} of {len(self)}")
        input_ids, labels, _ = self.stream.block(self.spans[index], self.block_size)
        return {"input_ids": torch.from_numpy(input_ids), "labels": torch.from_numpy(labels)}
