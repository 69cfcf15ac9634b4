"""Contrastive search against its definition, computed without cache and batch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from textgen.evaluation.decoding.prefix.prefix_cache import prefill
from textgen.evaluation.decoding.search.contrastive_search import contrastive_search

VOCABULARY = 97


@pytest.fixture(params=["gpt2", "llama", "mistral", "gpt2 with adapters"])
def model(request: pytest.FixtureRequest, sharpen: Callable[..., Any]) -> Any:
    name, _, adapters = request.param.partition(" ")
    model = request.getfixturevalue(f"tiny_{name}")(0, vocab_size=VOCABULARY, tie_word_embeddings=False)
    if adapters:
        config = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)
        model = get_peft_model(model, config)
    return sharpen(model)


def prompts(rows: int, length: int = 7) -> torch.Tensor:
    return torch.randint(VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def search(model: Any, prompts: torch.Tensor, **settings: Any) -> torch.Tensor:
    return contrastive_search(prefill(model, prompts, new_tokens=10, token_states=True), **settings)


def brute_force(model: Any, prompt: list[int], top_k: int, alpha: float, new: int, eos: int | None) -> list[int]:
    ids = list(prompt)
    for _ in range(new):
        probabilities = model(torch.tensor([ids]), use_cache=False).logits[0, -1].softmax(dim=-1)
        best, best_score = -1, float("-inf")
        for candidate in probabilities.topk(top_k).indices.tolist():
            output = model(torch.tensor([[*ids, candidate]]), use_cache=False, output_hidden_states=True)
            states = output.hidden_states[-1][0]
            similarity = torch.cosine_similarity(states[-1:], states[:-1], dim=-1).max()
            score = float((1 - alpha) * probabilities[candidate] - alpha * similarity)
            if score > best_score:
                best, best_score = candidate, score
        ids.append(best)
        if best == eos:
            break
    return ids[len(prompt) :]


@pytest.mark.parametrize(("top_k", "alpha"), [(4, 0.6), (3, 0.1), (1, 0.6), (5, 1.0)])
@torch.no_grad()
def test_tokens_are_those_of_the_definition(model: Any, top_k: int, alpha: float) -> None:
    given = prompts(3)
    found = search(model, given, top_k=top_k, penalty_alpha=alpha, max_new_tokens=10, eos_token_id=None)
    assert found.tolist() == [brute_force(model, prompt, top_k, alpha, 10, None) for prompt in given.tolist()]


@torch.no_grad()
def test_without_a_penalty_it_is_greedy_and_with_one_it_is_not(model: Any) -> None:
    given = prompts(3)
    settings = {"max_new_tokens": 8, "eos_token_id": None}
    ids = given
    for _ in range(8):
        ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    plain = search(model, given, top_k=4, penalty_alpha=0.0, **settings)
    assert torch.equal(plain, ids[:, 7:])
    assert not torch.equal(plain, search(model, given, top_k=4, penalty_alpha=0.6, **settings))


@torch.no_grad()
def test_rows_end_separately_and_the_search_ends_with_the_last(model: Any) -> None:
    given = prompts(3)
    settings = {"top_k": 4, "penalty_alpha": 0.6, "max_new_tokens": 10}
    whole = search(model, given, **settings, eos_token_id=None)
    eos = int(whole[1, 3])
    stopped = search(model, given, **settings, eos_token_id=eos)
    expected = [brute_force(model, prompt, 4, 0.6, 10, eos) for prompt in given.tolist()]
    longest = max(len(row) for row in expected)
    assert stopped.tolist() == [row + [eos] * (longest - len(row)) for row in expected]
    alone = search(model, given[1:2], **settings, eos_token_id=eos)
    assert alone.shape[1] == len(expected[1]) <= 4


def test_top_k_may_exceed_the_vocabulary(tiny_gpt2: Callable[..., Any]) -> None:
    model = tiny_gpt2(vocab_size=3).eval()
    found = search(model, torch.tensor([[0, 1]]), top_k=9, penalty_alpha=0.6, max_new_tokens=4, eos_token_id=None)
    assert found.shape == (1, 4)
    assert int(found.max()) < 3
