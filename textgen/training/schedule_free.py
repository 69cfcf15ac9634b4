"""Schedule-free AdamW: averaging the weights replaces a decaying learning rate.

Defazio et al. 2024, "The Road Less Scheduled" (arXiv 2405.15682), with the weighting by squared learning rates of the
authors' implementation, facebookresearch/schedule_free. There are three sequences: z takes the steps, x is their
average and is evaluated, and gradients are computed at y = (1 - β₁) z + β₁ x, which is in the parameters.

The steps are those of the authors' package to the bit. It is not used because its state does not fit this project: it
counts steps outside the per-parameter state that a checkpoint saves, and it computes x from y and y from x in place, so
that every evaluation would change the weights by rounding errors. Here y is copied before an evaluation, and restored.
"""

from typing import Any

import torch


class ScheduleFreeAdamW(torch.optim.Optimizer):
    """AdamW whose parameters hold y, with z and the second moment in its state.

    Args:
        groups: parameter groups with ``weight_decay``.
        lr: learning rate. It may warm up; decaying it would add to the effect of averaging.
        betas: (share of the average in y, decay of the second moment).
        eps: added to the root of the second moment.
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, lr: float = 1e-3, betas: tuple[float, float], eps: float
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; the gradients are overwritten."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, group)

    def _update(self, y: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2), learning_rate = self.state[y], group["betas"], group["lr"]
        if not state:
            state["z"], state["exp_avg_sq"] = y.clone(), torch.zeros_like(y)
            for name in ("step", "highest_rate", "weight_sum"):
                state[name] = torch.zeros((), dtype=torch.float64)
        state["step"] += 1
        state["highest_rate"].clamp_(min=learning_rate)
        weight = float(state["highest_rate"]) ** 2
        state["weight_sum"] += weight
        share = weight / float(state["weight_sum"]) if weight else 0.0  # of the newest z in the average
        moment = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        bias_correction = 1 - beta2 ** float(state["step"])
        # In place, which saves an array the size of the gradient: 154 MB for GPT-2's embedding.
        update = gradient.div_((moment / bias_correction).sqrt_().add_(group["eps"]))
        update.add_(y, alpha=group["weight_decay"])
        y.lerp_(state["z"], share)
        y.add_(update, alpha=learning_rate * (beta1 * (1 - share) - 1))
        state["z"].sub_(update, alpha=learning_rate)

    @torch.no_grad()
    def swap_in_averages(self) -> list[torch.Tensor]:
        """Replace y by x in the parameters, and return y."""
        training_weights = []
        for group in self.param_groups:
            for p in group["params"]:
                training_weights.append(p.clone())
                if "z" in self.state[p]:
                    p.lerp_(self.state[p]["z"], 1 - 1 / group["betas"][0])
        return training_weights

    @torch.no_grad()
    def swap_back(self, training_weights: list[torch.Tensor]) -> None:
        """Restore what :meth:`swap_in_averages` returned."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        for p, y in zip(parameters, training_weights, strict=True):
            p.copy_(y)
