"""Contrastive decoding and DoLa against their definitions, computed without cache and batch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from textgen.evaluation.decoding.contrasted_logits import jensen_shannon
from textgen.evaluation.decoding.dispatch import decode
from textgen.evaluation.decoding.gumbel import NoiseKey
from textgen.evaluation.decoding.strategy_parser import parse_strategies

NEW = 10


@pytest.fixture(params=["gpt2", "llama"])
def models(
    request: pytest.FixtureRequest,
    tiny_gpt2: Callable[..., Any],
    tiny_llama: Callable[..., Any],
    sharpen: Callable[..., Any],
) -> list[Any]:
    """An expert of four layers, and an amateur."""
    if request.param == "llama":
        return [sharpen(tiny_llama(seed, num_hidden_layers=4)) for seed in (0, 1)]
    models = [sharpen(tiny_gpt2(seed, n_layer=4, tie_word_embeddings=False)) for seed in (0, 1)]
    with torch.no_grad():
        for model in models:  # the head is applied to earlier layers without normalization: make them large enough
            model.get_input_embeddings().weight.mul_(30)
    return models


def prompts() -> torch.Tensor:
    return torch.randint(1, 300, (3, 6), generator=torch.Generator().manual_seed(1))


def run(strategy: str, model: Any, amateur: Any = None, **other: Any) -> list[list[int]]:
    (parsed,) = parse_strategies(strategy, amateur=True)
    keys = [NoiseKey(0, str(row), 0) for row in range(3)]
    options = {"max_new_tokens": NEW, "eos_token_id": None} | other
    return decode(model, parsed, prompts(), keys, amateur=amateur, **options).tolist()


@torch.no_grad()
def brute_force_contrastive_decoding(
    expert: Any, amateur: Any, prompt: list[int], alpha: float, tau: float
) -> list[int]:
    ids = list(prompt)
    for _ in range(NEW):
        p = expert(torch.tensor([ids]), use_cache=False).logits[0, -1].double().softmax(dim=-1)
        q = (amateur(torch.tensor([ids]), use_cache=False).logits[0, -1].double() / tau).softmax(dim=-1)
        plausible = [token for token in range(len(p)) if p[token] >= alpha * p.max()]
        ids.append(max(plausible, key=lambda token: float(p[token].log() - q[token].log())))
    return ids[len(prompt) :]


@pytest.mark.parametrize(("alpha", "tau"), [(0.1, 0.5), (0.01, 1.0), (0.5, 0.5)])
def test_contrastive_decoding_follows_its_definition(models: list[Any], alpha: float, tau: float) -> None:
    found = run(f"contrastive_decoding[{alpha},amateur_temperature={tau}]", *models)
    assert found == [brute_force_contrastive_decoding(*models, prompt, alpha, tau) for prompt in prompts().tolist()]


def test_contrastive_decoding_is_greedy_if_only_the_best_token_is_plausible(models: list[Any]) -> None:
    assert run("contrastive_decoding[1]", *models) == run("greedy", models[0])
    assert run("contrastive_decoding", *models) != run("greedy", models[0])


@torch.no_grad()
def brute_force_dola(model: Any, prompt: list[int], alpha: float, penalty: float) -> list[int]:
    ids = list(prompt)
    layers = 4
    for _ in range(NEW):
        output = model(torch.tensor([ids]), use_cache=False, output_hidden_states=True)
        p = output.logits[0, -1].double().softmax(dim=-1)
        candidates = []
        for layer in range(layers // 2, layers, 2):
            q = model.get_output_embeddings()(output.hidden_states[layer][0, -1]).double().softmax(dim=-1)
            m = (p + q) / 2
            divergence = float((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2
            candidates.append((divergence, q))
        premature = max(candidates, key=lambda pair: pair[0])[1]
        scores = {}
        for token in range(len(p)):
            if p[token] >= alpha * p.max():
                score = float(p[token].log() - premature[token].log())
                scores[token] = score if token not in ids else score / penalty if score > 0 else score * penalty
        ids.append(max(scores, key=scores.__getitem__))
    return ids[len(prompt) :]


@pytest.mark.parametrize(("alpha", "penalty"), [(0.1, 1.2), (0.01, 1.0), (0.3, 2.0)])
def test_dola_follows_its_definition(models: list[Any], alpha: float, penalty: float) -> None:
    found = run(f"dola[{alpha},repetition_penalty={penalty}]", models[0])
    assert found == [brute_force_dola(models[0], prompt, alpha, penalty) for prompt in prompts().tolist()]
    assert found != run("greedy", models[0])


@pytest.mark.parametrize("name", ["contrastive_decoding", "dola"])
def test_rows_that_end_do_not_affect_others(models: list[Any], name: str) -> None:
    whole = run(name, *models)
    eos = whole[1][3]
    stopped = run(name, *models, eos_token_id=eos)
    for row, long in zip(stopped, whole, strict=True):
        end = long.index(eos) + 1 if eos in long else len(long)
        assert row[:end] == long[:end]


def test_jensen_shannon_is_symmetric_and_at_most_log_2() -> None:
    a, b = torch.randn((2, 4, 30), generator=torch.Generator().manual_seed(0)).mul(5).log_softmax(dim=-1)
    assert torch.allclose(jensen_shannon(a, b), jensen_shannon(b, a))
    assert torch.allclose(jensen_shannon(a, a), torch.zeros(4, 1), atol=1e-6)
    apart = torch.tensor([[0.0, -100.0]]), torch.tensor([[-100.0, 0.0]])
    assert float(jensen_shannon(*apart)) == pytest.approx(0.693147, abs=1e-5)
