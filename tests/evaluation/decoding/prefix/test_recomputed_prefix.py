"""The recomputed prefix against the cached one of a model whose cache is right."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from textgen.evaluation.decoding.prefix import recomputed_prefix as module
from textgen.evaluation.decoding.prefix.prefix_cache import prefill
from textgen.evaluation.decoding.prefix.recomputed_prefix import RecomputedPrefix


@pytest.fixture(params=[None, 11])  # all rows in one forward pass, and one row at a time
def model(request: pytest.FixtureRequest, tiny_llama: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param:
        monkeypatch.setattr(module, "_MAX_TOKENS", request.param)
    return tiny_llama().eval()


def close(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    assert a is not None
    assert b is not None
    return a.shape == b.shape and torch.allclose(a, b, atol=1e-5)


@torch.no_grad()
def test_it_does_the_same_as_a_cache(model: Any) -> None:
    ids = torch.randint(1, 300, (3, 14), generator=torch.Generator().manual_seed(1))
    which = torch.tensor([2, 0, 2])
    states: dict[str, Any] = {"token_states": True, "layer_states": True}
    one, two = prefill(model, ids[:, :6], new_tokens=8, **states), RecomputedPrefix.read(model, ids[:, :6], **states)
    one, two = one.copy_rows(which, **states), two.copy_rows(which, **states)
    for position in (6, 7):
        assert close(one.append(ids[which, position]), two.append(ids[which, position]))
        assert close(one.token_states, two.token_states)
        for cached, recomputed in zip(one.layer_states, two.layer_states, strict=True):
            assert close(cached, recomputed)
    one, two = one.copy_rows(which), two.copy_rows(which)
    assert two.token_states is None
    assert two.layer_states == ()
    one.allow_rewinding()
    two.allow_rewinding()
    assert close(one.append_many(ids[:, 8:12]), two.append_many(ids[:, 8:12]))
    one.rewind(2)
    two.rewind(2)
    assert close(one.append_many(ids[:, 10:13]), two.append_many(ids[:, 10:13]))
    assert close(one.logits, two.logits)
    one.rewind(0)
    two.rewind(0)
    assert close(one.append(ids[:, 13]), two.append(ids[:, 13]))


@torch.no_grad()
def test_a_copy_is_independent(model: Any) -> None:
    ids = torch.randint(1, 300, (2, 9), generator=torch.Generator().manual_seed(1))
    prefix = RecomputedPrefix.read(model, ids[:, :6])
    prefix.copy_rows(torch.tensor([1, 0])).append_many(ids[:, 6:])
    assert close(prefix.append(ids[:, 6]), model(ids[:, :7]).logits[:, -1])
    assert prefix.bytes_per_row(100) == 800
