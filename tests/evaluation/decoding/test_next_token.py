"""Strategies that choose token by token, against their definitions: one row and token at a time, without a cache."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from textgen.evaluation.decoding.dispatch import decode, decode_batch
from textgen.evaluation.decoding.gumbel import NoiseKey, gumbel_noise
from textgen.evaluation.decoding.strategies import Strategy
from textgen.evaluation.decoding.strategy_parser import parse_strategies
from textgen.evaluation.decoding.token_loop import Request
from textgen.evaluation.decoding.truncation import is_truncation, truncate

NEW = 14


@pytest.fixture(params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest, sharpen: Callable[..., Any]) -> Any:
    build = request.getfixturevalue(f"tiny_{request.param}")
    return sharpen(build(3, vocab_size=40, tie_word_embeddings=False))


def key(row: int) -> NoiseKey:
    return NoiseKey(0, f"document {row}", 0)


def prompts(rows: int) -> torch.Tensor:
    return torch.randint(1, 40, (rows, 7), generator=torch.Generator().manual_seed(1))


def token_by_token(model: Any, prompt: list[int], choose: Callable[[torch.Tensor, list[int], int], int]) -> list[int]:
    ids = list(prompt)
    for position in range(NEW):
        with torch.no_grad():
            logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        ids.append(choose(logits, ids, position))
    return ids[len(prompt) :]


def decoded(model: Any, strategy: Strategy, rows: int = 3) -> list[list[int]]:
    keys = [key(row) for row in range(rows)]
    return decode(model, strategy, prompts(rows), keys, max_new_tokens=NEW, eos_token_id=None).tolist()


def sampler(strategy: Strategy, row: int) -> Callable[[torch.Tensor, list[int], int], int]:
    def choose(logits: torch.Tensor, ids: list[int], position: int) -> int:
        own, mask = truncate(strategy, logits[None].log_softmax(dim=-1))
        scores = own[0].masked_fill(~mask[0], -torch.inf).log_softmax(dim=-1)
        return int((scores + gumbel_noise(key(row), position, 40)).argmax())

    return choose


SWEEP = (
    "temperature[0.5,1.5],top_k[2,9],top_p[0.4,0.9],typical[0.4,0.9],epsilon[0.05],eta[0.05],min_p[0.2],"
    "top_n_sigma[1],top_h[0.4],p_less,top_p[0.7,temperature=2]"
)


@pytest.mark.parametrize("strategy", parse_strategies(SWEEP), ids=lambda strategy: strategy.name)
def test_truncating_strategies_sample_from_the_tokens_they_keep(model: Any, strategy: Strategy) -> None:
    assert is_truncation(strategy)
    expected = [token_by_token(model, prompt, sampler(strategy, row)) for row, prompt in enumerate(prompts(3).tolist())]
    assert decoded(model, strategy) == expected


def mirostat(tau: float, eta: float, row: int) -> Callable[[torch.Tensor, list[int], int], int]:
    state = {"mu": 2 * tau}

    def choose(logits: torch.Tensor, ids: list[int], position: int) -> int:
        p = logits.softmax(dim=-1).tolist()
        order = sorted(range(40), key=lambda token: -p[token])
        kept = [token for token in order if -math.log2(p[token]) <= state["mu"]] or order[:1]
        noise = gumbel_noise(key(row), position, 40).tolist()
        chosen = max(kept, key=lambda token: math.log(p[token]) + noise[token])
        surprisal = -math.log2(p[chosen] / sum(p[token] for token in kept))
        state["mu"] -= eta * (surprisal - tau)
        return chosen

    return choose


@pytest.mark.parametrize(("tau", "eta"), [(1.0, 0.1), (2.5, 0.7), (0.3, 1.0)])
def test_mirostat_follows_its_definition(model: Any, tau: float, eta: float) -> None:
    (strategy,) = parse_strategies(f"mirostat[{tau},eta={eta}]")
    expected = [
        token_by_token(model, prompt, mirostat(tau, eta, row)) for row, prompt in enumerate(prompts(3).tolist())
    ]
    assert decoded(model, strategy) == expected


def without_repeated_ngrams(n: int) -> Callable[[torch.Tensor, list[int], int], int]:
    def choose(logits: torch.Tensor, ids: list[int], position: int) -> int:
        seen = {tuple(ids[start : start + n]) for start in range(len(ids) - n + 1)}
        allowed = [token for token in range(40) if (*ids[len(ids) - n + 1 :], token) not in seen]
        return max(allowed, key=lambda token: float(logits[token]))

    return choose


@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_ngram_is_repeated(model: Any, n: int) -> None:
    (strategy,) = parse_strategies(f"no_repeat_ngram[{n}]")
    assert decoded(model, strategy) == [
        token_by_token(model, p, without_repeated_ngrams(n)) for p in prompts(3).tolist()
    ]
    for prompt, row in zip(prompts(3).tolist(), decoded(model, strategy), strict=True):
        ids = prompt + row
        new = [tuple(ids[start : start + n]) for start in range(len(ids) - n + 1) if start + n > len(prompt)]
        assert len(set(new)) == len(new)


def test_variants_of_one_strategy_in_a_batch_keep_their_own_settings(model: Any) -> None:
    strategies = parse_strategies("top_p[0.3,0.9],top_p[0.9,temperature=2],no_repeat_ngram[1,2],mirostat[1,2]")
    requests = [Request(prompt, strategy, key(prompt)) for prompt in range(3) for strategy in strategies]
    together = decode_batch(model, prompts(3), requests, max_new_tokens=NEW, eos_token_id=None)
    for strategy in strategies:
        own = [row.tokens for request, row in zip(requests, together, strict=True) if request.strategy is strategy]
        assert own == decoded(model, strategy)
