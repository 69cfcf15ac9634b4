"""The precision of matrix multiplications, chosen for the device; and the loss scale of fp16."""

from collections.abc import Sequence
from typing import Literal

import torch

from textgen.errors import UserError

Precision = Literal["fp32", "bf16", "fp16"]

COMPUTE_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(requested: str, device_type: str) -> Precision:
    """The precision to compute in. Trained weights and their optimizer state are float32 in all of them.

    ``auto`` is bf16 on a GPU with native bf16, fp16 with loss scaling on an older GPU, and fp32 on a CPU. Most CPUs
    emulate bf16 at a tenth of the speed of fp32. On those with instructions for it, bf16 is left to the user
    (:func:`describe` mentions it): in bf16, unlike in fp32, the fourth digit of a loss depends on the number of
    processes (docs/training.md).

    Raises:
        UserError: the device does not support the requested precision.
    """
    if requested != "auto":
        bf16_on_gpu = requested == "bf16" and device_type == "cuda"
        if bf16_on_gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise UserError("--precision bf16: this GPU does not support bfloat16. Use fp16 or auto.")
        assert requested in ("fp32", "bf16", "fp16")
        return requested  # type: ignore[return-value]
    if device_type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "fp32"


def describe(precision: str, requested: str, device_type: str) -> str:
    """A description of ``precision``, to which ``requested`` was resolved, with a hint if another one is faster."""
    can = torch.cpu.get_capabilities()
    bf16_is_fast = can.get("amx_bf16") or can.get("avx512_bf16")
    if requested == "auto" and device_type == "cpu" and bf16_is_fast:
        return f"{precision} (this CPU supports --precision bf16, which is faster for large models)"
    return precision


def loss_scale(scaler: torch.amp.GradScaler | None) -> tuple[float, int] | None:
    """The fp16 loss scale, and the number of steps since it changed; None in other precisions."""
    if scaler is None:
        return None
    state = scaler.state_dict()
    return float(state["scale"]), int(state["_growth_tracker"])


def restore_loss_scale(scaler: torch.amp.GradScaler | None, saved: Sequence[float] | None) -> None:
    """Continue with a value that :func:`loss_scale` returned."""
    if scaler is not None and saved is not None:
        scale, steps = saved
        scaler.load_state_dict(scaler.state_dict() | {"scale": float(scale), "_growth_tracker": int(steps)})


def halve_loss_scale(scaler: torch.amp.GradScaler | None) -> bool:
    """Halve the fp16 loss scale; False if there is no scale above 1. Call it on all processes alike."""
    if scaler is None or scaler.get_scale() <= 1.0:
        return False
    scaler.update(scaler.get_scale() / 2)
    return True


def reset_loss_scale(scaler: torch.amp.GradScaler | None, saved: Sequence[float] | None) -> None:
    """Undo :func:`halve_loss_scale` in a step that does not update the weights; also forget the step's gradients.

    Args:
        scaler: the gradient scaler, if there is one.
        saved: what :func:`loss_scale` returned before the step.
    """
    if scaler is not None and saved is not None:
        scaler.update(float(saved[0]))  # otherwise the next step could not unscale its gradients
