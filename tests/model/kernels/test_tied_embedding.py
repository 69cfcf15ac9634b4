"""The gradient of a tied weight, accumulated in one buffer, compared with the sum of two by autograd."""

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from textgen.data.token_stream import IGNORED
from textgen.model.kernels.tied_embedding import accumulate_tied_gradient
from textgen.model.loss import ModelWithLoss

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class DenseGradients(TorchDispatchMode):
    """Records the number of rows of every embedding for which a separate, dense gradient was computed."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.name() == "aten::embedding_dense_backward":
            self.rows.add(args[2])
        return function(*args, **(kwargs or {}))


def compared(make: Any, batches: list[tuple[torch.Tensor, torch.Tensor]], device: str = "cpu") -> bool:
    """Compare accumulated gradients with those of transformers' own loss; returns whether a separate, dense gradient of
    the tied weight was computed."""
    model, plain = make().to(device), make().to(device)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    scored = ModelWithLoss(model)
    with DenseGradients() as dense:
        for ids, labels in batches:
            scored(ids.to(device), labels.to(device)).backward()
    for ids, labels in batches:
        targets = int((labels[:, 1:] != IGNORED).sum())
        (plain(input_ids=ids.to(device), labels=labels.to(device)).loss * targets).backward()
    for (name, got), expected in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad, rtol=1e-5, atol=2e-5, msg=name)
    return len(model.get_input_embeddings().weight) in dense.rows


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tokens=st.lists(st.lists(st.integers(0, 6), min_size=8, max_size=8), min_size=1, max_size=3),
    family=st.sampled_from(["tiny_gpt2", "tiny_llama"]),
)
def test_repeated_tokens_and_several_backward_passes_get_autograds_gradient(request, tokens, family):
    batches = [(torch.tensor([row]), torch.tensor([row])) for row in tokens]
    make = request.getfixturevalue(family)
    assert not compared(lambda: make(tie_word_embeddings=True), batches)


@pytest.mark.gpu
@NEEDS_CUDA
def test_on_a_gpu_gradients_are_added_in_a_fixed_order(tiny_gpt2):
    ids = torch.arange(64).reshape(2, 32) % 7
    assert compared(tiny_gpt2, [(ids, ids)], "cuda")


def untied(make: Any) -> Any:
    return make(tie_word_embeddings=False)


def frozen(make: Any) -> Any:
    return make().requires_grad_(False)


def padded(make: Any) -> Any:
    model = make()
    model.get_input_embeddings().padding_idx = 0
    return model


@pytest.mark.parametrize("change", [untied, frozen, padded])
def test_other_embeddings_are_not_changed(tiny_gpt2, change):
    model = change(tiny_gpt2)
    with accumulate_tied_gradient(model, model.get_output_embeddings()) as deferred:
        assert deferred is None
        assert "forward" not in vars(model.get_input_embeddings())


def test_without_gradients_the_embedding_is_not_changed(tiny_gpt2):
    model = tiny_gpt2()
    with torch.no_grad(), accumulate_tied_gradient(model, model.get_output_embeddings()) as deferred:
        assert deferred is None


def test_a_deferred_gradient_that_nothing_uses_is_an_error(tiny_gpt2):
    model = tiny_gpt2()
    model.get_input_embeddings().register_forward_hook(lambda module, given, output: output.detach())
    ids = torch.arange(8)[None]
    with pytest.raises(AssertionError, match="took no part"):
        ModelWithLoss(model)(ids, ids).backward()
