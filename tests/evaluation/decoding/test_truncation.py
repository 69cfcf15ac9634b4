"""Truncation rules against their published definitions, one token at a time; and partial against full sorts."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    MinPLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from textgen.evaluation.decoding import truncation
from textgen.evaluation.decoding.strategies import STRATEGIES
from textgen.evaluation.decoding.strategy_parser import parse_strategies
from textgen.evaluation.decoding.truncation import TRUNCATIONS, is_truncation, keep_mask, truncate

VOCABULARY = 40


def log_probs(rows: int, *, spread: float = 2.0, seed: int = 0, vocabulary: int = VOCABULARY) -> torch.Tensor:
    logits = torch.randn((rows, vocabulary), generator=torch.Generator().manual_seed(seed)).double() * spread
    return logits.log_softmax(dim=-1)


def entropy_of(probabilities: list[float]) -> float:
    return -sum(p * math.log(p) for p in probabilities if p > 0)


def by_definition(family: str, p: list[float], setting: float) -> set[int]:
    """The tokens kept, determined one at a time in plain Python."""
    order = sorted(range(len(p)), key=lambda token: -p[token])
    h = entropy_of(p)
    if family == "temperature":
        return set(order)
    if family == "top_k":
        return set(order[: int(setting)])
    if family in ("top_p", "typical"):
        if family == "typical":
            order = sorted(order, key=lambda token: abs(-math.log(p[token]) - h))
        mass, chosen = 0.0, set()
        for token in order:
            chosen.add(token)
            mass += p[token]
            if mass >= setting and setting < 1:
                break
        return chosen
    if family == "top_h" and setting == 1:
        return set(order)
    if family == "top_h":
        chosen = []
        for token in order:
            total = sum(p[t] for t in [*chosen, token])
            if chosen and entropy_of([p[t] / total for t in [*chosen, token]]) > setting * h:
                break
            chosen.append(token)
        return set(chosen)
    if family == "top_n_sigma":
        logits = [math.log(value) + 3.7 for value in p]
        mean = sum(logits) / len(logits)
        sigma = math.sqrt(sum((value - mean) ** 2 for value in logits) / len(logits))
        return {token for token in order if logits[token] >= max(logits) - setting * sigma}
    threshold = {
        "epsilon": setting,
        "eta": min(setting, math.sqrt(setting) * math.exp(-h)),
        "min_p": setting * max(p),
        "p_less": sum(value**2 for value in p),
    }[family]
    return {token for token in order if p[token] >= threshold} or {order[0]}


VALUES = {
    "temperature": [0.8],
    "top_k": [1, 3, 40, 100],
    "top_p": [0.1, 0.5, 0.9, 0.99, 1.0],
    "typical": [0.1, 0.5, 0.9, 0.99],
    "epsilon": [1e-3, 0.05, 0.9],
    "eta": [1e-3, 0.05, 0.9],
    "min_p": [0.0, 0.05, 0.5, 1.0],
    "top_n_sigma": [0.0, 0.5, 1.0, 2.0],
    "top_h": [0.1, 0.4, 0.8, 1.0],
    "p_less": [1.0],
}


def test_every_rule_is_tested() -> None:
    assert VALUES.keys() == TRUNCATIONS.keys()
    assert {name for name, strategy in STRATEGIES.items() if is_truncation(strategy)} == set(TRUNCATIONS)


@pytest.mark.parametrize("partial_sort", [4, 512])
@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("family", list(TRUNCATIONS))
def test_rules_keep_the_tokens_of_their_definition(
    family: str, spread: float, partial_sort: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(truncation, "_PARTIAL_SORT", partial_sort)
    rows = log_probs(12, spread=spread)
    for value in VALUES[family]:
        mask = keep_mask(family, rows, torch.full((12, 1), value, dtype=torch.float64))
        for row, found in zip(rows.exp().tolist(), mask, strict=True):
            assert set(found.nonzero().flatten().tolist()) == by_definition(family, row, value)


@pytest.mark.parametrize("family", list(TRUNCATIONS))
def test_each_row_has_its_own_setting(family: str) -> None:
    rows = log_probs(6)
    values = torch.tensor((VALUES[family] * 6)[:6], dtype=torch.float64)[:, None]
    together = keep_mask(family, rows, values)
    alone = [keep_mask(family, rows[row : row + 1], values[row : row + 1])[0] for row in range(6)]
    assert torch.equal(together, torch.stack(alone))


@pytest.mark.parametrize(
    ("name", "processor"),
    [
        ("top_k[7]", TopKLogitsWarper(7)),
        ("top_p[0.8]", TopPLogitsWarper(0.8)),
        ("typical[0.8]", TypicalLogitsWarper(0.8)),
        ("epsilon[0.01]", EpsilonLogitsWarper(0.01)),
        ("eta[0.01]", EtaLogitsWarper(0.01)),
        ("min_p[0.1]", MinPLogitsWarper(0.1)),
    ],
)
def test_rules_that_transformers_has_keep_the_same_tokens(name: str, processor: object) -> None:
    (strategy,) = parse_strategies(name)
    rows = log_probs(50).float()
    expected = processor(torch.zeros((50, 1), dtype=torch.long), rows).isfinite()  # type: ignore[operator]
    assert torch.equal(truncate(strategy, rows)[1], expected)


@pytest.mark.parametrize("family", ["top_p", "typical", "top_h"])
@given(seed=st.integers(0, 10_000), spread=st.floats(0.01, 6), value=st.floats(0.01, 0.999))
def test_partial_and_full_sorts_keep_the_same_tokens(family: str, seed: int, spread: float, value: float) -> None:
    rows = log_probs(3, seed=seed, spread=spread, vocabulary=1500).float()
    setting = torch.full((3, 1), value, dtype=torch.float64)
    found = keep_mask(family, rows, setting)
    size, truncation._PARTIAL_SORT = truncation._PARTIAL_SORT, 1500
    try:
        assert torch.equal(found, keep_mask(family, rows, setting))
    finally:
        truncation._PARTIAL_SORT = size


def test_only_rows_that_need_it_are_sorted_completely(monkeypatch: pytest.MonkeyPatch) -> None:
    sorted_rows = []
    sort = torch.Tensor.sort

    def counted(self: torch.Tensor, **other: int) -> object:
        sorted_rows.append(len(self))
        return sort(self, **other)

    monkeypatch.setattr(torch.Tensor, "sort", counted)
    peaked, flat = log_probs(5, spread=4.0, vocabulary=5000), log_probs(2, spread=0.1, vocabulary=5000)
    keep_mask("top_p", torch.cat([peaked, flat]), torch.full((7, 1), 0.9, dtype=torch.float64))
    assert sorted_rows == [2]


def test_temperature_is_applied_before_truncation() -> None:
    (strategy,) = parse_strategies("top_p[0.7,temperature=0.5]")
    rows = log_probs(5)
    colder = (rows / 0.5).log_softmax(dim=-1)
    own, mask = truncate(strategy, rows)
    assert torch.equal(own, colder)
    assert torch.allclose(own.exp().sum(dim=-1), torch.ones(5).double())
    assert torch.equal(mask, truncate(parse_strategies("top_p[0.7]")[0], colder)[1])
    assert not torch.equal(mask, truncate(parse_strategies("top_p[0.7]")[0], rows)[1])


def test_top_h_on_a_uniform_distribution_keeps_the_vocabulary_to_the_power_of_alpha() -> None:
    uniform = torch.zeros((1, 100)).double() + torch.linspace(0, 1e-9, 100).double()  # no ties
    assert truncate(STRATEGIES["top_h"], uniform.log_softmax(dim=-1))[1].sum() == 6  # 100 ** 0.4 = 6.3


@pytest.mark.parametrize("family", list(TRUNCATIONS))
def test_at_least_one_token_is_kept_for_any_distribution(family: str) -> None:
    certain = torch.full((1, 6), -torch.inf)
    certain[0, 2] = 0
    uniform = torch.zeros((1, 6)).log_softmax(dim=-1)
    rows = torch.cat([certain, uniform])
    for value in VALUES[family]:
        mask = keep_mask(family, rows, torch.full((2, 1), value, dtype=torch.float64))
        assert mask[0, 2]
        assert mask.any(dim=-1).all()


@pytest.mark.parametrize(("family", "value"), [("epsilon", 0.9), ("eta", 0.9), ("p_less", 1.0), ("top_n_sigma", 0.0)])
def test_tied_best_tokens_are_all_kept(family: str, value: float) -> None:
    rows = torch.tensor([[0.3, 0.1, 0.3, 0.3], [0.4, 0.1, 0.1, 0.4]]).log()
    mask = keep_mask(family, rows, torch.full((2, 1), value, dtype=torch.float64))
    assert mask.tolist() == [[True, False, True, True], [True, False, False, True]]
