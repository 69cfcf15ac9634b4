"""The summed token losses, compared with the definition and with transformers' own loss, and in chunks."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from textgen.data.token_stream import IGNORED
from textgen.model.loss import ModelWithLoss, fused_linear_cross_entropy, separable_head


def rows(seed: int, count: int, length: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(0, 300, (count, length), generator=torch.Generator().manual_seed(seed))
    return ids, ids.clone()


def test_the_loss_is_the_sum_of_the_next_tokens_negative_log_probabilities(tiny_gpt2):
    model = tiny_gpt2()
    ids, labels = rows(0, 3)
    labels[1, 4:] = IGNORED
    expected = 0.0
    with torch.no_grad():
        log_probabilities = model(input_ids=ids).logits.double().log_softmax(-1)
        for row in range(3):
            for position in range(8):
                if labels[row, position + 1] != IGNORED:
                    expected -= float(log_probabilities[row, position, ids[row, position + 1]])
        assert torch.isclose(ModelWithLoss(model)(ids, labels).double(), torch.tensor(expected).double(), rtol=1e-6)


def test_the_loss_is_that_of_transformers_times_the_number_of_targets(tiny_llama):
    model = tiny_llama()
    ids, labels = rows(1, 4)
    labels[0, :3] = IGNORED
    targets = int((labels[:, 1:] != IGNORED).sum())
    with torch.no_grad():
        assert torch.isclose(ModelWithLoss(model)(ids, labels), model(input_ids=ids, labels=labels).loss * targets)


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_the_loss_of_a_batch_is_the_sum_of_the_losses_of_its_rows(tiny_gpt2, seed, lengths):
    model = tiny_gpt2()
    ids, labels = rows(seed, len(lengths))
    for row, length in enumerate(lengths):
        labels[row, length:] = IGNORED
    with torch.no_grad():
        together = ModelWithLoss(model)(ids, labels)
        one_by_one = sum(ModelWithLoss(model)(ids[i : i + 1], labels[i : i + 1]) for i in range(len(lengths)))
    assert torch.isclose(together, torch.as_tensor(one_by_one), rtol=1e-5)


def test_a_row_without_targets_has_zero_loss_and_zero_gradients(tiny_gpt2):
    model = tiny_gpt2()
    ids, labels = rows(2, 1)
    nll = ModelWithLoss(model)(ids, torch.full_like(labels, IGNORED))
    nll.backward()
    assert nll.item() == 0.0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_padding_on_the_right_changes_nothing(tiny_gpt2):
    model = tiny_gpt2()
    ids, labels = rows(3, 2)
    padded = torch.cat([ids, torch.zeros(2, 4, dtype=torch.int64)], 1)
    padded_labels = torch.cat([labels, torch.full((2, 4), IGNORED)], 1)
    with torch.no_grad():
        assert torch.isclose(ModelWithLoss(model)(ids, labels), ModelWithLoss(model)(padded, padded_labels), rtol=1e-6)


def plain_nll(hidden: torch.Tensor, weight: torch.Tensor, bias: Any, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(F.linear(hidden, weight, bias), targets, ignore_index=IGNORED, reduction="sum")


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1000),
    tokens=st.integers(1, 23),
    chunk=st.integers(1, 30),
    ignored=st.sampled_from([0.0, 0.4, 1.0]),
    with_bias=st.booleans(),
    frozen=st.booleans(),
    spread=st.sampled_from([0.1, 1.0, 4.0]),
)
def test_in_chunks_loss_and_gradients_are_those_of_plain_cross_entropy(
    seed, tokens, chunk, ignored, with_bias, frozen, spread
):
    generator = torch.Generator().manual_seed(seed)
    hidden, weight, bias = (torch.randn(*n, generator=generator) * spread for n in ((tokens, 5), (41, 5), (41,)))
    targets = torch.randint(0, 41, (tokens,), generator=generator)
    targets[torch.rand(tokens, generator=generator) < ignored] = IGNORED
    outcomes = []
    for loss in (plain_nll, lambda *given: fused_linear_cross_entropy(*given, max_rows=chunk)):
        leaves = [hidden.clone().requires_grad_(), weight.clone(), bias.clone() if with_bias else None]
        for leaf in leaves[1:]:
            if leaf is not None:
                leaf.requires_grad_(not frozen)
        nll = loss(*leaves, targets)
        (nll * 0.37).backward()
        outcomes.append((nll.detach(), [None if leaf is None else leaf.grad for leaf in leaves]))
    (expected, gradients), (chunked, chunked_gradients) = outcomes
    assert torch.isclose(chunked, expected, rtol=1e-5, atol=1e-5)
    for of_plain, of_chunked in zip(gradients, chunked_gradients, strict=True):
        assert (of_plain is None) == (of_chunked is None)
        if of_plain is not None:
            torch.testing.assert_close(of_chunked, of_plain, rtol=1e-5, atol=1e-5 * max(1.0, spread))


def test_the_loss_of_an_extremely_unlikely_token_is_exact():
    hidden = torch.tensor([[1000.0, 0.0]])
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert fused_linear_cross_entropy(hidden, weight, None, torch.tensor([1])).item() == 1000.0
    assert fused_linear_cross_entropy(hidden, weight, None, torch.tensor([0])).item() == 0.0


def test_no_gradient_is_computed_for_a_frozen_head():
    weight = torch.randn(41, 5)
    hidden = torch.randn(7, 5, requires_grad=True)
    nll = fused_linear_cross_entropy(hidden, weight, None, torch.arange(7))
    assert nll.grad_fn is not None
    assert nll.grad_fn.gradients[1] is None  # type: ignore[attr-defined]
    nll.backward()
    with pytest.raises(AssertionError, match="already taken"):
        nll.backward()


class Watch(torch.utils._python_dispatch.TorchDispatchMode):
    """Records the size in bytes of every tensor that is created, and the addresses of tensors by size."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: list[int] = []
        self.addresses: dict[int, set[int]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.bytes.append(result.numel() * result.itemsize)
            self.addresses.setdefault(self.bytes[-1], set()).add(result.data_ptr())
        return result


def test_the_logits_of_all_tokens_are_never_stored():
    """With 64 tokens and a vocabulary of 5,000, no tensor larger than 8 rows of logits is created."""
    hidden, weight = torch.randn(64, 4, requires_grad=True), torch.randn(5000, 4, requires_grad=True)
    with Watch() as watch:
        fused_linear_cross_entropy(hidden, weight, None, torch.arange(64), max_rows=8).backward()
    assert max(watch.bytes) == 4 * 8 * 5000
    with Watch() as watch:
        plain_nll(hidden, weight, None, torch.arange(64)).backward()
    assert max(watch.bytes) == 4 * 64 * 5000, "and the plain loss does create one, so this test can fail"


def test_in_bfloat16_the_heads_gradient_is_computed_in_parts():
    torch.manual_seed(0)
    hidden, weight = torch.randn(6, 8, requires_grad=True), torch.randn(20_000, 8, requires_grad=True)
    targets = torch.arange(0, 18_000, 3_000)
    with Watch() as watch, torch.autocast("cpu", torch.bfloat16):
        nll = fused_linear_cross_entropy(hidden, weight, None, targets, max_rows=3)
        nll.backward()
    whole = 4 * 20_000 * 8
    assert len(watch.addresses[whole]) == 2, "the weight and its gradient, and no copy of a chunk's contribution"
    assert weight.grad is not None
    found = weight.grad.clone()
    weight.grad = None
    plain_nll(hidden, weight, None, targets).backward()
    assert (found - weight.grad).norm() <= 0.01 * weight.grad.norm()


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_gradients_are_those_of_transformers_own_loss_with_tied_and_untied_heads(request, family, tied):
    ids, labels = rows(5, 3)
    labels[1, 5:] = IGNORED
    targets = int((labels[:, 1:] != IGNORED).sum())
    gradients = []
    for fused in (False, True):
        model = request.getfixturevalue(family)(tie_word_embeddings=tied)
        assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) is tied
        if fused:
            assert separable_head(model) is model.get_output_embeddings()
            ModelWithLoss(model)(ids, labels).backward()
        else:
            (model(input_ids=ids, labels=labels).loss * targets).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    expected, ours = gradients
    assert expected.keys() == ours.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-5, atol=1e-5, msg=name)


def test_in_bfloat16_the_loss_is_the_plain_one_to_its_precision(tiny_gpt2):
    ids, labels = rows(6, 4)
    gradients, losses = [], []
    for fused in (False, True):
        model = tiny_gpt2()
        with torch.autocast("cpu", torch.bfloat16):
            if fused:
                nll = ModelWithLoss(model)(ids, labels)
            else:
                nll = (
                    F.cross_entropy(model(input_ids=ids).logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())
                    * 32
                )
        nll.backward()
        losses.append(float(nll.detach()))
        gradients.append(model.transformer.wte.weight.grad)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert all(g.dtype == torch.float32 for g in gradients)
    assert torch.nn.functional.cosine_similarity(*(g.flatten() for g in gradients), dim=0) > 0.999


class Capped(torch.nn.Module):
    """A model that changes its logits after the output head, as some families do."""

    def __init__(self, cap: Any) -> None:
        super().__init__()
        self.embedding, self.head, self.cap = torch.nn.Embedding(300, 8), torch.nn.Linear(8, 300), cap

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.embedding

    def get_output_embeddings(self) -> torch.nn.Linear:
        return self.head

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(logits=self.cap(self.head(self.embedding(input_ids))))


@pytest.mark.parametrize(
    ("cap", "separate"), [(lambda x: x, True), (lambda x: 30 * torch.tanh(x / 30), False), (lambda x: x * 0.25, False)]
)
def test_a_model_that_scales_or_caps_its_logits_gets_the_right_loss(cap, separate):
    torch.manual_seed(0)
    model = Capped(cap)
    assert (separable_head(model) is not None) is separate
    ids, labels = rows(7, 2)
    expected = F.cross_entropy(model(ids, False).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")
    assert torch.isclose(ModelWithLoss(model)(ids, labels), expected, rtol=1e-5)


def test_the_head_is_restored_after_a_forward_pass(tiny_gpt2):
    model = tiny_gpt2()
    ids, labels = rows(8, 2)
    before = model(input_ids=ids).logits
    ModelWithLoss(model)(ids, labels)
    assert torch.equal(model(input_ids=ids).logits, before)
    assert [name for name, _ in ModelWithLoss(model).named_parameters()] == [
        f"model.{name}" for name, _ in model.named_parameters()
    ]
