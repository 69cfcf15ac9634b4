"""Layers that cost less against those they stand for: the same numbers, the same gradients, and less kept."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.pytorch_utils import Conv1D

from textgen.model.config import AdapterConfig
from textgen.model.kernels import linear
from textgen.model.kernels.linear import CHEAPER, ProductConv1D, ProductLinear, product
from textgen.model.kernels.swap_modules import swap_modules
from textgen.model.lora import add_adapters


def cheaper(module):
    other = copy.deepcopy(module)
    other.__class__ = CHEAPER[type(module)]
    return other


def layer(kind, inputs, outputs, bias):
    made = torch.nn.Linear(inputs, outputs, bias=bias) if kind == "linear" else Conv1D(outputs, inputs)
    torch.nn.init.normal_(made.weight)
    return made


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["linear", "conv1d"]),
    shape=st.lists(st.integers(0, 5), min_size=0, max_size=3),
    inputs=st.integers(1, 40),
    outputs=st.integers(1, 40),
    bias=st.booleans(),
    frozen=st.booleans(),
    from_leaf=st.booleans(),
    by_mkl=st.booleans(),
)
def test_numbers_and_gradients_are_those_of_the_layer(
    seed, kind, shape, inputs, outputs, bias, frozen, from_leaf, by_mkl
):
    torch.manual_seed(seed)
    plain = layer(kind, inputs, outputs, bias).requires_grad_(not frozen)
    x = torch.randn(*shape, inputs)
    upstream = torch.randn(*shape, outputs)
    found = []
    for one in (plain, cheaper(plain)):
        leaf = x.clone().requires_grad_(from_leaf)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(linear, "MKL_IS_FASTER", by_mkl)
            output = one(leaf)
            if output.requires_grad:
                output.backward(upstream)
        found.append([output.detach(), leaf.grad, *(p.grad for p in one.parameters())])
    for expected, got in zip(*found, strict=True):
        assert (expected is None) == (got is None)
        if expected is not None:
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
            assert got.stride() == expected.stride(), "the optimizer sees the same layout"


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["linear", "conv1d"]),
    bits=st.sampled_from([(32, 32), (16, 32), (32, 16)]),
    bias=st.booleans(),
    trained=st.sampled_from(["all", "input", "weight"]),
)
def test_under_autocast_numbers_and_gradients_are_those_of_autocast(seed, kind, bits, bias, trained):
    torch.manual_seed(seed)
    of_rows, of_weight = (torch.float32 if width == 32 else torch.bfloat16 for width in bits)
    plain = layer(kind, 24, 40, bias).to(of_weight).requires_grad_(trained != "input")
    x, upstream = torch.randn(6, 24, dtype=of_rows), torch.randn(6, 40, dtype=torch.bfloat16)
    found = []
    for one in (plain, cheaper(plain)):
        leaf = x.clone().requires_grad_(trained != "weight")
        with torch.autocast("cpu", torch.bfloat16):
            output = one(leaf)
        output.backward(upstream)
        found.append([output.detach(), leaf.grad, *(p.grad for p in one.parameters())])
    for expected, got in zip(*found, strict=True):
        assert (expected is None) == (got is None)
        if expected is not None:
            assert got.dtype == expected.dtype
            torch.testing.assert_close(got, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("mkl_is_faster", "by_onednn"), [(True, 0), (False, 4)])
def test_products_are_taken_by_whoever_is_faster(monkeypatch, mkl_is_faster, by_onednn):
    taken = []
    multiply = linear.multiply
    monkeypatch.setattr(linear, "multiply", lambda *given: (taken.append(1), multiply(*given))[1])
    monkeypatch.setattr(linear, "MKL_IS_FASTER", mkl_is_faster)
    for plain in (torch.nn.Linear(3, 4), Conv1D(4, 3)):
        cheaper(plain)(torch.randn(2, 3, requires_grad=True)).sum().backward()
    assert len(taken) == by_onednn, "forward and backward, of both"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_left_to_torch(dtype):
    plain = torch.nn.Linear(3, 4).to(dtype)
    x = torch.randn(2, 3, dtype=dtype)
    assert torch.equal(cheaper(plain)(x), plain(x))


def test_under_autocast_the_product_is_in_its_precision():
    plain = torch.nn.Linear(3, 4)
    x = torch.randn(2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cheaper(plain)(x), plain(x))
        assert cheaper(plain)(x).dtype == torch.bfloat16


def kept_bytes(run):
    """What autograd keeps between forward and backward, each array once."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = run()
    return sum(storages.values()), output


def small_models():
    plain = torch.nn.Sequential(torch.nn.LayerNorm(64), torch.nn.Linear(64, 256), torch.nn.GELU(), Conv1D(64, 256))
    return plain, torch.nn.Sequential(*(cheaper(module) for module in plain))


def test_what_comes_of_a_normalization_or_an_activation_is_not_kept():
    torch.manual_seed(0)
    plain, lighter = small_models()
    x = torch.randn(512, 64)
    gradients, kept = [], []
    for model in (plain, lighter):
        size, output = kept_bytes(lambda model=model: model(x))
        output.square().sum().backward()
        kept.append(size)
        gradients.append([p.grad for p in model.parameters()])
    assert kept[0] - kept[1] == 4 * 512 * (64 + 256)
    for expected, got in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_under_autocast_neither_are_copies_of_weights():
    torch.manual_seed(0)
    gradients, kept = [], []
    for model in small_models():
        x = torch.randn(512, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()

        def run(model=model, x=x):
            with torch.autocast("cpu", torch.bfloat16):
                return model(x)

        size, output = kept_bytes(run)
        output.float().square().sum().backward()
        kept.append(size)
        gradients.append([x.grad, *(p.grad for p in model.parameters())])
    # Two weights, and of both layers the inputs; where the weights in float32 were not kept before, now they are.
    assert kept[0] - kept[1] == 2 * (2 * 64 * 256 + 512 * (64 + 256)) - 4 * 2 * 64 * 256
    for expected, got in zip(*gradients, strict=True):
        assert got.dtype == expected.dtype
        assert (got - expected).norm() <= 0.01 * expected.norm()


@pytest.mark.parametrize("change", [lambda x: x.mul_(3), lambda x: x[:, :1].add_(1)])
def test_what_was_changed_in_place_is_kept_as_it_was_when_it_was_read(change):
    torch.manual_seed(0)
    plain = [torch.nn.LayerNorm(8), torch.nn.Linear(8, 4)]
    x = torch.randn(5, 8)
    gradients = []
    for norm, layer in (plain, [cheaper(module) for module in plain]):
        normed = norm(x)
        change(normed)
        layer(normed).square().sum().backward()
        gradients.append(layer.weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-5)


def test_beside_adapters_only_their_own_inputs_are_kept(tiny_gpt2):
    ids = torch.arange(48).reshape(2, 24)
    kept = []
    for change in (lambda model: model, swap_modules):
        model = add_adapters(tiny_gpt2(), AdapterConfig(lora_targets="attn.c_attn"), "base", seed=0).train()
        changed = change(model)
        kept.append(kept_bytes(lambda changed=changed: changed(input_ids=ids).logits)[0])
    assert kept[1] < 0.8 * kept[0]


def test_a_model_that_was_compiled_is_left_to_the_compiler():
    plain = torch.nn.Sequential(torch.nn.LayerNorm(8), torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.Linear(8, 8))
    lighter = torch.nn.Sequential(*(cheaper(module) for module in plain))
    x = torch.randn(4, 8, requires_grad=True)
    compiled = torch.compile(lighter, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), plain(x))
    compiled(x).sum().backward()


def test_products_take_any_number_of_dimensions():
    x, w = torch.randn(2, 3, 5), torch.randn(7, 5)
    torch.testing.assert_close(product(x, w, transposed=False), x @ w.t())
    torch.testing.assert_close(product(x, w.t().contiguous(), transposed=True), x @ w.t())
    assert issubclass(ProductLinear, torch.nn.Linear)
    assert issubclass(ProductConv1D, Conv1D)
