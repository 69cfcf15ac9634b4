"""The gradient of a tied weight in one piece, against the sum that autograd makes of two."""

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from textgen.data.blocks import IGNORED
from textgen.model.kernels.tied_embedding import gradient_in_one_piece
from textgen.model.loss import ScoredModel

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class DenseGradients(TorchDispatchMode):
    """Notes of which embeddings, by how many rows they have, a gradient was made that is zero almost everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.name() == "aten::embedding_dense_backward":
            self.rows.add(args[2])
        return function(*args, **(kwargs or {}))


def compared(make: Any, batches: list[tuple[torch.Tensor, torch.Tensor]], device: str = "cpu") -> bool:
    """Hold the gradients of some backward passes, one after the other, against those of transformers' own loss; returns
    whether a dense gradient of the tied weight was made by itself."""
    model, plain = make().to(device), make().to(device)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    scored = ScoredModel(model)
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
def test_tokens_that_come_again_and_passes_that_add_up_get_what_autograd_gives_them(request, tokens, family):
    batches = [(torch.tensor([row]), torch.tensor([row])) for row in tokens]
    make = request.getfixturevalue(family)
    assert not compared(lambda: make(tie_word_embeddings=True), batches)


@pytest.mark.gpu
@NEEDS_CUDA
def test_on_a_gpu_it_is_added_up_in_one_order(tiny_gpt2):
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


@pytest.mark.parametrize("made", [untied, frozen, padded])
def test_other_embeddings_are_left_alone(tiny_gpt2, made):
    model = made(tiny_gpt2)
    with gradient_in_one_piece(model, model.get_output_embeddings()) as aside:
        assert aside is None
        assert "forward" not in vars(model.get_input_embeddings())


def test_where_nothing_learns_the_embedding_is_left_alone(tiny_gpt2):
    model = tiny_gpt2()
    with torch.no_grad(), gradient_in_one_piece(model, model.get_output_embeddings()) as aside:
        assert aside is None


def test_a_share_that_nobody_takes_up_is_not_lost_in_silence(tiny_gpt2):
    model = tiny_gpt2()
    model.get_input_embeddings().register_forward_hook(lambda module, given, output: output.detach())
    ids = torch.arange(8)[None]
    with pytest.raises(AssertionError, match="took no part"):
        ScoredModel(model)(ids, ids).backward()
