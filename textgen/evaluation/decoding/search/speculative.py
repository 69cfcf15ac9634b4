"""Several tokens a pass: a cheap draft proposes, the model reads all proposals at once and keeps those it agrees with.

The model chooses every token of the result as it would without a draft, by argmax or, for a draw, by argmax under the
noise that is keyed to the position: a proposal saves a pass if it is that very token, and changes nothing if not. So
the continuation is the target strategy's own, token for token, and not only in distribution (arXiv 2211.17192 has the
latter; the coupling through shared Gumbel noise is that of arXiv 2408.07978).
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from textgen.evaluation.decoding.gumbel import NoiseKey, gumbel_noise
from textgen.evaluation.decoding.prefix_cache import Reading
from textgen.evaluation.decoding.strategies import Strategy

# (tokens so far, prompt included; how many to propose at most) → tokens proposed to come next.
Draft = Callable[[Sequence[int], int], list[int]]
# (logits [vocabulary], position in the continuation) → token.
Pick = Callable[[torch.Tensor, int], int]


def speculate(
    reading: Reading,
    amateur: Reading | None,
    prompt: Sequence[int],
    strategy: Strategy,
    key: NoiseKey,
    *,
    max_new_tokens: int,
    eos_token_id: int | None,
) -> list[int]:
    """Token ids of the continuation of one prompt, the end of text included.

    ``reading`` and, where the strategy takes one, ``amateur`` have read the prompt; both are used up.
    """
    pick = _picker(strategy, key)
    count = int(strategy.settings["draft_tokens"])
    draft: Draft
    if strategy.needs_amateur:
        assert amateur is not None
        amateur.cache.activate_past_recording()  # so that layers with a window can forget
        draft = AmateurDraft(amateur, prompt, pick)
    else:
        draft = partial(look_up, longest=int(strategy.settings["max_ngram"]))
    reading.cache.activate_past_recording()

    tokens: list[int] = []
    following = pick(reading.logits[0], 0)
    while True:
        tokens.append(following)
        if following == eos_token_id or len(tokens) == max_new_tokens:
            return tokens
        wanted = min(count, max_new_tokens - len(tokens) - 1)
        proposed = draft([*prompt, *tokens], wanted) if wanted else []
        logits = reading.read_on(torch.tensor([[following, *proposed]], device=reading.logits.device))[0]
        agreed = 0
        following = pick(logits[0], len(tokens))
        while agreed < len(proposed) and following == proposed[agreed] and following != eos_token_id:
            agreed += 1
            tokens.append(following)
            following = pick(logits[agreed], len(tokens))
        reading.forget(len(proposed) - agreed)


def _picker(strategy: Strategy, key: NoiseKey) -> Pick:
    if not strategy.samples:
        return lambda logits, position: int(logits.argmax())
    temperature = float(strategy.settings["temperature"])

    def draw(logits: torch.Tensor, position: int) -> int:
        return int((logits / temperature + gumbel_noise(key, position, len(logits)).to(logits.device)).argmax())

    return draw


def look_up(history: Sequence[int], count: int, *, longest: int) -> list[int]:
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

    def __init__(self, reading: Reading, prompt: Sequence[int], pick: Pick) -> None:
        self.reading, self.pick = reading, pick
        self.read = list(prompt)
        self.prompt_length = len(prompt)

    def __call__(self, history: Sequence[int], count: int) -> list[int]:
        agreed = next(
            (place for place, (a, b) in enumerate(zip(self.read, history, strict=False)) if a != b),
            min(len(self.read), len(history)),
        )
        self.reading.forget(len(self.read) - agreed)
        self._read(history[agreed:])
        self.read = list(history)
        first = len(history) - self.prompt_length
        proposed = [self.pick(self.reading.logits[0], first)]
        while len(proposed) < count:
            self._read(proposed[-1:])
            self.read.append(proposed[-1])
            proposed.append(self.pick(self.reading.logits[0], first + len(proposed)))
        return proposed

    def _read(self, tokens: Sequence[int]) -> None:
        assert tokens, "the text has grown since the last draft"
        self.reading.read_on(torch.tensor([list(tokens)], device=self.reading.logits.device))
