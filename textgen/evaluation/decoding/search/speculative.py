"""Speculative decoding: a cheap draft proposes tokens, and the model verifies all of them in one forward pass.

The model chooses every token as it would without a draft, by argmax or, for a draw, by argmax with the noise keyed to
the position. A proposal that is that very token saves a forward pass; one that is not changes nothing. So the
continuation is the target strategy's own, token for token, not only in distribution (arXiv 2211.17192 guarantees the
latter; the coupling through shared Gumbel noise is that of arXiv 2408.07978).
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from textgen.evaluation.decoding.gumbel import NoiseKey, gumbel_noise
from textgen.evaluation.decoding.prefix_cache import PrefixCache
from textgen.evaluation.decoding.strategies import Strategy

# (tokens so far, prompt included; how many to propose at most) → tokens proposed to come next.
Draft = Callable[[Sequence[int], int], list[int]]
# (logits [vocabulary], position in the continuation) → token.
Pick = Callable[[torch.Tensor, int], int]


def speculative_decoding(
    prefix: PrefixCache,
    amateur: PrefixCache | None,
    prompt: Sequence[int],
    strategy: Strategy,
    key: NoiseKey,
    *,
    max_new_tokens: int,
    eos_token_id: int | None,
) -> list[int]:
    """Token ids of the continuation of one prompt, the end of text included.

    ``prefix`` and, if the strategy needs one, ``amateur`` have read the prompt; both are consumed.
    """
    pick = _picker(strategy, key)
    count = int(strategy.settings["draft_tokens"])
    draft: Draft
    if strategy.needs_amateur:
        assert amateur is not None
        amateur.cache.activate_past_recording()  # so that layers with a sliding window can be rewound
        draft = AmateurDraft(amateur, prompt, pick)
    else:
        draft = partial(prompt_lookup, longest=int(strategy.settings["max_ngram"]))
    prefix.cache.activate_past_recording()

    tokens: list[int] = []
    following = pick(prefix.logits[0], 0)
    while True:
        tokens.append(following)
        if following == eos_token_id or len(tokens) == max_new_tokens:
            return tokens
        wanted = min(count, max_new_tokens - len(tokens) - 1)
        proposed = draft([*prompt, *tokens], wanted) if wanted else []
        logits = prefix.append_many(torch.tensor([[following, *proposed]], device=prefix.logits.device))[0]
        agreed = 0
        following = pick(logits[0], len(tokens))
        while agreed < len(proposed) and following == proposed[agreed] and following != eos_token_id:
            agreed += 1
            tokens.append(following)
            following = pick(logits[agreed], len(tokens))
        prefix.rewind(len(proposed) - agreed)


def _picker(strategy: Strategy, key: NoiseKey) -> Pick:
    if not strategy.is_stochastic:
        return lambda logits, position: int(logits.argmax())
    temperature = float(strategy.settings["temperature"])

    def draw(logits: torch.Tensor, position: int) -> int:
        return int((logits / temperature + gumbel_noise(key, position, len(logits)).to(logits.device)).argmax())

    return draw


def prompt_lookup(history: Sequence[int], count: int, *, longest: int) -> list[int]:
    """Up to ``count`` tokens that followed the last occurrence before of the last tokens: as many of them as occur
    together, ``longest`` at most. Nothing if not even the last one occurred before."""
    for size in range(min(longest, len(history) - 1), 0, -1):
        end = list(history[-size:])
        for start in range(len(history) - size - 1, -1, -1):
            if list(history[start : start + size]) == end:
                return list(history[start + size : start + size + count])
    return []


class AmateurDraft:
    """What a weaker model would say, under the same luck; it reads on from where it and the text still agree."""

    def __init__(self, prefix: PrefixCache, prompt: Sequence[int], pick: Pick) -> None:
        self.prefix, self.pick = prefix, pick
        self.read = list(prompt)
        self.prompt_length = len(prompt)

    def __call__(self, history: Sequence[int], count: int) -> list[int]:
        agreed = next(
            (place for place, (a, b) in enumerate(zip(self.read, history, strict=False)) if a != b),
            min(len(self.read), len(history)),
        )
        self.prefix.rewind(len(self.read) - agreed)
        self._read(history[agreed:])
        self.read = list(history)
        first = len(history) - self.prompt_length
        proposed = [self.pick(self.prefix.logits[0], first)]
        while len(proposed) < count:
            self._read(proposed[-1:])
            self.read.append(proposed[-1])
            proposed.append(self.pick(self.prefix.logits[0], first + len(proposed)))
        return proposed

    def _read(self, tokens: Sequence[int]) -> None:
        assert tokens, "the text has grown since the last draft"
        self.prefix.append_many(torch.tensor([list(tokens)], device=self.prefix.logits.device))
