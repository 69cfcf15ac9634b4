"""Muon compared with torch's own, for both memory layouts of a linear layer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.pytorch_utils import Conv1D

from textgen.training.config import TrainingConfig
from textgen.training.muon import Muon, hidden_matrices, orthogonalize
from textgen.training.optimizers import BETAS, EPSILON, build_optimizer


@settings(max_examples=30)
@given(rows=st.integers(1, 12), columns=st.integers(1, 12), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_orthogonalizing_brings_singular_values_close_to_one(rows, columns, scale):
    generator = torch.Generator().manual_seed(rows * 13 + columns)
    matrix = scale * torch.linalg.qr(torch.randn(max(rows, columns), min(rows, columns), generator=generator))[0]
    matrix = matrix if rows >= columns else matrix.t()
    values = torch.linalg.svdvals(orthogonalize(matrix))
    assert values.min() > 0.6
    assert values.max() < 1.3
    torch.testing.assert_close(orthogonalize(matrix.t()), orthogonalize(matrix).t(), rtol=1e-4, atol=1e-5)


def test_updates_are_those_of_torchs_muon(monkeypatch):
    """torch's computes in bfloat16; made to compute in float32, it gives the same numbers."""
    torch.manual_seed(0)
    weight, gradients = torch.randn(6, 10), torch.randn(3, 6, 10)
    ours, theirs = (torch.nn.Parameter(weight.clone()) for _ in range(2))
    muon = Muon([{"params": [ours], "weight_decay": 0.1}], [ours], lr=0.02, betas=BETAS, eps=EPSILON)
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.float)
    for gradient in gradients:
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon.step()
        reference.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_transposed_layer_gets_the_transposed_update():
    torch.manual_seed(0)
    linear, conv = torch.nn.Linear(5, 12), Conv1D(12, 5)
    with torch.no_grad():
        conv.weight.copy_(linear.weight.t())
    x, target = torch.randn(7, 5), torch.randn(7, 12)
    for layer in (linear, conv):
        with torch.no_grad():
            layer.bias.zero_()
        optimizer = Muon(
            [{"params": [layer.weight, layer.bias], "weight_decay": 0.1}],
            hidden_matrices(layer), lr=0.1, betas=BETAS, eps=EPSILON,
        )  # fmt: skip
        for _ in range(3):
            (layer(x) - target).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(conv.weight.t(), linear.weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_hidden_matrices_are_the_weights_of_linear_layers_without_head_and_embeddings(request, family):
    model = request.getfixturevalue(family)()
    chosen = {id(p) for p in hidden_matrices(model)}
    names = {name for name, p in model.named_parameters() if id(p) in chosen}
    blocks = {name for name, p in model.named_parameters() if p.dim() == 2 and (".h." in name or ".layers." in name)}
    assert names == blocks


def test_other_parameters_are_updated_as_by_adamw(tiny_gpt2):
    """Embeddings, norms and biases get exactly the updates of --optimizer adamw."""
    outcomes = []
    for name in ("muon", "adamw"):
        model = tiny_gpt2()
        optimizer = build_optimizer(model, TrainingConfig(optimizer=name, learning_rate=1e-2))
        for p in model.parameters():
            p.grad = torch.sin(torch.arange(p.numel(), dtype=torch.float32)).reshape(p.shape)
        optimizer.step()
        outcomes.append((dict(model.named_parameters()), {id(p) for p in hidden_matrices(model)}))
    (muon, _), (adamw, matrices) = outcomes
    for name, p in adamw.items():
        assert torch.equal(muon[name], p) is (id(p) not in matrices), name
