"""Token-wise strategies against their definition, computed a row and a token at a time without cache."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from textgen.evaluation.decoding.dispatch import decode
from textgen.evaluation.decoding.gumbel import NoiseKey, gumbel_noise
from textgen.evaluation.decoding.strategies import Strategy
from textgen.evaluation.decoding.strategy_parser import parse_strategies
from textgen.evaluation.decoding.truncation import is_truncation, truncate

NEW = 14


@pytest.fixture(params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest, tiny_gpt2: Callable[..., Any], tiny_llama: Callable[..., Any]) -> Any:
    small = {"vocab_size": 40}
    made = tiny_gpt2(3, **small, tie_word_embeddings=False) if request.param == "gpt2" else tiny_llama(3, **small)
    with torch.no_grad():
        made.get_output_embeddings().weight.mul_(20)  # or all tokens are as good as equally probable
    return made.eval()


def key(row: int) -> NoiseKey:
    return NoiseKey(0, f"document {row}", 0)


def prompts(rows: int) -> torch.Tensor:
    return torch.randint(1, 40, (rows, 7), generator=torch.Generator().manual_seed(1))


def one_by_one(model: Any, prompt: list[int], choose: Callable[[torch.Tensor, list[int], int], int]) -> list[int]:
    ids = list(prompt)
    for position in range(NEW):
        with torch.no_grad():
            logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        ids.append(choose(logits, ids, position))
    return ids[len(prompt) :]


def decoded(model: Any, strategy: Strategy, rows: int = 3) -> list[list[int]]:
    keys = [key(row) for row in range(rows)]
    return decode(model, strategy, prompts(rows), keys, max_new_tokens=NEW, eos_token_id=None).tolist()


def drawing(strategy: Strategy, row: int) -> Callable[[torch.Tensor, list[int], int], int]:
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
def test_a_truncating_strategy_draws_from_what_it_keeps(model: Any, strategy: Strategy) -> None:
    assert is_truncation(strategy)
    expected = [one_by_one(model, prompt, drawing(strategy, row)) for row, prompt in enumerate(prompts(3).tolist())]
    assert decoded(model, strategy) == expected


def mirostat(tau: float, eta: float, row: int) -> Callable[[torch.Tensor, list[int], int], int]:
    state = {"mu": 2 * tau}

    def choose(logits: torch.Tensor, ids: list[int], position: int) -> int:
        p = logits.softmax(dim=-1).tolist()
        order = sorted(range(40), key=lambda token: -p[token])
        kept = [token for token in order if -math.log2(p[token]) <= state["mu"]] or order[:1]
        noise = gumbel_noise(key(row), position, 40).tolist()
        chosen = max(kept, key=lambda token: math.log(p[token]) + noise[token])
        surprise = -math.log2(p[chosen] / sum(p[token] for token in kept))
        state["mu"] -= eta * (surprise - tau)
        return chosen

    return choose


@pytest.mark.parametrize(("tau", "eta"), [(1.0, 0.1), (2.5, 0.7), (0.3, 1.0)])
def test_mirostat_steers_by_the_surprise_of_what_it_drew(model: Any, tau: float, eta: float) -> None:
    (strategy,) = parse_strategies(f"mirostat[{tau},eta={eta}]")
    expected = [one_by_one(model, prompt, mirostat(tau, eta, row)) for row, prompt in enumerate(prompts(3).tolist())]
    assert decoded(model, strategy) == expected


def without_repeats(n: int) -> Callable[[torch.Tensor, list[int], int], int]:
    def choose(logits: torch.Tensor, ids: list[int], position: int) -> int:
        runs = {tuple(ids[start : start + n]) for start in range(len(ids) - n + 1)}
        allowed = [token for token in range(40) if (*ids[len(ids) - n + 1 :], token) not in runs]
        return max(allowed, key=lambda token: float(logits[token]))

    return choose


@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_run_of_n_tokens_comes_twice(model: Any, n: int) -> None:
    (strategy,) = parse_strategies(f"no_repeat_ngram[{n}]")
    assert decoded(model, strategy) == [one_by_one(model, p, without_repeats(n)) for p in prompts(3).tolist()]
    for prompt, row in zip(prompts(3).tolist(), decoded(model, strategy), strict=True):
        ids = prompt + row
        made = [tuple(ids[start : start + n]) for start in range(len(ids) - n + 1) if start + n > len(prompt)]
        assert len(set(made)) == len(made)


def test_variants_of_one_strategy_in_a_batch_keep_their_own_settings(model: Any) -> None:
    from textgen.evaluation.decoding.dispatch import Request, decode_batch

    strategies = parse_strategies("top_p[0.3,0.9],top_p[0.9,temperature=2],no_repeat_ngram[1,2],mirostat[1,2]")
    rows = [Request(prompt, strategy, key(prompt)) for prompt in range(3) for strategy in strategies]
    together = decode_batch(model, prompts(3), rows, max_new_tokens=NEW, eos_token_id=None)
    for strategy in strategies:
        mine = [found.tokens for row, found in zip(rows, together, strict=True) if row.strategy is strategy]
        assert mine == decoded(model, strategy)
