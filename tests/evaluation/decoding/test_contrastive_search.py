"""Contrastive search against the definition, computed without cache and batch."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from textgen.evaluation.decoding.prefix_cache import prefill
from textgen.evaluation.decoding.search import contrastive_search as contrastive_module

VOCABULARY = 97


def gpt2() -> PreTrainedModel:
    sizes = {"vocab_size": VOCABULARY, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**sizes, tie_word_embeddings=False))


def llama() -> PreTrainedModel:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2))


def mistral() -> PreTrainedModel:
    """With a window so short that the cache drops tokens on the way."""
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    return MistralForCausalLM(MistralConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, sliding_window=6))


def gpt2_with_adapters() -> PreTrainedModel:
    config = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)
    return get_peft_model(gpt2(), config)


def prompts(rows: int, length: int = 7) -> torch.Tensor:
    return torch.randint(VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(1))


def contrastive_search(model: PreTrainedModel, prompts: torch.Tensor, **settings: object) -> torch.Tensor:
    with torch.no_grad():
        prefix = prefill(model, prompts, new_tokens=10, states=True)
    return contrastive_module.contrastive_search(prefix, **settings)


def brute_force(
    model: PreTrainedModel, prompt: list[int], top_k: int, alpha: float, new: int, eos: int | None
) -> list[int]:
    ids = list(prompt)
    for _ in range(new):
        probabilities = model(torch.tensor([ids]), use_cache=False).logits[0, -1].softmax(dim=-1)
        best, best_score = -1, float("-inf")
        for candidate in probabilities.topk(top_k).indices.tolist():
            output = model(torch.tensor([[*ids, candidate]]), use_cache=False, output_hidden_states=True)
            states = output.hidden_states[-1][0]
            likeness = torch.cosine_similarity(states[-1:], states[:-1], dim=-1).max()
            score = float((1 - alpha) * probabilities[candidate] - alpha * likeness)
            if score > best_score:
                best, best_score = candidate, score
        ids.append(best)
        if best == eos:
            break
    return ids[len(prompt) :]


@pytest.fixture(params=[gpt2, llama, mistral, gpt2_with_adapters], ids=lambda build: build.__name__)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(0)
    model = request.param().eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(20)  # or all tokens are as good as equally probable
    return model


@pytest.mark.parametrize(("top_k", "alpha"), [(4, 0.6), (3, 0.1), (1, 0.6), (5, 1.0)])
@torch.no_grad()
def test_it_is_the_search_by_definition(model: PreTrainedModel, top_k: int, alpha: float) -> None:
    given = prompts(3)
    found = contrastive_search(model, given, top_k=top_k, penalty_alpha=alpha, max_new_tokens=10, eos_token_id=None)
    assert found.tolist() == [brute_force(model, prompt, top_k, alpha, 10, None) for prompt in given.tolist()]


@torch.no_grad()
def test_without_a_penalty_it_is_greedy_and_with_one_it_is_not(model: PreTrainedModel) -> None:
    given = prompts(3)
    settings = {"max_new_tokens": 8, "eos_token_id": None}
    ids = given
    for _ in range(8):
        ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    plain = contrastive_search(model, given, top_k=4, penalty_alpha=0.0, **settings)
    assert torch.equal(plain, ids[:, 7:])
    assert not torch.equal(plain, contrastive_search(model, given, top_k=4, penalty_alpha=0.6, **settings))


@torch.no_grad()
def test_each_row_ends_for_itself_and_all_together_end_the_search(model: PreTrainedModel) -> None:
    given = prompts(3)
    settings = {"top_k": 4, "penalty_alpha": 0.6, "max_new_tokens": 10}
    whole = contrastive_search(model, given, **settings, eos_token_id=None)
    eos = int(whole[1, 3])
    stopped = contrastive_search(model, given, **settings, eos_token_id=eos)
    expected = [brute_force(model, prompt, 4, 0.6, 10, eos) for prompt in given.tolist()]
    longest = max(len(row) for row in expected)
    assert stopped.tolist() == [row + [eos] * (longest - len(row)) for row in expected]
    alone = contrastive_search(model, given[1:2], **settings, eos_token_id=eos)
    assert alone.shape[1] == len(expected[1]) <= 4


def test_more_candidates_than_tokens_are_all_of_them() -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=3, n_positions=16, n_embd=8, n_layer=1, n_head=1)).eval()
    found = contrastive_search(
        model, torch.tensor([[0, 1]]), top_k=9, penalty_alpha=0.6, max_new_tokens=4, eos_token_id=None
    )
    assert found.shape == (1, 4)
    assert int(found.max()) < 3
