"""Efficient layers compared with those they replace: the same outputs and gradients, and fewer stored tensors."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.pytorch_utils import Conv1D

from textgen.model.adapters.lora import add_adapters
from textgen.model.config import AdapterConfig
from textgen.model.kernels import linear
from textgen.model.kernels.linear import EFFICIENT_MODULES, EfficientConv1D, EfficientLinear, efficient_linear
from textgen.model.kernels.swap_modules import swap_modules


def efficient(module):
    """A copy of the module that is its efficient equivalent."""
    other = copy.deepcopy(module)
    other.__class__ = EFFICIENT_MODULES[type(module)]
    return other


def layer(kind, inputs, outputs, bias):
    plain = torch.nn.Linear(inputs, outputs, bias=bias) if kind == "linear" else Conv1D(outputs, inputs)
    torch.nn.init.normal_(plain.weight)
    return plain


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
    use_mkl=st.booleans(),
)
def test_outputs_and_gradients_are_those_of_the_plain_layer(
    seed, kind, shape, inputs, outputs, bias, frozen, from_leaf, use_mkl
):
    torch.manual_seed(seed)
    plain = layer(kind, inputs, outputs, bias).requires_grad_(not frozen)
    x = torch.randn(*shape, inputs)
    upstream = torch.randn(*shape, outputs)
    found = []
    for one in (plain, efficient(plain)):
        leaf = x.clone().requires_grad_(from_leaf)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(linear, "MKL_IS_FASTER", use_mkl)
            output = one(leaf)
            if output.requires_grad:
                output.backward(upstream)
        found.append([output.detach(), leaf.grad, *(p.grad for p in one.parameters())])
    for expected, got in zip(*found, strict=True):
        assert (expected is None) == (got is None)
        if expected is not None:
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
            assert got.stride() == expected.stride(), "the same memory layout for the optimizer"


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["linear", "conv1d"]),
    bits=st.sampled_from([(32, 32), (16, 32), (32, 16)]),
    bias=st.booleans(),
    trained=st.sampled_from(["all", "input", "weight"]),
)
def test_under_autocast_outputs_and_gradients_are_those_of_the_plain_layer(seed, kind, bits, bias, trained):
    torch.manual_seed(seed)
    dtype_x, dtype_weight = (torch.float32 if width == 32 else torch.bfloat16 for width in bits)
    plain = layer(kind, 24, 40, bias).to(dtype_weight).requires_grad_(trained != "input")
    x, upstream = torch.randn(6, 24, dtype=dtype_x), torch.randn(6, 40, dtype=torch.bfloat16)
    found = []
    for one in (plain, efficient(plain)):
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


@pytest.mark.parametrize(("mkl_is_faster", "onednn_calls"), [(True, 0), (False, 4)])
def test_the_faster_backend_is_used(monkeypatch, mkl_is_faster, onednn_calls):
    calls = []
    onednn_linear = linear.onednn_linear
    monkeypatch.setattr(linear, "onednn_linear", lambda *args: (calls.append(1), onednn_linear(*args))[1])
    monkeypatch.setattr(linear, "MKL_IS_FASTER", mkl_is_faster)
    for plain in (torch.nn.Linear(3, 4), Conv1D(4, 3)):
        efficient(plain)(torch.randn(2, 3, requires_grad=True)).sum().backward()
    assert len(calls) == onednn_calls, "forward and backward, of both layers"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_left_to_torch(dtype):
    plain = torch.nn.Linear(3, 4).to(dtype)
    x = torch.randn(2, 3, dtype=dtype)
    assert torch.equal(efficient(plain)(x), plain(x))


def test_under_autocast_the_output_is_in_its_dtype():
    plain = torch.nn.Linear(3, 4)
    x = torch.randn(2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(efficient(plain)(x), plain(x))
        assert efficient(plain)(x).dtype == torch.bfloat16


def stored_bytes(run):
    """Bytes that autograd stores between forward and backward, each tensor once, and the output."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = run()
    return sum(storages.values()), output


def small_models():
    plain = torch.nn.Sequential(torch.nn.LayerNorm(64), torch.nn.Linear(64, 256), torch.nn.GELU(), Conv1D(64, 256))
    return plain, torch.nn.Sequential(*(efficient(module) for module in plain))


def test_the_output_of_a_normalization_or_activation_is_not_stored():
    torch.manual_seed(0)
    plain, memory_efficient = small_models()
    x = torch.randn(512, 64)
    gradients, stored = [], []
    for model in (plain, memory_efficient):
        size, output = stored_bytes(lambda model=model: model(x))
        output.square().sum().backward()
        stored.append(size)
        gradients.append([p.grad for p in model.parameters()])
    assert stored[0] - stored[1] == 4 * 512 * (64 + 256)
    for expected, got in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_under_autocast_copies_of_weights_are_not_stored_either():
    torch.manual_seed(0)
    gradients, stored = [], []
    for model in small_models():
        x = torch.randn(512, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()

        def run(model=model, x=x):
            with torch.autocast("cpu", torch.bfloat16):
                return model(x)

        size, output = stored_bytes(run)
        output.float().square().sum().backward()
        stored.append(size)
        gradients.append([x.grad, *(p.grad for p in model.parameters())])
    # Not stored: two bfloat16 weights and the inputs of both layers. Stored instead: the two float32 weights.
    assert stored[0] - stored[1] == 2 * (2 * 64 * 256 + 512 * (64 + 256)) - 4 * 2 * 64 * 256
    for expected, got in zip(*gradients, strict=True):
        assert got.dtype == expected.dtype
        assert (got - expected).norm() <= 0.01 * expected.norm()


@pytest.mark.parametrize("change", [lambda x: x.mul_(3), lambda x: x[:, :1].add_(1)])
def test_an_output_that_was_changed_in_place_is_stored_rather_than_recomputed(change):
    torch.manual_seed(0)
    plain = [torch.nn.LayerNorm(8), torch.nn.Linear(8, 4)]
    x = torch.randn(5, 8)
    gradients = []
    for norm, layer in (plain, [efficient(module) for module in plain]):
        normed = norm(x)
        change(normed)
        layer(normed).square().sum().backward()
        gradients.append(layer.weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-5)


def test_with_adapters_only_inputs_of_adapters_are_stored(tiny_gpt2):
    ids = torch.arange(48).reshape(2, 24)
    stored = []
    for change in (lambda model: model, swap_modules):
        model = add_adapters(tiny_gpt2(), AdapterConfig(lora_targets="attn.c_attn"), "base", seed=0).train()
        changed = change(model)
        stored.append(stored_bytes(lambda changed=changed: changed(input_ids=ids).logits)[0])
    assert stored[1] < 0.8 * stored[0]


def test_a_compiled_model_is_left_to_the_compiler():
    plain = torch.nn.Sequential(torch.nn.LayerNorm(8), torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.Linear(8, 8))
    memory_efficient = torch.nn.Sequential(*(efficient(module) for module in plain))
    x = torch.randn(4, 8, requires_grad=True)
    compiled = torch.compile(memory_efficient, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), plain(x))
    compiled(x).sum().backward()


def test_inputs_of_any_number_of_dimensions():
    x, w = torch.randn(2, 3, 5), torch.randn(7, 5)
    torch.testing.assert_close(efficient_linear(x, w, transposed=False), x @ w.t())
    torch.testing.assert_close(efficient_linear(x, w.t().contiguous(), transposed=True), x @ w.t())


def test_efficient_layers_are_still_found_by_type():
    assert issubclass(EfficientLinear, torch.nn.Linear)
    assert issubclass(EfficientConv1D, Conv1D)
