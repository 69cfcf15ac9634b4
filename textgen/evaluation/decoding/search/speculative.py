"""Speculative decoding: a cheap draft proposes tokens, and the model verifies all of them in one forward pass.

The model chooses every token as it would without a draft: by argmax, or, when sampling, by argmax with the noise keyed
to the position. A proposal that equals the model's choice saves a forward pass; any other is discarded. So the
continuation equals that of the target strategy token for token, not only in distribution as in arXiv 2211.17192
(coupling through shared Gumbel noise: arXiv 2408.07978).
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from textgen.evaluation.decoding.gumbel import NoiseKey, gumbel_noise
from textgen.evaluation.decoding.prefix.prefix import Prefix
from textgen.evaluation.decoding.strategies import Strategy

# (tokens so far including the prompt, maximum number of proposals) → proposed next tokens
Draft = Callable[[Sequence[int], int], list[int]]
# (logits [vocabulary], position in the continuation) → token
Choose = Callable[[torch.Tensor, int], int]


def speculative_decoding(
    prefix: Prefix,
    amateur: Prefix | None,
    prompt: Sequence[int],
    strategy: Strategy,
    key: NoiseKey,
    *,
    max_new_tokens: int,
    eos_token_id: int | None,
) -> list[int]:
    """Token ids of the continuation of one prompt, including the end of text if it was reached.

    ``prefix`` and, if the strategy needs one, ``amateur`` have read the prompt; both are consumed.
    """
    choose = _target_choice(strategy, key)
    draft_tokens = int(strategy.settings["draft_tokens"])
    draft: Draft
    if strategy.needs_amateur:
        assert amateur is not None
        amateur.allow_rewinding()
        draft = AmateurDraft(amateur, prompt, choose)
    else:
        draft = partial(prompt_lookup, max_ngram=int(strategy.settings["max_ngram"]))
    prefix.allow_rewinding()

    tokens: list[int] = []
    next_token = choose(prefix.logits[0], 0)
    while True:
        tokens.append(next_token)
        if next_token == eos_token_id or len(tokens) == max_new_tokens:
            return tokens
        limit = min(draft_tokens, max_new_tokens - len(tokens) - 1)
        proposed = draft([*prompt, *tokens], limit) if limit else []
        logits = prefix.append_many(torch.tensor([[next_token, *proposed]], device=prefix.logits.device))[0]
        accepted = 0
        next_token = choose(logits[0], len(tokens))
        while accepted < len(proposed) and next_token == proposed[accepted] and next_token != eos_token_id:
            accepted += 1
            tokens.append(next_token)
            next_token = choose(logits[accepted], len(tokens))
        prefix.rewind(len(proposed) - accepted)


def _target_choice(strategy: Strategy, key: NoiseKey) -> Choose:
    """How the target strategy chooses a token: greedily, or by sampling at its temperature."""
    if not strategy.is_stochastic:
        return lambda logits, position: int(logits.argmax())
    temperature = float(strategy.settings["temperature"])

    def sample(logits: torch.Tensor, position: int) -> int:
        return int((logits / temperature + gumbel_noise(key, position, len(logits)).to(logits.device)).argmax())

    return sample


def prompt_lookup(history: Sequence[int], count: int, *, max_ngram: int) -> list[int]:
    """Up to ``count`` tokens that followed the last n-gram of the history where it occurred before.

    The longest n-gram that occurred before is used, up to ``max_ngram``, and its most recent earlier occurrence. Empty
    if not even the last token occurred before.
    """
    for size in range(min(max_ngram, len(history) - 1), 0, -1):
        ngram = list(history[-size:])
        for start in range(len(history) - size - 1, -1, -1):
            if list(history[start : start + size]) == ngram:
                return list(history[start + size : start + size + count])
    return []


class AmateurDraft:
    """Proposes the tokens that a weaker model chooses with the same noise.

    Args:
        prefix: the weaker model's prefix cache of the prompt; it is rewound to where its tokens and the text agree.
        prompt: token ids of the prompt.
        choose: the function by which the target strategy chooses a token.
    """

    def __init__(self, prefix: Prefix, prompt: Sequence[int], choose: Choose) -> None:
        self.prefix, self.choose = prefix, choose
        self.read = list(prompt)  # the tokens in the cache
        self.prompt_length = len(prompt)

    def __call__(self, history: Sequence[int], count: int) -> list[int]:
        """``count`` proposed tokens to continue ``history``."""
        common = next(
            (place for place, (a, b) in enumerate(zip(self.read, history, strict=False)) if a != b),
            min(len(self.read), len(history)),
        )
        self.prefix.rewind(len(self.read) - common)
        self._append(history[common:])
        self.read = list(history)
        first = len(history) - self.prompt_length
        proposed = [self.choose(self.prefix.logits[0], first)]
        while len(proposed) < count:
            self._append(proposed[-1:])
            self.read.append(proposed[-1])
            proposed.append(self.choose(self.prefix.logits[0], first + len(proposed)))
        return proposed

    def _append(self, tokens: Sequence[int]) -> None:
        assert tokens, "the text is longer than at the last draft"
        self.prefix.append_many(torch.tensor([list(tokens)], device=self.prefix.logits.device))
