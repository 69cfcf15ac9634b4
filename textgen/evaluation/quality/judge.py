"""Likelihood of continuations under the judge, a second model that did not write them.

The metric is bits per byte: the judge's nll of the continuation after its prompt, divided by the UTF-8 bytes of the
continuation. Not per token, since tokenizers differ: the text may have been generated in other tokens than the judge's.
Lower is not better, since repetitive text is likely under every model: the target is the value of the human
continuations.
"""

import math
from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from textgen.data.tokenization import encode_batch, prefix_id
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.quality.teacher_forcing import Span, score_spans


def judge_nlls(judge: LoadedModel, prompts: Sequence[str], continuations: Sequence[str]) -> list[float]:
    """The judge's nll in nats of each continuation after its prompt; the same on every process, 0 for an empty one.

    The judge reads each pair of texts as one sequence: its BOS (or EOS) token, the prompt's tokens, the continuation's.
    The two texts are tokenized separately, so that every byte of the continuation is scored and none of the prompt's.
    If a sequence is longer than the judge's context, its continuation is scored in windows that each advance by half of
    the context, and what does not fit into a window is cut off at its start.
    """
    spans: list[Span] = []
    text_of_span: list[int] = []
    for text, (prompt, continuation) in enumerate(zip(prompts, continuations, strict=True)):
        windows = cut_spans(*split_ids(judge.tokenizer, prompt, continuation), judge.context)
        spans += windows
        text_of_span += [text] * len(windows)

    def score(log_probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return -log_probs.gather(1, targets[:, None])

    nlls: list[list[float]] = [[] for _ in prompts]
    for text, nll in zip(text_of_span, score_spans(judge, spans, score, columns=1), strict=True):
        nlls[text] += nll[:, 0].tolist()
    return [math.fsum(nll) for nll in nlls]


def split_ids(tokenizer: PreTrainedTokenizerBase, prompt: str, continuation: str) -> tuple[list[int], list[int]]:
    """Token ids before the continuation (the BOS or EOS token and the prompt), and token ids of the continuation."""
    prefix = prefix_id(tokenizer)
    before, after = encode_batch(tokenizer, [prompt, continuation])
    return [prefix, *before] if prefix is not None else before, after


def cut_spans(before: Sequence[int], after: Sequence[int], context: int) -> list[Span]:
    """Windows that score each token of ``after`` once, with at most ``context`` input tokens each.

    A window's last token is scored but is not an input. If ``before`` is empty, the first token of ``after`` cannot be
    scored and serves as context only.
    """
    sequence, scored = [*before, *after], max(1, len(before))
    spans = []
    while scored < len(sequence):
        end = len(sequence) if len(sequence) - 1 <= context else min(len(sequence), scored + max(1, context // 2))
        start = max(0, end - 1 - context)
        spans.append(Span(sequence[start:scored], sequence[scored:end]))
        scored = end
    return spans
