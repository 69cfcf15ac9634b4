"""The prefix cache against forward passes over the whole text."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from textgen.evaluation.decoding.prefix.prefix_cache import prefill


@pytest.fixture(params=["gpt2", "llama", "mistral"])
def model(request: pytest.FixtureRequest) -> Any:
    build: Callable[..., Any] = request.getfixturevalue(f"tiny_{request.param}")
    return build().eval()


def tokens(rows: int, length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(1, 300, (rows, length), generator=torch.Generator().manual_seed(seed))


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("new_tokens", [0, 3, 20])  # also fewer than are appended
@torch.no_grad()
def test_logits_and_states_are_those_of_the_whole_text(model: Any, new_tokens: int) -> None:
    ids = tokens(3, 12)
    prefix = prefill(model, ids[:, :5], new_tokens=new_tokens, token_states=True, layer_states=True)
    for length in range(5, 12):
        output = model(ids[:, :length], use_cache=False, output_hidden_states=True)
        assert close(prefix.logits, output.logits[:, -1])
        assert prefix.token_states is not None
        assert close(prefix.token_states, torch.nn.functional.normalize(output.hidden_states[-1], dim=-1))
        for found, expected in zip(prefix.layer_states, output.hidden_states, strict=True):
            assert close(found, expected[:, -1])
        prefix.append(ids[:, length])


@torch.no_grad()
def test_several_tokens_are_appended_and_removed_again(model: Any) -> None:
    ids, other = tokens(2, 12), tokens(2, 3, seed=2)
    prefix = prefill(model, ids[:, :5], new_tokens=20)
    prefix.allow_rewinding()
    whole = model(ids, use_cache=False).logits
    assert close(prefix.append_many(ids[:, 5:8]), whole[:, 5:8])
    prefix.append_many(other)
    prefix.rewind(3)
    assert close(prefix.append_many(ids[:, 8:]), whole[:, 8:])
    assert close(prefix.logits, whole[:, -1])


@torch.no_grad()
def test_a_copy_of_rows_is_independent_and_has_hidden_states_only_on_request(model: Any) -> None:
    ids = tokens(3, 8)
    prefix = prefill(model, ids[:, :5], new_tokens=3, token_states=True, layer_states=True)
    which = torch.tensor([2, 0, 2])
    copied = prefix.copy_rows(which)
    assert copied.token_states is None
    assert copied.layer_states == ()
    with_states = prefix.copy_rows(which, token_states=True, layer_states=True)
    for position in range(5, 8):
        copied.append(ids[which, position])
        with_states.append(ids[which, position])
    assert close(copied.logits, model(ids[which], use_cache=False).logits[:, -1])
    assert with_states.token_states is not None
    assert with_states.token_states.shape[1] == 8
    assert prefix.token_states is not None
    assert prefix.token_states.shape[1] == 5
    assert close(prefix.append(ids[:, 5]), model(ids[:, :6], use_cache=False).logits[:, -1])
