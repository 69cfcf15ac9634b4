"""What the model writes while it learns: the same few prompts, continued with the same luck, every so many steps.

All randomness is in noise keyed by (seed, prompt, sample, position), so that nothing but the model changes from one
look to the next, and looking changes nothing: no generator that training uses is touched.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textgen.evaluation.decoding.dispatch import before_end_of_text, decode
from textgen.evaluation.decoding.gumbel import NoiseKey
from textgen.evaluation.decoding.prompts import Prompt, text_of
from textgen.evaluation.decoding.strategies import STRATEGIES
from textgen.model.contexts import evaluating

PROMPTS = 4
SHOWN = ("greedy", "top_p")  # what the model thinks most likely, and what it draws


def write_samples(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    step: int,
    max_new_tokens: int,
    seed: int,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Rows for ``samples.jsonl``: step, prompt_id, prompt, strategy, text; a row a prompt and strategy.

    ``model`` is unwrapped, on ``device``, and left in the mode it was in. Every process that calls this decodes the
    same batches, so that the texts are the same on each, and however many there are.
    """
    by_length: dict[int, list[Prompt]] = {}  # prompts of one length need no padding
    for prompt in prompts:
        by_length.setdefault(len(prompt.token_ids), []).append(prompt)
    texts: dict[tuple[str, str], str] = {}
    strategies = [STRATEGIES[name] for name in SHOWN]
    with evaluating(model), torch.no_grad():
        for strategy in strategies:
            for alike in by_length.values():
                ids = decode(
                    model,
                    strategy,
                    torch.tensor([prompt.token_ids for prompt in alike], device=device),
                    [NoiseKey(seed, prompt.id, 0) for prompt in alike],
                    max_new_tokens=max_new_tokens,
                    eos_token_id=tokenizer.eos_token_id,
                ).tolist()
                for prompt, tokens in zip(alike, ids, strict=True):
                    written = before_end_of_text(tokens, tokenizer.eos_token_id)
                    texts[prompt.id, strategy.name] = text_of(tokenizer, written, skip_special_tokens=True)
    return [
        {
            "step": step,
            "prompt_id": prompt.id,
            "prompt": prompt.text,
            "strategy": strategy.name,
            "text": texts[prompt.id, strategy.name],
        }
        for prompt in prompts
        for strategy in strategies
    ]
