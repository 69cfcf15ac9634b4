"""The forward pass of both kinds of prefix."""

import torch
from families import tiny_model

from textgen.evaluation.decoding.prefix.prefix import run_model, unit_states


@torch.no_grad()
def test_only_the_logits_that_are_needed_are_computed_where_the_model_can_do_that() -> None:
    ids = torch.randint(1, 60, (2, 7))
    llama, xlstm = tiny_model("llama"), tiny_model("xlstm")
    assert [run_model(llama, ids, keep=keep).logits.shape[1] for keep in (1, 3, None)] == [1, 3, 7]
    assert run_model(xlstm, ids).logits.shape[1] == 7
    assert run_model(llama, ids).past_key_values is None


@torch.no_grad()
def test_state_space_models_get_their_cache_under_their_own_name() -> None:
    from transformers import DynamicCache

    ids, model = torch.randint(1, 60, (2, 7)), tiny_model("mamba")
    cache = DynamicCache(config=model.config)
    run_model(model, ids[:, :6], cache=cache)
    step = run_model(model, ids[:, 6:], cache=cache).logits[:, -1]
    assert torch.allclose(step, run_model(model, ids).logits[:, -1], atol=1e-5)


@torch.no_grad()
def test_states_are_unit_vectors_of_the_last_layer() -> None:
    output = run_model(tiny_model("llama"), torch.randint(1, 60, (2, 7)), hidden=True)
    assert unit_states(output).norm(dim=-1).allclose(torch.ones(2, 7))
    assert len(output.hidden_states) == 3
