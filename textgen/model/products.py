"""Linear layers that cost less: in time, by who takes their products; in memory, by what they keep.


Time: torch multiplies float32 matrices with MKL. On the AMD processors measured, oneDNN's kernels, which come with
torch and which `torch.compile` uses, take the same products in 0.9 of the time for a thousand rows, and in half of it
for sixteen; and they take weights in either layout as they lie (benchmarks/products.py). The products by which weights
get their gradients stay with MKL: there the two are alike.

Memory: for the gradient of its weight a layer keeps its input. Where that is the output of a normalization or an
activation, which keep their own inputs, it is cheaper to make it once more than to keep it (as in Liger Kernel, arXiv
2410.10989, section 3.1): a tenth of a step's memory, for a hundredth of its time (docs/log.md).
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
    """Whether :func:`product` is for these: float32 on a CPU, eagerly and without autocast."""
    return (
        not torch.compiler.is_compiling()
        and _ONEDNN
        and rows.device.type == "cpu"
        and rows.dtype == weight.dtype == torch.float32
        and type(weight) in (torch.nn.Parameter, torch.Tensor)  # and no distributed or quantized one
        and rows.numel() > 0
        and not torch.is_autocast_enabled("cpu")
    )


def product(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *, transposed: bool
) -> torch.Tensor:
    """``rows @ weight.T + bias``, with gradients.

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
        made = multiply(flat, weight.t() if transposed else weight, bias)
    return made.view(*rows.shape[:-1], made.shape[-1])


def multiply(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """``rows @ weight.T + bias`` by oneDNN, of ``rows`` (M, K) and ``weight`` (N, K) of any strides; no gradients."""
    made: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return made


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
        # Nothing is kept for a gradient that nobody asks for: beside adapters, a layer's input can go at once.
        ctx.again, kept = (None, (rows,)) if origin is None else origin
        ctx.save_for_backward(weight if of_rows else None, *(kept if of_weight else ()))
        ctx.transposed = transposed
        return multiply(rows, weight.t() if transposed else weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> Any:
        weight, *kept = ctx.saved_tensors
        of_rows = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_rows = multiply(upstream, weight if ctx.transposed else weight.t(), None)
        if ctx.needs_input_grad[1]:
            rows = kept[0] if ctx.again is None else ctx.again(*kept).reshape(len(upstream), -1)
            of_weight = rows.t() @ upstream if ctx.transposed else upstream.t() @ rows
        if ctx.needs_input_grad[2]:
            of_bias = upstream.sum(dim=0)
        return of_rows, of_weight, of_bias, None, None
