"""Frozen weights in 4 or 8 bits (QLoRA, arXiv 2305.14314; LLM.int8(), arXiv 2208.07339), with bitsandbytes."""

import logging
import math
from typing import Any

import torch

from textgen.launch_environment import on_cpu


def quantization_options(bits: int, compute_dtype: torch.dtype) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` that quantize linear layers while loading.

    4 bits are NormalFloat (nf4) with double quantization, as in QLoRA. Embeddings, the output head and vectors stay in
    float32.

    Args:
        bits: 4 or 8.
        compute_dtype: dtype of matrix multiplications by 4-bit weights, after they are dequantized.
    """
    from transformers import BitsAndBytesConfig

    assert bits in (4, 8)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of a cast in every 8-bit multiplication
    nf4 = {
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": compute_dtype,
    }
    config = BitsAndBytesConfig(load_in_4bit=bits == 4, load_in_8bit=bits == 8, **(nf4 if bits == 4 else {}))
    return {"quantization_config": config, "device_map": device_map()}


def device_map() -> dict[str, str | int]:
    """Where quantized weights are read to: this process's device, since they cannot all be moved later."""
    return {"": "cpu" if on_cpu() else torch.cuda.current_device()}


def disable_cpu_repacking(model: Any) -> Any:
    """Keep 4-bit layers trainable after an evaluation; returns the model.

    On CPUs with AVX512_BF16, bitsandbytes repacks a 4-bit layer the first time it runs in evaluation mode, into a
    format without gradients. Training could not continue after that.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def element_count(parameter: torch.Tensor) -> int:
    """Number of elements of a parameter; bitsandbytes stores two elements of 4 bits in one byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)


def quantized_parameters(model: torch.nn.Module) -> int:
    """Number of parameters that are stored in 4 or 8 bits."""
    return sum(element_count(p) for p in model.parameters() if not p.is_floating_point())
