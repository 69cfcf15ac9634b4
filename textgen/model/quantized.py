"""Frozen weights in 4 or 8 bits (QLoRA, arXiv 2305.14314; LLM.int8(), arXiv 2208.07339), by bitsandbytes."""

from typing import Any

import torch

from textgen.device import on_cpu


def quantization(bits: int, compute_dtype: torch.dtype) -> dict[str, Any]:
    """What to tell ``from_pretrained`` for linear layers in so many bits.

    Four bits are NormalFloat with the quantisation constants quantised again, as in QLoRA; embeddings, the output head
    and vectors stay in float32.

    Args:
        bits: 4 or 8.
        compute_dtype: that 4-bit weights are multiplied in, after they were unpacked.
    """
    from transformers import BitsAndBytesConfig

    assert bits in (4, 8)
    four = {
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": compute_dtype,
    }
    config = BitsAndBytesConfig(load_in_4bit=bits == 4, load_in_8bit=bits == 8, **(four if bits == 4 else {}))
    return {
        "quantization_config": config,
        "device_map": {"": "cpu" if on_cpu() else torch.cuda.current_device()},
    }


def trainable_again(model: Any) -> Any:
    """The model, whose layers of 4 bits stay as they are when it is evaluated.

    On CPUs that multiply bf16 (AVX512_BF16), bitsandbytes repacks such a layer the first time it runs in evaluation
    mode, into a form that has no gradient; training cannot go on from there.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model
