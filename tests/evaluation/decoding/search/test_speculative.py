"""Drafts change the number of forward passes, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from textgen.evaluation.decoding.dispatch import decode
from textgen.evaluation.decoding.gumbel import NoiseKey
from textgen.evaluation.decoding.prefix.cache_support import cache_rewinds
from textgen.evaluation.decoding.search.speculative import prompt_lookup
from textgen.evaluation.decoding.strategy_parser import parse_strategies

NEW = 20


@pytest.fixture(params=["gpt2", "llama", "mistral"])
def model(request: pytest.FixtureRequest, sharpen: Callable[..., Any]) -> Any:
    build = request.getfixturevalue(f"tiny_{request.param}")
    return sharpen(build(0, vocab_size=60, tie_word_embeddings=False))


@pytest.fixture
def amateur(tiny_gpt2: Callable[..., Any], sharpen: Callable[..., Any]) -> Any:
    return sharpen(tiny_gpt2(5, vocab_size=60, tie_word_embeddings=False))


def prompts(rows: int = 4) -> torch.Tensor:
    return torch.randint(1, 60, (rows, 5), generator=torch.Generator().manual_seed(1))


def run(strategy: str, model: Any, amateur: Any = None, eos: int | None = None) -> list[list[int]]:
    (parsed,) = parse_strategies(strategy, amateur=True)
    keys = [NoiseKey(0, str(row), 0) for row in range(4)]
    found = decode(model, parsed, prompts(), keys, max_new_tokens=NEW, eos_token_id=eos, amateur=amateur).tolist()
    return [row[: row.index(eos) + 1] if eos in row else row for row in found]


@pytest.mark.parametrize("draft_tokens", [1, 4, 30])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_speculative_sampling_draws_the_tokens_of_its_target(
    model: Any, amateur: Any, temperature: float, draft_tokens: int
) -> None:
    expected = run(f"temperature[{temperature}]", model)
    for draft in (amateur, model):  # one is mostly wrong, the other always right
        assert run(f"speculative[{draft_tokens},temperature={temperature}]", model, draft) == expected


@pytest.mark.parametrize("settings", ["1", "10", "3,max_ngram=1", "30"])
def test_prompt_lookup_gives_the_greedy_tokens(model: Any, settings: str) -> None:
    assert run(f"prompt_lookup[{settings}]", model) == run("greedy", model)


@pytest.mark.parametrize("place", [0, 3, 9])
def test_continuations_end_where_those_of_the_target_end(model: Any, amateur: Any, place: int) -> None:
    eos = run("greedy", model)[0][place]
    assert run("prompt_lookup", model, eos=eos) == run("greedy", model, eos=eos)
    eos = run("temperature", model)[0][place]
    for draft in (amateur, model):
        assert run("speculative", model, draft, eos=eos) == run("temperature", model, eos=eos)


def test_a_good_draft_saves_forward_passes(model: Any, amateur: Any) -> None:
    passes: list[int] = []
    assert cache_rewinds(model)  # measured now and not while passes are counted
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    run("speculative[4,temperature=0.8]", model, amateur)
    poor = len(passes)
    passes.clear()
    (parsed,) = parse_strategies("prompt_lookup[10]")
    loop = torch.tensor([[7, 8, 9, 7, 8, 9, 7, 8]])
    greedy = decode(model, parsed, loop, [NoiseKey(0, "a", 0)], max_new_tokens=NEW, eos_token_id=None)
    assert 4 < poor <= 1 + 4 * (NEW - 1)
    assert len(passes) <= NEW
    assert greedy.shape == (1, NEW)


def test_prompt_lookup_uses_the_longest_and_then_latest_match() -> None:
    assert prompt_lookup([1, 2, 3, 9, 2, 3, 5, 1, 2, 3], 3, max_ngram=3) == [9, 2, 3]
    assert prompt_lookup([1, 2, 3, 9, 2, 3, 5, 1, 2, 3], 2, max_ngram=2) == [5, 1]
    assert prompt_lookup([1, 2, 3, 4], 5, max_ngram=3) == []
    assert prompt_lookup([4, 4], 5, max_ngram=3) == [4]
    assert prompt_lookup([4], 5, max_ngram=3) == []
