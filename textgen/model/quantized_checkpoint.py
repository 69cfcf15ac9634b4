"""Checkpoints whose weights were saved quantized: what their config.json says, and what can be done with them.

Formats that transformers can turn back into ordinary weights while it reads them (such as FP8 and MXFP4) always are, so
that results do not depend on the device. The others need their library, which is checked before any data is read.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textgen.errors import UserError, first_line
from textgen.model.config import AdapterConfig, ModelConfig

_DEQUANTIZE = (
    'python -c "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; '
    "M.from_pretrained('{model}').dequantize().save_pretrained('{output}', save_original_format=False); "
    "T.from_pretrained('{model}').save_pretrained('{output}')\""
)


@dataclass(frozen=True)
class QuantizedCheckpoint:
    """How the weights of a checkpoint are stored.

    Attributes:
        format: the name of the format in config.json, such as "gptq".
        bits: bits of the weights with bitsandbytes, otherwise None.
        dequantized: whether they become ordinary weights while they are read.
        trainable: whether gradients can flow through them to adapters.
    """

    format: str
    bits: int | None = None
    dequantized: bool = False
    trainable: bool = True

    def __str__(self) -> str:
        return f"{self.format}, {self.bits} bits" if self.bits else self.format


def quantized_checkpoint(architecture: Any, setting: str, model: str) -> QuantizedCheckpoint | None:
    """How a checkpoint's weights are quantized; None if they are not.

    Args:
        architecture: the model's configuration; a format that can be dequantized is marked in it to be.
        setting: the flag that named the model, for error messages.
        model: the model's name or directory.

    Raises:
        UserError: the format is unknown, or its library or device is missing.
    """
    owner = _owner(architecture)
    if owner is None:
        return None
    from transformers.quantizers.auto import AutoHfQuantizer

    from textgen.model.quantized import device_map

    stored = owner.quantization_config
    name = str(stored.get("quant_method") or stored.get("quant_algo") or "of an unnamed format")
    try:
        quantizer = AutoHfQuantizer.from_config(copy.deepcopy(stored), pre_quantized=True)
        dequantized = hasattr(quantizer.quantization_config, "dequantize")
        if dequantized:
            quantizer.quantization_config.dequantize = stored["dequantize"] = True
        quantizer.validate_environment(device_map=device_map(), weights_only=True)
    except (ImportError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{setting} {model}: its weights are quantized ({name}), and cannot be used here: {_sentence(error)} "
            "Install what is missing, or use the checkpoint that they were quantized from."
        ) from None
    bits = next((bits for bits in (4, 8) if getattr(quantizer.quantization_config, f"load_in_{bits}bit", False)), None)
    return QuantizedCheckpoint(name, bits, dequantized, dequantized or bool(quantizer.is_trainable))


def forget_quantization(architecture: Any) -> None:
    """Remove what config.json says about quantized weights, for a model with random weights."""
    if (owner := _owner(architecture)) is not None:
        del owner.quantization_config


def training_problems(
    quantized: QuantizedCheckpoint, config: ModelConfig, adapters: AdapterConfig, setting: str = "--model"
) -> list[str]:
    """Why a checkpoint cannot be trained with the chosen method, one message each."""
    chosen = f"--method {config.method} with {setting} {config.model}: its weights are quantized ({quantized})"
    if config.method == "full":
        if quantized.dequantized:
            return []
        return [f"{chosen}, and only adapters next to them can be trained. {_ways(quantized, config)}"]
    if not quantized.trainable:
        return [f"{chosen}, and this format has no gradients. Use the checkpoint that they were quantized from."]
    if quantized.bits is None:
        if config.method == "qlora":
            return [f"{chosen} already. Use --method lora, which adds adapters to them as they are."]
        return []
    if config.method == "qlora" and adapters.qlora_bits != quantized.bits:
        return [f"{chosen} already, and --qlora-bits is {adapters.qlora_bits}. Use --qlora-bits {quantized.bits}."]
    return adapters.quantization_problems(config.method, quantized.bits)


def _owner(architecture: Any) -> Any:
    """The configuration that names a format: the model's own, or its text model's; None if neither does."""
    for config in (architecture, architecture.get_text_config(decoder=True)):
        if getattr(config, "quantization_config", None):
            return config
    return None


def _ways(quantized: QuantizedCheckpoint, config: ModelConfig) -> str:
    if quantized.bits is None:
        return "Use --method lora, or the checkpoint that they were quantized from."
    bits = "" if quantized.bits == 4 else f" --qlora-bits {quantized.bits}"
    command = _DEQUANTIZE.format(model=config.model, output=f"{Path(config.model).name}-dequantized")
    return f"Use --method qlora{bits}, or dequantize them first: {command}"


def _sentence(error: Exception) -> str:
    line = first_line(error)
    return line if line.endswith((".", "!", "?")) else f"{line}."
