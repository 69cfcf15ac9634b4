"""Muon: momentum whose matrices are orthogonalized before they are applied.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", kellerjordan.github.io/posts/muon.
Updates are scaled by 0.2 √max(rows, columns) as in Moonlight (arXiv 2502.16982, equation 4), which makes them as large
as AdamW's, so that one learning rate suits both.

``torch.optim.Muon`` is not used: it orthogonalizes in bfloat16 on every device. On a CPU without instructions for that,
an update takes 31 to 44 times as long; and on any CPU, losses on one and on two processes differ by 6e-6 instead of
1e-7 (docs/log.md).
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim.adamw import adamw
from transformers.pytorch_utils import Conv1D

from textgen.training.distributed.sharding import gather

COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 5


def hidden_matrices(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The trainable weights of linear layers, except the output head's, whether or not it is tied to the embedding.

    GPT-2's ``Conv1D`` stores them transposed. That makes no difference here: orthogonalizing a transpose gives the
    transpose of the orthogonalized matrix, and the scale is the same.
    """
    excluded = {id(p) for m in model.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()}
    find_head = getattr(model, "get_output_embeddings", lambda: None)
    if (head := find_head()) is not None:
        excluded |= {id(p) for p in head.parameters()}
    weights: list[Any] = [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear | Conv1D)]
    return [w for w in weights if w.dim() == 2 and w.requires_grad and id(w) not in excluded]


def orthogonalize(matrix: torch.Tensor) -> torch.Tensor:
    """Approximately U Vᵀ of a matrix U S Vᵀ, by five Newton-Schulz iterations; singular values are then 0.7 to 1.2.

    Computed in bfloat16 on a GPU, and in float32 elsewhere.

    Args:
        matrix: the matrix to orthogonalize, (M, N).
    """
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16() if matrix.is_cuda else matrix.float()
    tall = x.shape[0] > x.shape[1]
    x = x.t() if tall else x
    x = x / (x.norm() + 1e-7)  # now all singular values are at most 1
    for _ in range(ITERATIONS):
        gram = x @ x.t()
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.t() if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Muon for some parameters and AdamW for the others, in one optimizer.

    Args:
        groups: parameter groups with ``weight_decay``.
        matrices: the parameters that Muon updates; each has two dimensions.
        lr: learning rate of all parameters.
        betas: betas of AdamW.
        eps: epsilon of AdamW.
        momentum: Nesterov momentum of Muon.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        matrices: Iterable[torch.Tensor],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float],
        eps: float,
        momentum: float = 0.95,
    ) -> None:
        muon_ids = {id(p) for p in matrices}
        split = [
            group | {"params": parameters, "muon": use_muon}
            for group in groups
            for use_muon in (True, False)
            if (parameters := [p for p in group["params"] if (id(p) in muon_ids) is use_muon])
        ]
        super().__init__(split, {"lr": lr, "betas": betas, "eps": eps, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["muon"]:
                for p in parameters:
                    self._muon_update(p, group)
            else:
                self._adamw_update(parameters, group)

    def _muon_update(self, p: torch.Tensor, group: dict[str, Any]) -> None:
        state, gradient = self.state[p], p.grad
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(p)
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        update = gather(gradient.lerp(state["momentum"], group["momentum"]))
        update = orthogonalize(update) * (0.2 * max(update.shape) ** 0.5)
        if isinstance(p, DTensor):
            update = distribute_tensor(update, p.device_mesh, p.placements)
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(update, alpha=-group["lr"])

    def _adamw_update(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        for p in parameters:
            if not self.state[p]:
                zeros = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
                self.state[p].update(zeros | {"step": torch.zeros((), dtype=torch.float32, device=p.device)})
        states = [self.state[p] for p in parameters]
        adamw(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            exp_avgs=[state["exp_avg"] for state in states],
            exp_avg_sqs=[state["exp_avg_sq"] for state in states],
            max_exp_avg_sqs=[],
            state_steps=[state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
