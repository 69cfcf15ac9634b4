"""A second opinion on continuations: their likelihood under another model, the judge, which did not write them.

Tokenizers differ, so the judge's nats per token say nothing about text that another model wrote in its own tokens. The
figure is bits per byte: the judge's nll of the continuation after its prompt, over the UTF-8 bytes of the continuation.
Low is not good: repetitive text is likely under every model. The human continuations are the target.
"""

import math
from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from textgen.data.tokenization import prefix_id
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.quality.teacher_forcing import Span, read_spans


def judge_nlls(judge: LoadedModel, prompts: Sequence[str], continuations: Sequence[str]) -> list[float]:
    """The judge's nll in nats of each continuation after its prompt; the same on every process, 0 for an empty one.

    Each pair of texts is read as one sequence: the judge's BOS (or EOS) token, the prompt's tokens, the continuation's.
    The two texts are tokenised separately, so that every byte of the continuation is scored and none of the prompt's.
    If a sequence is longer than the judge's context, the earliest tokens are dropped, and what is still too long is
    scored in windows that each advance by half of the context.
    """
    spans: list[Span] = []
    owners: list[int] = []
    for owner, (prompt, continuation) in enumerate(zip(prompts, continuations, strict=True)):
        found = cut_spans(*split_ids(judge.tokenizer, prompt, continuation), judge.context)
        spans += found
        owners += [owner] * len(found)

    def read(log_probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return -log_probs.gather(1, targets[:, None])

    nlls: list[list[float]] = [[] for _ in prompts]
    for owner, nll in zip(owners, read_spans(judge, spans, read, columns=1), strict=True):
        nlls[owner] += nll[:, 0].tolist()
    return [math.fsum(nll) for nll in nlls]


def split_ids(tokenizer: PreTrainedTokenizerBase, prompt: str, continuation: str) -> tuple[list[int], list[int]]:
    """Token ids that come before the continuation, the prefix token among them, and the continuation's."""
    prefix = prefix_id(tokenizer)
    # verbose=False: no warning about texts longer than the context, which are cut into windows
    before, after = (
        tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"] if text else []
        for text in (prompt, continuation)
    )
    return [prefix, *before] if prefix is not None else list(before), list(after)


def cut_spans(before: Sequence[int], after: Sequence[int], context: int) -> list[Span]:
    """Windows that ask about each token of ``after`` once, none reading more than ``context`` tokens.

    The last token asked about is not read. If nothing precedes it, the first token of ``after`` cannot be asked about,
    and serves as context only.
    """
    sequence, scored = [*before, *after], max(1, len(before))
    spans = []
    while scored < len(sequence):
        end = len(sequence) if len(sequence) - 1 <= context else min(len(sequence), scored + max(1, context // 2))
        start = max(0, end - 1 - context)
        spans.append(Span(sequence[start:scored], sequence[scored:end]))
        scored = end
    return spans
