"""Rules that choose the next token from the logits: one function per family, for a group of rows.

Settings are columns, so variants of a strategy (``top_p[0.9]``, ``top_p[0.95]``) are in the same group.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from textgen.evaluation.decoding.gumbel import NoiseKey
from textgen.evaluation.decoding.strategies import Strategy
from textgen.evaluation.decoding.truncation import TRUNCATIONS, keep_mask, or_best


@dataclass
class RowGroup:
    """Rows of one family that are decoded together.

    Attributes:
        family: the family of all their strategies.
        keys: noise key of each row.
        history: tokens so far, prompt included, [rows, length].
        settings: setting name → its value for each row, [rows, 1], float64.
        main_setting: the setting that a truncation depends on, [rows, 1].
        is_stochastic: whether the rule needs noise.
        state: what the rule carries over from one token to the next, each [rows, …].
    """

    family: str
    keys: list[NoiseKey]
    history: torch.Tensor
    settings: dict[str, torch.Tensor]
    main_setting: torch.Tensor
    is_stochastic: bool
    state: dict[str, torch.Tensor] = field(default_factory=dict)

    def select_rows(self, which: torch.Tensor) -> None:
        """Keep only the rows with these indices."""
        self.keys = [self.keys[row] for row in which.tolist()]
        self.history, self.main_setting = self.history[which], self.main_setting[which]
        self.settings = {name: column[which] for name, column in self.settings.items()}
        self.state = {name: value[which] for name, value in self.state.items()}


# (logits [rows, vocabulary], noise [rows, vocabulary] or None, group) → tokens [rows]
Rule = Callable[[torch.Tensor, torch.Tensor | None, RowGroup], torch.Tensor]


def group_rows(strategies: Sequence[Strategy], keys: Sequence[NoiseKey], history: torch.Tensor) -> RowGroup:
    """A group of rows of one family; ``history`` [rows, length] contains their tokens so far."""
    first = strategies[0]
    assert all(strategy.family == first.family for strategy in strategies), "one family per group"
    names = dict.fromkeys(name for strategy in strategies for name in strategy.settings)
    settings = {
        # Only temperature may be set in one variant of a family and not in another.
        name: _column([strategy.settings.get(name, 1.0) for strategy in strategies], history.device)
        for name in names
    }
    temperature = settings.get("temperature")
    if temperature is not None and bool((temperature == 1).all()):
        del settings["temperature"]  # saves dividing the logits by 1
    main = settings.get(first.main_setting or "", _column([1.0] * len(strategies), history.device))
    return RowGroup(first.family, list(keys), history, settings, main, first.is_stochastic)


def _column(values: Sequence[float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, device=device)[:, None]


def choose_next(logits: torch.Tensor, noise: torch.Tensor | None, group: RowGroup) -> torch.Tensor:
    """The next token of each row of the group, [rows]."""
    rule = RULES.get(group.family, _sample if group.family in TRUNCATIONS else _greedy)
    return rule(logits, noise, group)


def _greedy(logits: torch.Tensor, noise: torch.Tensor | None, group: RowGroup) -> torch.Tensor:
    return logits.argmax(dim=-1)


def _apply_temperature(logits: torch.Tensor, group: RowGroup) -> torch.Tensor:
    temperature = group.settings.get("temperature")
    return logits if temperature is None else logits / temperature.to(logits.dtype)


def _sample(logits: torch.Tensor, noise: torch.Tensor | None, group: RowGroup) -> torch.Tensor:
    """A draw from the tokens that the family's truncation keeps: temperature first, then truncation, then noise."""
    assert noise is not None
    scores = _apply_temperature(logits, group)
    if group.family != "temperature":  # which keeps every token
        scores = scores.log_softmax(dim=-1)
        scores = scores.masked_fill_(~keep_mask(group.family, scores, group.main_setting), -torch.inf)
    return (scores + noise).argmax(dim=-1)


def _mirostat(logits: torch.Tensor, noise: torch.Tensor | None, group: RowGroup) -> torch.Tensor:
    """A draw from the tokens with a surprisal of at most μ bits; then μ −= η·(surprisal of the draw − τ), from μ = 2τ.

    The surprisal of the draw is that among the kept tokens, as in the authors' code (github.com/basusourya/mirostat,
    version 2). The most probable token is always kept.
    """
    assert noise is not None
    tau, eta = group.settings["tau"], group.settings["eta"]
    mu = group.state.setdefault("mu", 2 * tau)
    log_probs = _apply_temperature(logits, group).log_softmax(dim=-1)
    mask = or_best(log_probs >= (-mu * math.log(2)).to(log_probs.dtype), log_probs)
    scores = log_probs.masked_fill_(~mask, -torch.inf).log_softmax(dim=-1)
    drawn = (scores + noise).argmax(dim=-1, keepdim=True)
    surprisal = -scores.gather(1, drawn).double() / math.log(2)
    group.state["mu"] = mu - eta * (surprisal - tau)
    return drawn[:, 0]


def _repetition_penalty(logits: torch.Tensor, noise: torch.Tensor | None, group: RowGroup) -> torch.Tensor:
    """The most probable token after penalizing those in the history: their logits are divided by the penalty if
    positive, and multiplied by it if negative (arXiv 1909.05858, equation 2, and its code)."""
    penalty = group.settings["repetition_penalty"].to(logits.dtype)
    seen = logits.gather(1, group.history)
    seen = torch.where(seen > 0, seen / penalty, seen * penalty)
    return logits.scatter(1, group.history, seen).argmax(dim=-1)


def _no_repeat_ngram(logits: torch.Tensor, noise: torch.Tensor | None, group: RowGroup) -> torch.Tensor:
    """The most probable token that does not complete an n-gram already in the history (arXiv 1705.04304, section
    2.5)."""
    logits = logits.clone()
    sizes = group.settings["no_repeat_ngram_size"][:, 0].long()
    for size in sizes.unique().tolist():
        rows = (sizes == size).nonzero()[:, 0]
        history = group.history[rows]
        if history.shape[1] < size:
            continue
        ngrams = history.unfold(1, size, 1)  # [rows, ngrams, size]
        last = history[:, history.shape[1] - size + 1 :]  # the first n − 1 tokens of the next n-gram
        row, match = (ngrams[..., :-1] == last[:, None]).all(dim=-1).nonzero(as_tuple=True)
        logits[rows[row], ngrams[row, match, -1]] = -torch.inf
    return logits.argmax(dim=-1)


# Family → its rule. Families that are not listed sample from their truncation, or are greedy if they have none.
RULES: dict[str, Rule] = {
    "mirostat": _mirostat,
    "repetition_penalty": _repetition_penalty,
    "dola": _repetition_penalty,
    "no_repeat_ngram": _no_repeat_ngram,
}
