"""Linear layers that choose the faster CPU backend, and recompute their input instead of storing it.

Time: torch multiplies float32 matrices with Intel's MKL. On the AMD processors measured, oneDNN (which is part of
torch, and is what `torch.compile` uses) takes 0.9 of MKL's time for a thousand rows and less than half of it for
sixteen, and it reads weights in either memory layout. On the Intel processors measured, MKL is up to twice as fast
(benchmarks/products.py). The matrix multiplications for weight gradients use MKL on both.

Memory: for its weight's gradient, a layer stores its input. If that is the output of a normalization or activation,
which store their own inputs, recomputing it is cheaper than storing it (as in Liger Kernel, arXiv 2410.10989, section
3.1): it saves 8 % of a step's memory for 1 % of its time (docs/log.md). For its input's gradient, a layer stores its
weight; autocast would store a bfloat16 copy of it too, which is recomputed here as well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from transformers.pytorch_utils import Conv1D


class EfficientLinear(torch.nn.Linear):
    """``torch.nn.Linear`` with :func:`efficient_linear`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # "input" is its name in torch
        if is_supported(input, self.weight):
            return efficient_linear(input, self.weight, self.bias, transposed=False)
        return super().forward(input)


class EfficientConv1D(Conv1D):
    """GPT-2's linear layer, whose weight is (in, out), with :func:`efficient_linear`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if is_supported(x, self.weight):
            return efficient_linear(x, self.weight, self.bias, transposed=True)
        return super().forward(x)


class RecomputableLayerNorm(torch.nn.LayerNorm):
    """``torch.nn.LayerNorm`` whose output the next layer need not store."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return _mark_recomputable(super().forward(input), self._recompute, input, self.weight, self.bias)

    def _recompute(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return F.layer_norm(input, self.normalized_shape, weight, bias, self.eps)


class RecomputableGELU(torch.nn.GELU):
    """``torch.nn.GELU`` whose output the next layer need not store."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return _mark_recomputable(super().forward(input), super().forward, input)


# Module type → its efficient equivalent.
EFFICIENT_MODULES: dict[type[torch.nn.Module], type[torch.nn.Module]] = {
    torch.nn.Linear: EfficientLinear,
    Conv1D: EfficientConv1D,
    torch.nn.LayerNorm: RecomputableLayerNorm,
    torch.nn.GELU: RecomputableGELU,
}

_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
_INTEL = "Intel" in str(torch.cpu.get_capabilities().get("cpu_name"))
MKL_IS_FASTER = torch.backends.mkl.is_available() and _INTEL  # for layers in float32


@dataclass(frozen=True)
class Recompute:
    """How to recompute a tensor, attached to it as an attribute.

    Attributes:
        function: returns the tensor, given the inputs.
        inputs: tensors that are stored instead of it.
        version: the tensor's version counter; a higher one means that it was changed in place since.
    """

    function: Callable[..., torch.Tensor]
    inputs: tuple[torch.Tensor | None, ...]
    version: int


def _mark_recomputable(
    output: torch.Tensor, function: Callable[..., torch.Tensor], *inputs: torch.Tensor | None
) -> torch.Tensor:
    """Attach a :class:`Recompute` to a tensor. Only this tensor object has it: views and copies are stored as usual."""
    if output.requires_grad and not torch.compiler.is_compiling():
        output.recompute = Recompute(function, inputs, output._version)  # type: ignore[attr-defined]
    return output


def _recompute_of(x: torch.Tensor) -> Recompute | None:
    recompute: Recompute | None = getattr(x, "recompute", None)
    return recompute if recompute is not None and recompute.version == x._version else None


def is_supported(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether :func:`efficient_linear` applies: on a CPU, not compiled, in float32 or under autocast to bfloat16."""
    dtypes = {x.dtype, weight.dtype}
    if torch.is_autocast_enabled("cpu"):
        supported = matmul_dtype(x) == torch.bfloat16 and dtypes <= {torch.float32, torch.bfloat16}
    else:
        supported = dtypes == {torch.float32}
    return (
        supported
        and not torch.compiler.is_compiling()
        and _ONEDNN
        and x.device.type == "cpu"
        and type(weight) in (torch.nn.Parameter, torch.Tensor)  # not a distributed or quantized one
        and x.numel() > 0
    )


def matmul_dtype(x: torch.Tensor) -> torch.dtype:
    """The dtype in which torch multiplies a matrix: autocast's if enabled, otherwise its own."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def efficient_linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *, transposed: bool
) -> torch.Tensor:
    """``x @ weight.T + bias`` with gradients, by the faster of MKL and oneDNN; under autocast, in its dtype.

    Args:
        x: the input, (..., K).
        weight: the layer's weight, (N, K), or (K, N) if ``transposed``.
        bias: the layer's bias, (N,), or None.
        transposed: memory layout of ``weight``.

    Returns:
        (..., N).
    """
    flat = x.reshape(-1, x.shape[-1])
    if torch.is_grad_enabled():
        output: torch.Tensor = _EfficientLinear.apply(flat, weight, bias, transposed, _recompute_of(x))
    else:
        output = _linear_in_dtype(flat, weight, bias, transposed, matmul_dtype(flat))
    return output.view(*x.shape[:-1], output.shape[-1])


def onednn_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """``x @ weight.T + bias`` by oneDNN, without gradients; x (M, K) and weight (N, K), one dtype, any strides."""
    output: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return output


def _linear_in_dtype(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, transposed: bool, dtype: torch.dtype
) -> torch.Tensor:
    cast = weight.to(dtype)
    return _fastest_linear(x.to(dtype), cast.t() if transposed else cast, None if bias is None else bias.to(dtype))


def _fastest_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    use_mkl = MKL_IS_FASTER and x.dtype == torch.float32
    return F.linear(x, weight, bias) if use_mkl else onednn_linear(x, weight, bias)


class _EfficientLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        transposed: bool,
        recompute: Recompute | None,
    ) -> torch.Tensor:
        needs_grad_x, needs_grad_weight = ctx.needs_input_grad[:2]
        ctx.dtype, ctx.transposed = matmul_dtype(x), transposed
        x = x.to(ctx.dtype)
        # Only what a gradient needs is stored: the input of a frozen layer, as next to adapters, is freed at once.
        ctx.recompute, stored = (None, (x,)) if recompute is None else (recompute.function, recompute.inputs)
        ctx.save_for_backward(weight if needs_grad_x else None, *(stored if needs_grad_weight else ()))
        return _linear_in_dtype(x, weight, bias, transposed, ctx.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> Any:  # autograd casts gradients to the inputs' dtypes
        weight, *stored = ctx.saved_tensors
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            cast = weight.to(ctx.dtype)
            grad_x = _fastest_linear(grad_output, cast if ctx.transposed else cast.t(), None)
        if ctx.needs_input_grad[1]:
            if ctx.recompute is None:
                x = stored[0]
            else:
                x = ctx.recompute(*stored).reshape(len(grad_output), -1).to(ctx.dtype)
            grad_weight = x.t() @ grad_output if ctx.transposed else grad_output.t() @ x
        if ctx.needs_input_grad[2]:
            grad_bias = grad_output.sum(dim=0)
        return grad_x, grad_weight, grad_bias, None, None
