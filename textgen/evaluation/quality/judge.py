"""A second opinion on continuations: their likelihood under another model, which did not write them.

Tokens differ from tokenizer to tokenizer, so nats a token of the judge say nothing about text that another model wrote
in tokens of its own. What is reported is bits a byte: the judge's nll of the continuation after its prompt, over the
UTF-8 bytes of the continuation. Low is not good: text that a model loops on is likely under every model. The human
continuations are the target.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase

from textgen.evaluation.quality.teacher_forcing import Given, read_continuations


@dataclass(frozen=True)
class Judge:
    """A model that is asked about other models' texts; on the accelerator's device, unwrapped.

    ``context`` is the number of tokens that it sees.
    """

    name: str
    model: Any
    tokenizer: PreTrainedTokenizerBase
    context: int


def judge_nlls(
    accelerator: Accelerator, judge: Judge, prompts: Sequence[str], continuations: Sequence[str]
) -> list[float]:
    """The judge's nll in nats of each continuation after its prompt; the same on every process, 0 for an empty one.

    Each pair of texts is read as one sequence: the judge's BOS (or EOS) token, the prompt's tokens, the continuation's.
    The two texts are tokenised apart, so that every byte of the continuation is scored and none of the prompt's. Where
    a sequence is longer than the judge's context, the earliest tokens are left out, and what is still too long is
    scored in windows that each advance by half of the context.
    """
    pieces: list[Given] = []
    owners: list[int] = []
    for owner, (prompt, continuation) in enumerate(zip(prompts, continuations, strict=True)):
        found = pieces_of(*sequence_of(judge.tokenizer, prompt, continuation), judge.context)
        pieces += found
        owners += [owner] * len(found)

    def read(_: int, log_probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return -log_probs.gather(1, targets[:, None])

    nlls: list[list[float]] = [[] for _ in prompts]
    for owner, nll in zip(owners, read_continuations(accelerator, judge.model, pieces, read, columns=1), strict=True):
        nlls[owner] += nll[:, 0].tolist()
    return [math.fsum(nll) for nll in nlls]


def sequence_of(tokenizer: PreTrainedTokenizerBase, prompt: str, continuation: str) -> tuple[list[int], list[int]]:
    """Token ids that come before the continuation, the prefix token among them, and the continuation's."""
    prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    # verbose=False: a text that is longer than the context is cut into windows, and no reason for a warning
    before, after = (
        tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"] if text else []
        for text in (prompt, continuation)
    )
    return [prefix, *before] if prefix is not None else list(before), list(after)


def pieces_of(before: Sequence[int], after: Sequence[int], context: int) -> list[Given]:
    """Windows that ask about each token of ``after`` once, none reading more than ``context`` tokens.

    The last token asked about is not read. Without any token before it, the first one of ``after`` cannot be asked
    about, and becomes what the others follow.
    """
    sequence, scored = [*before, *after], max(1, len(before))
    pieces = []
    while scored < len(sequence):
        end = len(sequence) if len(sequence) - 1 <= context else min(len(sequence), scored + max(1, context // 2))
        start = max(0, end - 1 - context)
        pieces.append(Given(sequence[start:scored], sequence[scored:end]))
        scored = end
    return pieces
