"""Beam search (Lowerre 1976), diverse beam search (arXiv 1610.02424), and beams sampled without replacement."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from textgen.evaluation.decoding.gumbel import NoiseKey, gumbel_rows
from textgen.evaluation.decoding.prefix.prefix import Prefix
from textgen.evaluation.decoding.strategies import Strategy


@dataclass(frozen=True)
class Beam:
    """A partial continuation.

    Attributes:
        row: its row of the prefix cache.
        score: its log-probability, less diversity penalties; the search ranks by it.
        log_prob: its log-probability.
        tokens: its token ids.
    """

    row: int
    score: float
    log_prob: float
    tokens: tuple[int, ...]


@dataclass
class BeamGroup:
    """Beams of one prompt that are ranked together: those still open, and the best that are finished.

    Attributes:
        size: maximum number of each.
        length_penalty: finished beams are ranked by their score divided by their length to this power.
        open: beams that have not ended, best first.
        finished: (score divided as above, beam), best first.
    """

    size: int
    length_penalty: float
    open: list[Beam]
    finished: list[tuple[float, Beam]] = field(default_factory=list)

    def is_done(self, length: int) -> bool:
        """Whether ``size`` beams are finished, and no open one, of this length, would be better if it ended now."""
        if not self.open:
            return True
        if len(self.finished) < self.size:
            return False
        return max(beam.score for beam in self.open) / length**self.length_penalty <= self.finished[-1][0]

    def candidates(self, log_probs: torch.Tensor, penalty: torch.Tensor, noise: torch.Tensor | None) -> list[Beam]:
        """Extensions of the open beams by one token, twice ``size``, best first; ``row`` is that of the extended beam.

        Args:
            log_probs: log-probabilities of the next token, [rows of the prefix cache, vocabulary].
            penalty: subtracted from each token's score, [vocabulary].
            noise: Gumbel noise to sample extensions by, [size · vocabulary]; None to take the best.
        """
        vocabulary = log_probs.shape[1]
        step = log_probs[[beam.row for beam in self.open]]
        scores = (step - penalty + torch.tensor([[beam.score] for beam in self.open], device=step.device)).flatten()
        ranking = scores if noise is None else scores + noise[: len(scores)]
        best = ranking.topk(min(2 * self.size, len(scores))).indices
        best = best[scores[best].sort(descending=True, stable=True).indices]
        found = []
        for place, score, log_prob in zip(
            best.tolist(), scores[best].tolist(), step.flatten()[best].tolist(), strict=True
        ):
            beam, token = self.open[place // vocabulary], place % vocabulary
            found.append(Beam(beam.row, score, beam.log_prob + log_prob, (*beam.tokens, token)))
        return found

    def advance(self, candidates: Sequence[Beam], eos_token_id: int | None, *, last: bool) -> None:
        """Finish those that end among the first ``size`` candidates, and keep the best of the others open.

        At the last position, ``last``, every candidate ends.
        """
        ending = [beam for beam in candidates[: self.size] if last or beam.tokens[-1] == eos_token_id]
        self.finished += [(beam.score / len(beam.tokens) ** self.length_penalty, beam) for beam in ending]
        self.finished = sorted(self.finished, key=lambda pair: -pair[0])[: self.size]
        self.open = [beam for beam in candidates if beam.tokens[-1] != eos_token_id][: self.size]


def beam_search(
    prefix: Prefix,
    strategy: Strategy,
    keys: Sequence[NoiseKey],
    *,
    max_new_tokens: int,
    eos_token_id: int | None,
) -> list[list[int]]:
    """Token ids of the continuation of each row of ``prefix``, including the end of text if it was reached.

    At every position, a group takes twice as many candidates as it has beams: the extensions of its beams by one token
    with the highest scores, which are sums of log-probabilities. Candidates in the better half that end the text are
    finished; the best that do not end are the new beams. A group is done when as many texts are finished as there are
    beams, and the best open score is no higher than the worst finished one, each divided by its length to the power of
    ``length_penalty``; with 0, no better text is possible then. transformers does the same with
    ``early_stopping=False``.

    Groups take turns: each time that an earlier group chose a token at this position costs it ``diversity_penalty``
    (Hamming diversity). The result is the best finished text of all groups, ranked without diversity penalties. A
    stochastic strategy samples its candidates without replacement, by the probability of the whole text.

    ``prefix`` is consumed.
    """
    settings = strategy.settings
    num_groups = int(settings.get("num_beam_groups", 1))
    size, length_penalty = int(settings["num_beams"]) // num_groups, float(settings["length_penalty"])
    rows = range(len(prefix.logits))
    searches = {
        row: [BeamGroup(size, length_penalty, [Beam(row, 0.0, 0.0, ())]) for _ in range(num_groups)] for row in rows
    }
    found: dict[int, list[int]] = {}
    for position in range(max_new_tokens):
        log_probs = (prefix.logits / float(settings.get("temperature", 1.0))).log_softmax(dim=-1)
        for row, groups in searches.items():
            noise: Sequence[torch.Tensor | None] = [None] * num_groups
            if strategy.is_stochastic:
                drawn = gumbel_rows([keys[row]], position, num_groups * size * log_probs.shape[1], log_probs.device)
                noise = drawn.view(num_groups, -1).unbind()
            chosen_counts = torch.zeros(log_probs.shape[1], device=log_probs.device)  # of each token, by earlier groups
            for group, group_noise in zip(groups, noise, strict=True):
                if group.is_done(max(1, position)):
                    continue
                penalty = float(settings.get("diversity_penalty", 0.0)) * chosen_counts
                candidates = group.candidates(log_probs, penalty, group_noise)
                group.advance(candidates, eos_token_id, last=position + 1 == max_new_tokens)
                for beam in group.open:
                    chosen_counts[beam.tokens[-1]] += 1
        for row, groups in list(searches.items()):
            if position + 1 == max_new_tokens or all(group.is_done(position + 1) for group in groups):
                found[row] = _best(searches.pop(row))
        if not searches:
            break
        _append(prefix, searches)
    return [found[row] for row in rows]


def _best(groups: Sequence[BeamGroup]) -> list[int]:
    length_penalty = groups[0].length_penalty
    finished = [beam for group in groups for _, beam in group.finished]
    best = max(finished, key=lambda beam: beam.log_prob / len(beam.tokens) ** length_penalty)
    return list(best.tokens)


def _append(prefix: Prefix, searches: dict[int, list[BeamGroup]]) -> None:
    """Append the last token of every open beam to its row, and set the beams' new rows."""
    beams = [beam for groups in searches.values() for group in groups for beam in group.open]
    device = prefix.logits.device
    prefix.select_rows(torch.tensor([beam.row for beam in beams], device=device))
    prefix.append(torch.tensor([beam.tokens[-1] for beam in beams], device=device))
    rows = iter(range(len(beams)))
    for groups in searches.values():
        for group in groups:
            group.open = [Beam(next(rows), beam.score, beam.log_prob, beam.tokens) for beam in group.open]
