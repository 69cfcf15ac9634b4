"""Beam search over whole texts (Lowerre 1976), in groups kept apart (arXiv 1610.02424), and by drawing."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from textgen.evaluation.decoding.gumbel import NoiseKey, gumbel_rows
from textgen.evaluation.decoding.prefix_cache import PrefixCache
from textgen.evaluation.decoding.strategies import Strategy


@dataclass(frozen=True)
class Beam:
    """A text that is still open.

    Attributes:
        row: its row of the prefix cache.
        score: that the search goes by: its log-probability, less what diversity has cost it.
        log_probability: of the text.
        tokens: of the continuation.
    """

    row: int
    score: float
    log_probability: float
    tokens: tuple[int, ...]


@dataclass
class Search:
    """One group of beams of one prompt: those still open, and the best that have ended."""

    open: list[Beam]
    ended: list[tuple[float, Beam]] = field(default_factory=list)  # with the score that texts of any length compare by

    def done(self, size: int, length: int, length_penalty: float) -> bool:
        """Whether as many as ``size`` texts have ended, and no open one is better, were it to end now."""
        if not self.open:
            return True
        if len(self.ended) < size:
            return False
        return max(beam.score for beam in self.open) / length**length_penalty <= self.ended[-1][0]


def beam_search(
    prefix: PrefixCache,
    strategy: Strategy,
    keys: Sequence[NoiseKey],
    *,
    max_new_tokens: int,
    eos_token_id: int | None,
) -> list[list[int]]:
    """Token ids of the continuation of each row of ``prefix``, the end of text included; ``prefix`` is consumed.

    Of the continuations of a group's beams by one token, twice as many as there are beams are looked at, in order of
    their score: the sum of the log-probabilities. One that ends the text, if among the first half, is kept aside; the
    best that do not go on. A search is over when as many texts have ended as there are beams and the best open one has
    a score no higher than the worst of those, each divided by its length to the power of ``length_penalty``: with 0,
    nothing better can come any more. This is what transformers does, with ``early_stopping=False``.

    Groups go one after another: for each time an earlier group took a token at this place, it costs
    ``diversity_penalty`` (Hamming diversity). Of all that ended in any group, the result is the one with the best own
    log-probability. A strategy that samples draws the candidates without replacement, by their probability as texts.
    """
    settings = strategy.settings
    groups = int(settings.get("num_beam_groups", 1))
    size = int(settings["num_beams"]) // groups
    length_penalty = float(settings["length_penalty"])
    rows = len(prefix.logits)
    searches = {row: [Search([Beam(row, 0.0, 0.0, ())]) for _ in range(groups)] for row in range(rows)}
    found: dict[int, list[int]] = {}
    for position in range(max_new_tokens):
        log_probs = _log_probs(prefix, strategy)
        for row, search in searches.items():
            noise = (
                _noise(keys[row], position, (groups, size * log_probs.shape[1]), log_probs)
                if strategy.is_stochastic
                else None
            )
            taken = torch.zeros(log_probs.shape[1], device=log_probs.device)
            for number, group in enumerate(search):
                if group.done(size, max(1, position), length_penalty):
                    continue
                candidates = _candidates(
                    group,
                    log_probs,
                    float(settings.get("diversity_penalty", 0.0)) * taken,
                    2 * size,
                    None if noise is None else noise[number],
                )
                last = position + 1 == max_new_tokens
                _advance(group, candidates, size, length_penalty, eos_token_id, last)
                for beam in group.open:
                    taken[beam.tokens[-1]] += 1
        length = position + 1
        for row in [
            r for r, s in searches.items() if length == max_new_tokens or _over(s, size, length, length_penalty)
        ]:
            found[row] = _best(searches.pop(row), length_penalty)
        if not searches:
            break
        _append(prefix, searches)
    return [found[row] for row in range(rows)]


def _log_probs(prefix: PrefixCache, strategy: Strategy) -> torch.Tensor:
    return (prefix.logits / float(strategy.settings.get("temperature", 1.0))).log_softmax(dim=-1)


def _noise(key: NoiseKey, position: int, shape: tuple[int, int], like: torch.Tensor) -> torch.Tensor:
    return gumbel_rows([key], position, shape[0] * shape[1], like.device).view(shape)


def _candidates(
    group: Search, log_probs: torch.Tensor, cost: torch.Tensor, count: int, noise: torch.Tensor | None
) -> list[Beam]:
    """The best continuations by one token, or drawn ones, best first; ``row`` is that of the beam they continue."""
    rows = [beam.row for beam in group.open]
    own = log_probs[rows]
    scores = own - cost + torch.tensor([[beam.score] for beam in group.open], device=own.device)
    flat = scores.flatten()
    luck = flat if noise is None else flat + noise[: len(flat)]
    chosen = luck.topk(min(count, len(flat))).indices
    chosen = chosen[flat[chosen].sort(descending=True, stable=True).indices]
    vocabulary = log_probs.shape[1]
    made = []
    for place, score, step in zip(chosen.tolist(), flat[chosen].tolist(), own.flatten()[chosen].tolist(), strict=True):
        beam, token = group.open[place // vocabulary], place % vocabulary
        made.append(Beam(beam.row, score, beam.log_probability + step, (*beam.tokens, token)))
    return made


def _advance(
    group: Search, candidates: Sequence[Beam], size: int, length_penalty: float, eos_token_id: int | None, last: bool
) -> None:
    """Keep aside what has ended among the first ``size`` candidates, and go on with the best of the others."""
    ending = [beam for beam in candidates[:size] if last or beam.tokens[-1] == eos_token_id]
    group.ended += [(beam.score / len(beam.tokens) ** length_penalty, beam) for beam in ending]
    group.ended = sorted(group.ended, key=lambda pair: -pair[0])[:size]
    group.open = [beam for beam in candidates if beam.tokens[-1] != eos_token_id][:size]


def _over(groups: Sequence[Search], size: int, length: int, length_penalty: float) -> bool:
    return all(group.done(size, length, length_penalty) for group in groups)


def _best(groups: Sequence[Search], length_penalty: float) -> list[int]:
    ended = [beam for group in groups for _, beam in group.ended]
    best = max(ended, key=lambda beam: beam.log_probability / len(beam.tokens) ** length_penalty)
    return list(best.tokens)


def _append(prefix: PrefixCache, searches: dict[int, list[Search]]) -> None:
    """Append the last token of every open beam, and renumber the beams by their new rows."""
    beams = [beam for groups in searches.values() for group in groups for beam in group.open]
    device = prefix.logits.device
    prefix.select_rows(torch.tensor([beam.row for beam in beams], device=device))
    prefix.append(torch.tensor([beam.tokens[-1] for beam in beams], device=device))
    rows = iter(range(len(beams)))
    for groups in searches.values():
        for group in groups:
            group.open = [Beam(next(rows), beam.score, beam.log_probability, beam.tokens) for beam in group.open]
