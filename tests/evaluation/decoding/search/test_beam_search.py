"""Beam search against transformers'; with groups and with sampling, against the definition over whole texts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from textgen.evaluation.decoding.dispatch import decode
from textgen.evaluation.decoding.gumbel import NoiseKey, gumbel_noise
from textgen.evaluation.decoding.strategy_parser import parse_strategies

NEW, VOCABULARY = 8, 30


@pytest.fixture(params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest, sharpen: Callable[..., Any]) -> Any:
    build = request.getfixturevalue(f"tiny_{request.param}")
    return sharpen(build(2, vocab_size=VOCABULARY, tie_word_embeddings=False), by=12)


def prompts(rows: int = 4) -> torch.Tensor:
    return torch.randint(1, VOCABULARY, (rows, 5), generator=torch.Generator().manual_seed(1))


def key(row: int) -> NoiseKey:
    return NoiseKey(0, str(row), 0)


def run(model: Any, strategy: str, eos: int | None, rows: int = 4) -> list[list[int]]:
    (parsed,) = parse_strategies(strategy)
    keys = [key(row) for row in range(rows)]
    found = decode(model, parsed, prompts(rows), keys, max_new_tokens=NEW, eos_token_id=eos).tolist()
    return [row[: row.index(eos) + 1] if eos in row else row for row in found]


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("eos", [None, *range(VOCABULARY)])
def test_tokens_equal_those_of_transformers_beam_search(model: Any, eos: int | None, length_penalty: float) -> None:
    model.generation_config = GenerationConfig()
    config = GenerationConfig(
        num_beams=3, length_penalty=length_penalty, max_new_tokens=NEW, eos_token_id=eos, pad_token_id=eos or 0
    )
    ids = prompts()
    expected = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)[:, 5:].tolist()
    expected = [row[: row.index(eos) + 1] if eos in row else row for row in expected]
    assert run(model, f"beam[3,length_penalty={length_penalty}]", eos) == expected


@torch.no_grad()
def next_log_probs(model: Any, ids: list[int]) -> list[float]:
    return model(torch.tensor([ids]), use_cache=False).logits[0, -1].double().log_softmax(dim=-1).tolist()


def by_definition(
    model: Any, prompt: list[int], *, beams: int, groups: int, penalty: float, eos: int | None, key: NoiseKey | None
) -> list[int]:
    """The search in plain Python. Every text has two numbers: the score it is ranked by, and its log-probability."""
    size = beams // groups
    opened = [[((), 0.0, 0.0)] for _ in range(groups)]
    ended: list[list[tuple[tuple[int, ...], float, float]]] = [[] for _ in range(groups)]
    for position in range(NEW):
        taken = [0] * VOCABULARY
        draws = gumbel_noise(key, position, groups * size * VOCABULARY).tolist() if key else None
        for group in range(groups):
            full = len(ended[group]) == size
            if full and max(score for _, score, _ in opened[group]) <= min(score for _, score, _ in ended[group]):
                continue
            grown = []
            for number, (text, score, own) in enumerate(opened[group]):
                for token, value in enumerate(next_log_probs(model, prompt + list(text))):
                    place = group * size * VOCABULARY + number * VOCABULARY + token
                    total = score + value - penalty * taken[token]
                    noisy = total + draws[place] if draws else total
                    grown.append((noisy, (*text, token), total, own + value))
            grown = sorted(sorted(grown, key=lambda one: -one[0])[: 2 * size], key=lambda one: -one[2])
            for rank, (_, text, score, own) in enumerate(grown):
                if rank < size and (text[-1] == eos or position + 1 == NEW):
                    ended[group].append((text, score, own))
            ended[group] = sorted(ended[group], key=lambda one: -one[1])[:size]
            opened[group] = [one[1:] for one in grown if one[1][-1] != eos][:size]
            for text, _, _ in opened[group]:
                taken[text[-1]] += 1
    return list(max((one for group in ended for one in group), key=lambda one: one[2])[0])


@pytest.mark.parametrize("eos", [None, 3, 11, 20])
@pytest.mark.parametrize("penalty", [0.5, 3.0])
def test_diverse_beam_search_follows_its_definition(model: Any, penalty: float, eos: int | None) -> None:
    found = run(model, f"diverse_beam[{penalty},num_beams=4,num_beam_groups=2]", eos, rows=2)
    expected = [
        by_definition(model, prompt, beams=4, groups=2, penalty=penalty, eos=eos, key=None)
        for prompt in prompts(2).tolist()
    ]
    assert found == expected


@pytest.mark.parametrize("eos", [None, 3, 11, 20])
def test_beam_sampling_draws_without_replacement(model: Any, eos: int | None) -> None:
    found = run(model, "beam_sampling[3]", eos, rows=2)
    expected = [
        by_definition(model, prompt, beams=3, groups=1, penalty=0.0, eos=eos, key=key(row))
        for row, prompt in enumerate(prompts(2).tolist())
    ]
    assert found == expected
    assert found != run(model, "beam[3]", eos, rows=2)


def test_one_group_or_no_penalty_is_plain_beam_search(model: Any) -> None:
    assert run(model, "diverse_beam[3,num_beam_groups=1]", None) == run(model, "beam", None)
    assert run(model, "diverse_beam[0,num_beam_groups=2]", None) == run(model, "beam[2]", None)
