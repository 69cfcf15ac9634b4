"""What matrices are multiplied in, chosen from what the device does well."""

from typing import Literal

import torch

from textgen.errors import UserError

Precision = Literal["fp32", "bf16", "fp16"]


def resolve_precision(wanted: str, device_type: str) -> Precision:
    """The precision to compute in; trained weights and their optimizer state are float32 in all of them.

    ``auto`` is bf16 on a GPU that computes in it natively, fp16 with loss scaling on an older one, and fp32 on a CPU.
    Most of those emulate bf16 products, at a tenth of the speed of fp32 ones; where they have instructions for it, it
    is the user's choice (:func:`describe`): in bf16, unlike in fp32, the fourth digit of a loss depends on how many
    processes computed it (docs/training.md).

    Raises:
        UserError: the device cannot compute in what was asked for.
    """
    if wanted != "auto":
        if wanted == "bf16" and device_type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise UserError("--precision bf16: this GPU has no bfloat16; use fp16, or auto to have one chosen.")
        assert wanted in ("fp32", "bf16", "fp16")
        return wanted  # type: ignore[return-value]
    if device_type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "fp32"


def describe(precision: str, wanted: str, device_type: str) -> str:
    """``precision`` in words, which ``wanted`` resolved to; with a hint if another one would be faster."""
    can = torch.cpu.get_capabilities()
    faster = can.get("amx_bf16") or can.get("avx512_bf16")
    if wanted == "auto" and device_type == "cpu" and faster:
        return f"{precision} (this CPU supports --precision bf16, which is faster for large models)"
    return precision


COMPUTE_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
