"""Linear layers that cost less: in time, by who takes their products; in memory, by what they keep.

Time: torch multiplies float32 matrices with MKL, which is Intel's. On the AMD processors measured, oneDNN's kernels,
which come with torch and which `torch.compile` uses, take the same products in 0.9 of the time for a thousand rows, and
in half of it for sixteen; and they take weights in either layout as they lie. On the Intel ones, MKL is the faster one,
by up to a factor of two (benchmarks/products.py). The products by which weights get their gradients stay with MKL on
either.

Memory: for the gradient of its weight a layer keeps its input. Where that is the output of a normalization or an
activation, which keep their own inputs, it is cheaper to make it once more than to keep it (as in Liger Kernel, arXiv
2410.10989, section 3.1): a tenth of a step's memory, for a hundredth of its time (docs/log.md). For the gradient of
its input it keeps its weight, of which autocast would keep a second copy in bfloat16: that too is made once more.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from transformers.pytorch_utils import Conv1D


class ProductLinear(torch.nn.Linear):
    """``torch.nn.Linear`` by :func:`product`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # its name in torch
        if takes(input, self.weight):
            return product(input, self.weight, self.bias, transposed=False)
        return super().forward(input)


class ProductConv1D(Conv1D):
    """GPT-2's linear layer, whose weight is (in, out), by :func:`product`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if takes(x, self.weight):
            return product(x, self.weight, self.bias, transposed=True)
        return super().forward(x)


class RemadeLayerNorm(torch.nn.LayerNorm):
    """``torch.nn.LayerNorm``, whose output a layer that comes next need not keep."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return _remade(super().forward(input), self._again, input, self.weight, self.bias)

    def _again(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return F.layer_norm(input, self.normalized_shape, weight, bias, self.eps)


class RemadeGELU(torch.nn.GELU):
    """``torch.nn.GELU``, whose output a layer that comes next need not keep."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return _remade(super().forward(input), super().forward, input)


# Type of a module → what computes the same.
CHEAPER: dict[type[torch.nn.Module], type[torch.nn.Module]] = {
    torch.nn.Linear: ProductLinear,
    Conv1D: ProductConv1D,
    torch.nn.LayerNorm: RemadeLayerNorm,
    torch.nn.GELU: RemadeGELU,
}

_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
_INTEL = "Intel" in str(torch.cpu.get_capabilities().get("cpu_name"))
MKL_IS_FASTER = torch.backends.mkl.is_available() and _INTEL  # at layers' products in float32

Origin = tuple[Callable[..., torch.Tensor], tuple[torch.Tensor | None, ...]]
"""What makes a tensor once more, and of what."""


def _remade(output: torch.Tensor, again: Callable[..., torch.Tensor], *inputs: torch.Tensor | None) -> torch.Tensor:
    """``output``, with a note of what makes it once more. The note goes wherever this very tensor goes, and no
    further: a view or a copy has none, and is kept as any tensor is."""
    if output.requires_grad and not torch.compiler.is_compiling():
        output.origin = output._version, (again, inputs)  # type: ignore[attr-defined]
    return output


def _origin(rows: torch.Tensor) -> Origin | None:
    noted = getattr(rows, "origin", None)
    if noted is None or noted[0] != rows._version:  # one that was changed in place is no longer what was made
        return None
    origin: Origin = noted[1]
    return origin


def takes(rows: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether :func:`product` is for these: on a CPU, eagerly, in float32 or under autocast to bfloat16."""
    dtypes = {rows.dtype, weight.dtype}
    if torch.is_autocast_enabled("cpu"):
        fits = dtype_of_products(rows) == torch.bfloat16 and dtypes <= {torch.float32, torch.bfloat16}
    else:
        fits = dtypes == {torch.float32}
    return (
        fits
        and not torch.compiler.is_compiling()
        and _ONEDNN
        and rows.device.type == "cpu"
        and type(weight) in (torch.nn.Parameter, torch.Tensor)  # and no distributed or quantized one
        and rows.numel() > 0
    )


def dtype_of_products(rows: torch.Tensor) -> torch.dtype:
    """What torch takes products of these in: what autocast says, or else their own."""
    device = rows.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else rows.dtype


def product(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *, transposed: bool
) -> torch.Tensor:
    """``rows @ weight.T + bias``, with gradients, by MKL or oneDNN; under autocast in its dtype.

    Args:
        rows: (..., K).
        weight: (N, K), or (K, N) if ``transposed``.
        bias: (N,) or None.
        transposed: how ``weight`` lies in memory.

    Returns:
        (..., N).
    """
    flat = rows.reshape(-1, rows.shape[-1])
    if torch.is_grad_enabled():
        made: torch.Tensor = _Product.apply(flat, weight, bias, transposed, _origin(rows))
    else:
        made = _multiplied(flat, weight, bias, transposed, dtype_of_products(flat))
    return made.view(*rows.shape[:-1], made.shape[-1])


def multiply(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """``rows @ weight.T + bias`` by oneDNN, of ``rows`` (M, K) and ``weight`` (N, K) of any strides, all of one dtype;
    no gradients."""
    made: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return made


def _multiplied(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, transposed: bool, dtype: torch.dtype
) -> torch.Tensor:
    cast = weight.to(dtype)
    return _faster(rows.to(dtype), cast.t() if transposed else cast, None if bias is None else bias.to(dtype))


def _faster(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    by_mkl = MKL_IS_FASTER and rows.dtype == torch.float32
    return F.linear(rows, weight, bias) if by_mkl else multiply(rows, weight, bias)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        transposed: bool,
        origin: Origin | None,
    ) -> torch.Tensor:
        of_rows, of_weight = ctx.needs_input_grad[:2]
        ctx.dtype, ctx.transposed = dtype_of_products(rows), transposed
        rows = rows.to(ctx.dtype)
        # Nothing is kept for a gradient that nobody asks for: beside adapters, a layer's input can go at once.
        ctx.again, kept = (None, (rows,)) if origin is None else origin
        ctx.save_for_backward(weight if of_rows else None, *(kept if of_weight else ()))
        return _multiplied(rows, weight, bias, transposed, ctx.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> Any:  # autograd casts what it returns to what was given
        weight, *kept = ctx.saved_tensors
        of_rows = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            cast = weight.to(ctx.dtype)
            of_rows = _faster(upstream, cast if ctx.transposed else cast.t(), None)
        if ctx.needs_input_grad[1]:
            rows = kept[0] if ctx.again is None else ctx.again(*kept).reshape(len(upstream), -1).to(ctx.dtype)
            of_weight = rows.t() @ upstream if ctx.transposed else upstream.t() @ rows
        if ctx.needs_input_grad[2]:
            of_bias = upstream.sum(dim=0)
        return of_rows, of_weight, of_bias, None, None
