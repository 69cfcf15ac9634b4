"""Hidden states in every layout: narrow heads are read through the projection, and parallel streams are refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from families import tiny_model

from textgen.errors import UserError
from textgen.evaluation.decoding.prefix.hidden_states import candidate_layers, check_hidden_states, early_logits
from textgen.evaluation.decoding.strategy_parser import parse_strategies

BOTH = parse_strategies("greedy,contrastive,dola")


def test_candidates_are_every_other_layer_of_the_second_half() -> None:
    layers = [torch.tensor([float(layer)]) for layer in range(9)]  # the embedding, and eight layers
    assert torch.cat(list(candidate_layers(layers))).tolist() == [4, 6]


@torch.no_grad()
@pytest.mark.parametrize("adapted", [False, True])
def test_a_projected_head_reads_early_layers_through_the_projection(adapted: bool) -> None:
    model: Any = tiny_model("opt")  # layers of width 32, a head of width 16
    states = torch.randn(3, 32)
    expected = model.lm_head(model.model.decoder.project_out(states))
    if adapted:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(target_modules="all-linear"))
    assert torch.allclose(early_logits(model, states), expected)
    check_hidden_states(model, BOTH)


@torch.no_grad()
def test_an_ordinary_head_reads_them_directly(tiny_gpt2: Callable[..., Any]) -> None:
    model, states = tiny_gpt2().eval(), torch.randn(3, 32)
    assert torch.equal(early_logits(model, states), model.lm_head(states))
    check_hidden_states(model, BOTH)


GEMMA3N = {"num_kv_shared_layers": 0, "layer_types": ["sliding_attention", "full_attention"], "laurel_rank": 4}
GEMMA3N |= {"altup_num_inputs": 2, "activation_sparsity_pattern": [0.0, 0.0], "hidden_size_per_layer_input": 8}
GEMMA3N |= {"vocab_size_per_layer_input": 60, "intermediate_size": [48, 48]}


def test_several_streams_of_hidden_states_are_refused() -> None:
    model = tiny_model("gemma3n_text", **GEMMA3N)
    check_hidden_states(model, parse_strategies("greedy,beam,top_p"))
    with pytest.raises(UserError, match=r"--strategies contrastive,dola: needs one hidden state .* Gemma3nForCausalLM"):
        check_hidden_states(model, BOTH)


def test_a_model_without_an_output_head_module_has_no_dola(tiny_gpt2: Callable[..., Any], monkeypatch: Any) -> None:
    model = tiny_gpt2().eval()
    monkeypatch.setattr(model, "get_output_embeddings", lambda: None)
    with pytest.raises(UserError, match="--strategies dola: "):
        check_hidden_states(model, BOTH)
