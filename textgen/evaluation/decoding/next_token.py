"""How a strategy chooses the next token from what the model expects: one function a family, for a group of rows.

A chooser takes the logits of the group's rows and their :class:`Group`, which it may keep notes in, and returns a token
for each row. Settings are columns, so that variants of a strategy (``top_p[0.9]``, ``top_p[0.95]``) are one group.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from textgen.evaluation.decoding.gumbel import NoiseKey
from textgen.evaluation.decoding.strategies import Strategy
from textgen.evaluation.decoding.truncation import TRUNCATIONS, mask_of


@dataclass
class Group:
    """Rows of one family that are decoded together.

    Attributes:
        family: of the strategies.
        keys: of each row's noise.
        history: tokens so far, prompt included, [rows, length].
        settings: by name, [rows, 1], float64.
        main: the setting that a truncation goes by, [rows, 1].
        samples: whether noise is drawn for it.
        notes: what a chooser remembers, each [rows, …].
    """

    family: str
    keys: list[NoiseKey]
    history: torch.Tensor
    settings: dict[str, torch.Tensor]
    main: torch.Tensor
    samples: bool
    notes: dict[str, torch.Tensor] = field(default_factory=dict)

    def select(self, which: torch.Tensor) -> None:
        """Keep the rows with these numbers."""
        self.keys = [self.keys[row] for row in which.tolist()]
        self.history, self.main = self.history[which], self.main[which]
        self.settings = {name: column[which] for name, column in self.settings.items()}
        self.notes = {name: note[which] for name, note in self.notes.items()}


# (logits [rows, vocabulary], noise [rows, vocabulary] or None, group) → tokens [rows]
Chooser = Callable[[torch.Tensor, torch.Tensor | None, Group], torch.Tensor]


def group_rows(strategies: Sequence[Strategy], keys: Sequence[NoiseKey], history: torch.Tensor) -> Group:
    """The group of rows of one family, which must know the same settings; ``history`` is [rows, length]."""
    first = strategies[0]
    assert all(strategy.family == first.family for strategy in strategies), "one family a group"
    names = dict.fromkeys(name for strategy in strategies for name in strategy.settings)
    settings = {
        # temperature is the one setting that a variant can have and another of its family leave out
        name: _column([strategy.settings.get(name, 1.0) for strategy in strategies], history.device)
        for name in names
    }
    if all(bool((column == 1).all()) for name, column in settings.items() if name == "temperature"):
        settings.pop("temperature", None)
    main = settings.get(first.main or "", _column([1.0] * len(strategies), history.device))
    return Group(first.family, list(keys), history, settings, main, first.samples)


def _column(values: Sequence[float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, device=device)[:, None]


def choose(logits: torch.Tensor, noise: torch.Tensor | None, group: Group) -> torch.Tensor:
    """The next token of each row of the group, [rows]."""
    chooser = CHOOSERS.get(group.family, _draw if group.family in TRUNCATIONS else _best)
    return chooser(logits, noise, group)


def _best(logits: torch.Tensor, noise: torch.Tensor | None, group: Group) -> torch.Tensor:
    return logits.argmax(dim=-1)


def _tempered(logits: torch.Tensor, group: Group) -> torch.Tensor:
    temperature = group.settings.get("temperature")
    return logits if temperature is None else logits / temperature.to(logits.dtype)


def _draw(logits: torch.Tensor, noise: torch.Tensor | None, group: Group) -> torch.Tensor:
    """A draw from what the family's truncation keeps: temperature first, then truncation, then the noise."""
    assert noise is not None
    scores = _tempered(logits, group)
    if group.family != "temperature":  # which keeps everything
        scores = scores.log_softmax(dim=-1)
        scores = scores.masked_fill_(~mask_of(group.family, scores, group.main), -torch.inf)
    return (scores + noise).argmax(dim=-1)


def _mirostat(logits: torch.Tensor, noise: torch.Tensor | None, group: Group) -> torch.Tensor:
    """A draw from the tokens whose surprise is at most μ bits; then μ −= η·(surprise of the draw − τ), from μ = 2τ.

    The surprise of the draw is that among the kept tokens, as in the authors' code (github.com/basusourya/mirostat,
    version 2); the most probable token is kept whatever its surprise.
    """
    assert noise is not None
    tau, eta = group.settings["tau"], group.settings["eta"]
    mu = group.notes.setdefault("mu", 2 * tau)
    log_probs = _tempered(logits, group).log_softmax(dim=-1)
    mask = log_probs >= (-mu * math.log(2)).to(log_probs.dtype)
    mask.scatter_(1, log_probs.argmax(dim=-1, keepdim=True), True)
    scores = log_probs.masked_fill_(~mask, -torch.inf).log_softmax(dim=-1)
    drawn = (scores + noise).argmax(dim=-1, keepdim=True)
    surprise = -scores.gather(1, drawn).double() / math.log(2)
    group.notes["mu"] = mu - eta * (surprise - tau)
    return drawn[:, 0]


def _penalised(logits: torch.Tensor, noise: torch.Tensor | None, group: Group) -> torch.Tensor:
    """The most probable token after logits of tokens in the history were divided by the penalty if positive, and
    multiplied by it if negative (arXiv 1909.05858, equation 2, and its code)."""
    penalty = group.settings["repetition_penalty"].to(logits.dtype)
    seen = logits.gather(1, group.history)
    seen = torch.where(seen > 0, seen / penalty, seen * penalty)
    return logits.scatter(1, group.history, seen).argmax(dim=-1)


def _without_repeats(logits: torch.Tensor, noise: torch.Tensor | None, group: Group) -> torch.Tensor:
    """The most probable token that does not complete a run of n tokens which is in the history already (arXiv
    1705.04304, section 2.5)."""
    logits = logits.clone()
    sizes = group.settings["no_repeat_ngram_size"][:, 0].long()
    for size in sizes.unique().tolist():
        rows = (sizes == size).nonzero()[:, 0]
        history = group.history[rows]
        if history.shape[1] < size:
            continue
        runs = history.unfold(1, size, 1)  # [rows, runs, size]
        now = history[:, history.shape[1] - size + 1 :]
        row, run = (runs[..., :-1] == now[:, None]).all(dim=-1).nonzero(as_tuple=True)
        logits[rows[row], runs[row, run, -1]] = -torch.inf
    return logits.argmax(dim=-1)


# Family → how it chooses, where it is neither a truncation, which draws, nor greedy.
CHOOSERS: dict[str, Chooser] = {
    "mirostat": _mirostat,
    "repetition_penalty": _penalised,
    "dola": _penalised,
    "no_repeat_ngram": _without_repeats,
}
