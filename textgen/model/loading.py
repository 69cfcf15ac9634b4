"""Loading a model for training or evaluation, and saving it as transformers and peft load it.

Weights are read from safetensors files only, so loading a model runs no code. Remote code stays off unless requested.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from textgen.errors import UserError, first_line
from textgen.files import RESTORE, read_json
from textgen.model.adapters.lora import as_plain_lora
from textgen.model.adapters.quiet_peft import quiet_peft
from textgen.model.architecture import architecture_name, invalid_values
from textgen.model.config import ModelConfig
from textgen.model.locate import Location, model_config
from textgen.model.quantized import device_map, disable_cpu_repacking, element_count, quantization_options
from textgen.model.quantized_checkpoint import forget_quantization, quantized_checkpoint
from textgen.model.untrusted import forget_adapter_code

BASE_FINGERPRINT = "base_fingerprint.json"


def load_model(
    location: Location,
    config: ModelConfig,
    *,
    seed: int = 0,
    setting: str = "--model",
    quantize_bits: int | None = None,
    compute_dtype: torch.dtype = torch.float32,
) -> Any:
    """Load a model in float32: pretrained, with random weights (``from_scratch``), or an adapter on its base.

    Its layers get the dropout of ``config``; its own config keeps the values of config.json, for when it is saved.

    Args:
        location: where its files are.
        config: from_scratch, dropout and trust_remote_code.
        seed: random seed of random weights.
        setting: the flag that named the model, for error messages.
        quantize_bits: quantize linear layers to 4 or 8 bits (:mod:`textgen.model.quantized`). Ignored for an adapter,
            whose base is quantized as it was when the adapter was trained, and for a checkpoint that was saved so.
        compute_dtype: dtype of matrix multiplications by 4-bit weights.

    Raises:
        UserError: safetensors weights are missing, damaged or incomplete, or the adapter was trained on another base.
    """
    architecture = model_config(location, config, setting=setting)
    if config.from_scratch:
        forget_quantization(architecture)
    original_dropout = set_dropout(architecture, config.dropout, config.attention_dropout)
    if location.adapter:
        quantize_bits = quantized_bits(location.adapter)
    if config.from_scratch:
        model = _random_model(location, config, architecture, seed, setting)
    else:
        model = _pretrained_model(location, config, architecture, setting, quantize_bits, compute_dtype)
    for name, value in original_dropout.items():  # the layers are built by now; the config is what gets saved
        setattr(model.config, name, value)
    return _load_adapter(model, location, setting) if location.adapter else model


def empty_model(location: Location, config: ModelConfig, *, setting: str = "--model") -> Any:
    """The modules of a model on the meta device, which takes no memory; None if its code needs values to build them."""
    from transformers import AutoModelForCausalLM

    architecture = model_config(location, config, setting=setting)
    forget_quantization(architecture)
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(architecture, trust_remote_code=config.trust_remote_code)
    except Exception:  # remote code may raise anything; loading the weights will say what is wrong
        return None


def _random_model(location: Location, config: ModelConfig, architecture: Any, seed: int, setting: str) -> Any:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    try:
        return AutoModelForCausalLM.from_config(
            architecture, dtype=torch.float32, trust_remote_code=config.trust_remote_code
        )
    except ValueError as error:
        raise UserError(f"{setting} {location.base}: not a causal language model: {first_line(error)}") from None


def _pretrained_model(
    location: Location,
    config: ModelConfig,
    architecture: Any,
    setting: str,
    quantize_bits: int | None,
    compute_dtype: torch.dtype,
) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import loading_report

    stored = quantized_checkpoint(architecture, setting, location.base)
    options: dict[str, Any] = {}
    # The report of names that do not match has control characters in it even if it is not for a terminal.
    loading_report.PALETTE.update(dict.fromkeys(loading_report.PALETTE, ""))
    if stored is not None:
        options = {} if stored.dequantized else {"device_map": device_map()}
    elif quantize_bits:
        options = quantization_options(quantize_bits, compute_dtype)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            location.base,
            config=architecture,
            revision=location.revision,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=config.trust_remote_code,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise UserError(
            f"{setting} {location.base}: the weights cannot be loaded: {first_line(error)} "
            "(Weights are read from safetensors files only; use --from-scratch for an architecture without weights.)"
        ) from None
    except RuntimeError as error:
        raise UserError(
            f"{setting} {location.base}: the weights do not match config.json: {first_line(error)}"
        ) from None
    except (TypeError, AttributeError, LookupError, ArithmeticError, AssertionError) as error:
        raise invalid_values(error, f"{setting} {location.base}") from None
    model, report = loaded
    if missing := sorted(report["missing_keys"]):  # transformers fills them with random numbers
        saved, needed = architecture_name(architecture), type(model).__name__
        other = bool(architecture.architectures) and saved != needed
        remedy = f"They are of a {saved}; use those of a {needed}." if other else "Copy or download the model again."
        raise UserError(
            f"{setting} {location.base}: the weights are incomplete: {len(missing)} missing, the first is "
            f"{missing[0]}. {remedy}"
        )
    if stored is not None and stored.dequantized:  # saving would apply its rules in reverse, to wrong values
        model._weight_conversions = None
    return disable_cpu_repacking(model)


def set_dropout(architecture: Any, dropout: float, attention_dropout: float) -> dict[str, float]:
    """Set every dropout probability of a model's configuration; model families have different names for them.

    Returns:
        The previous values, by name.
    """
    previous: dict[str, float] = {}
    for name, value in list(architecture.to_dict().items()):
        # JSON may have 0 for 0.0. A boolean such as use_dropout is an int in Python, but not a probability.
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and (name.endswith(("dropout", "pdrop")) or "_dropout" in name):
            previous[name] = value
            setattr(architecture, name, attention_dropout if name.startswith(("attn", "attention")) else dropout)
    return previous


def parameter_counts(model: torch.nn.Module) -> tuple[int, int]:
    """Number of trainable parameters, and of all parameters; tied parameters count once."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters if p.requires_grad), sum(element_count(p) for p in parameters)


def weights_fingerprint(model: torch.nn.Module) -> str:
    """SHA-256 of the names, shapes and values of all parameters."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name}{tuple(parameter.shape)}{parameter.dtype}".encode())
        digest.update(raw_bytes(parameter.detach()))
    return digest.hexdigest()


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """A copy of a tensor's bytes. Not a view: FSDP could no longer resize a tensor that NumPy has a view of."""
    copied = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor)
    return copied.reshape(-1).view(torch.uint8).numpy().data


def save_model(
    model: Any,
    tokenizer: Any,
    directory: Path,
    *,
    base_fingerprint: str | None,
    quantize_bits: int | None = None,
    state: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write a model or adapter, with its tokenizer, as transformers and peft load it. The write is atomic.

    Args:
        model: a transformers model or a peft model.
        tokenizer: the model's tokenizer, saved in the same directory.
        directory: the directory to write; replaced if it exists.
        base_fingerprint: for adapters, the :func:`weights_fingerprint` of the base, so that loading it on another base
            is detected.
        quantize_bits: bits of the base's weights, if they are quantized.
        state: the full state dictionary, if the model holds only a shard of it.
    """
    scratch = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    options: dict[str, Any] = {"save_embedding_layers": False} if base_fingerprint else {}
    try:
        with as_plain_lora(model):
            model.save_pretrained(scratch, state_dict=state, **options)
        (scratch / "README.md").unlink(missing_ok=True)  # peft's empty model card template
        tokenizer.save_pretrained(scratch)
        if base_fingerprint:
            base = {"sha256": base_fingerprint} | ({"quantize_bits": quantize_bits} if quantize_bits else {})
            (scratch / BASE_FINGERPRINT).write_text(json.dumps(base) + "\n", encoding="utf-8")
            _sort_lists(scratch / "adapter_config.json")
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)  # it may fill the disk
        raise
    shutil.rmtree(directory, ignore_errors=True)
    scratch.rename(directory)


def _sort_lists(path: Path) -> None:
    # peft stores target names as a set, whose order differs between processes.
    content = json.loads(path.read_text(encoding="utf-8"))
    for key, value in content.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            content[key] = sorted(value)
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def quantized_bits(adapter: Path) -> int | None:
    """Bits to which the base of a saved adapter was quantized while it was loaded, with --method qlora."""
    bits = _base_record(adapter).get("quantize_bits")
    if bits not in (None, 4, 8):
        raise UserError(f"{adapter / BASE_FINGERPRINT}: quantize_bits is not 4 or 8. {RESTORE}")
    return bits


def _base_record(adapter: Path) -> dict[str, Any]:
    """What :func:`save_model` wrote about an adapter's base: sha256, quantize_bits. Empty if another tool saved it."""
    path = adapter / BASE_FINGERPRINT
    return read_json(path) if path.is_file() else {}


@quiet_peft()
def _load_adapter(model: Any, location: Location, setting: str) -> Any:
    import peft

    assert location.adapter is not None
    mismatch = f"{setting} {location.adapter}: this adapter belongs to another base model than {location.base}"
    recorded = _base_record(location.adapter).get("sha256")
    if recorded and recorded != weights_fingerprint(model):
        raise UserError(
            f"{mismatch}: it was trained on other weights. Correct base_model_name_or_path in adapter_config.json."
        )
    if not (location.adapter / "adapter_model.safetensors").is_file():
        raise UserError(f"{setting} {location.adapter}: adapter_model.safetensors is missing.")
    try:
        config = peft.PeftConfig.from_pretrained(str(location.adapter))
        if config.peft_type is None:
            raise ValueError("it names no peft_type")
        forget_adapter_code(config)
    except Exception as error:  # for a value of the wrong type, nearly any
        raise UserError(
            f"{setting} {location.adapter}: adapter_config.json cannot be read: {first_line(error)}. Copy it again."
        ) from None
    try:
        adapted = peft.PeftModel.from_pretrained(model, str(location.adapter), is_trainable=False, config=config)
    except SafetensorError as error:
        raise UserError(
            f"{setting} {location.adapter}: adapter_model.safetensors is damaged: {first_line(error)}. Copy it again."
        ) from None
    except Exception as error:  # shapes or layers that the base does not have, or values of the wrong type
        raise UserError(f"{mismatch}: {first_line(error)}") from None
    # If only some layers differ, peft skips or initializes them, with at most a warning.
    with safe_open(location.adapter / "adapter_model.safetensors", "pt") as file:
        saved = set(file.keys())
    loaded = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False).keys()
    matrices = _lora_matrices(saved), _lora_matrices(loaded)
    if differing := sorted(matrices[0] ^ matrices[1]):
        raise UserError(f"{mismatch}: {len(differing)} of its layers differ, the first is {differing[0]}.")
    unused = {name for name in saved - loaded if ".lora_" in name}  # magnitudes of dora, say
    if differing := sorted(unused | (loaded - saved)):
        raise UserError(
            f"{setting} {location.adapter}: adapter_model.safetensors does not have the tensors that "
            f"adapter_config.json says: {len(differing)} differ, the first is {differing[0]}. Copy both again."
        )
    return adapted


def _lora_matrices(names: Iterable[str]) -> set[str]:
    return {name for name in names if ".lora_A." in name or ".lora_B." in name}
