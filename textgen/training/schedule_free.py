"""Schedule-free AdamW: an average of the weights takes the place of a falling learning rate.

Defazio et al. 2024, "The Road Less Scheduled" (arXiv 2405.15682), with the weighting by squared learning rates of the
authors' implementation, facebookresearch/schedule_free. There are three sequences: z takes the steps, x is their
average and is what one evaluates, and gradients are taken at y = (1 - β₁) z + β₁ x, which the parameters hold.
"""

from typing import Any

import torch


class ScheduleFreeAdamW(torch.optim.Optimizer):
    """The parameters hold y; z and the second moment are in the state.

    Args:
        groups: as torch's optimizers take them, with ``weight_decay``.
        lr: learning rate; a warm-up is fine, a decay would add to the effect of averaging.
        betas: (share of the average in y, decay of the second moment).
        eps: added to the root of the second moment.
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, lr: float = 1e-3, betas: tuple[float, float], eps: float
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, group)

    def _update(self, y: torch.Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2), rate = self.state[y], group["betas"], group["lr"]
        if not state:
            state["z"], state["exp_avg_sq"] = y.clone(), torch.zeros_like(y)
            for name in ("step", "highest_rate", "weight_sum"):
                state[name] = torch.zeros((), dtype=torch.float64)
        state["step"] += 1
        state["highest_rate"].clamp_(min=rate)
        weight = float(state["highest_rate"]) ** 2
        state["weight_sum"] += weight
        share = weight / float(state["weight_sum"]) if weight else 0.0  # of the newest z in the average
        moment = state["exp_avg_sq"].mul_(beta2).addcmul_(y.grad, y.grad, value=1 - beta2)
        correction = 1 - beta2 ** float(state["step"])
        update = y.grad / (moment / correction).sqrt_().add_(group["eps"])
        update.add_(y, alpha=group["weight_decay"])
        y.lerp_(state["z"], share)
        y.add_(update, alpha=rate * (beta1 * (1 - share) - 1))
        state["z"].sub_(update, alpha=rate)

    @torch.no_grad()
    def swap_in_averages(self) -> list[torch.Tensor]:
        """Put x in place of y, and return y."""
        training = []
        for group in self.param_groups:
            for p in group["params"]:
                training.append(p.clone())
                if "z" in self.state[p]:
                    p.lerp_(self.state[p]["z"], 1 - 1 / group["betas"][0])
        return training

    @torch.no_grad()
    def swap_back(self, training: list[torch.Tensor]) -> None:
        """Put back what :meth:`swap_in_averages` returned."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        for p, y in zip(parameters, training, strict=True):
            p.copy_(y)
