"""Loading a model for training or evaluation, and saving the result as plain files.

Weights come from safetensors only, so that loading a model runs no code; remote code stays off unless asked for.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from textgen.errors import UserError
from textgen.model.config import ModelConfig
from textgen.model.locate import Location, first_line, model_config
from textgen.model.lora import as_plain_lora, without_bitsandbytes
from textgen.model.quantized import quantization, trainable_again

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
    """The model in float32: pretrained, with random weights (``from_scratch``), or an adapter on its base.

    Its dropout is what ``config`` says; what its config.json says is kept, for when it is saved again.

    Args:
        location: where it is.
        config: what to load of it.
        seed: of random weights.
        setting: the flag that named it.
        quantize_bits: 4 or 8 holds the weights of linear layers in so many bits (:mod:`textgen.model.quantized`). An
            adapter that was trained on such weights is loaded on such weights, whatever is asked for here.
        compute_dtype: that 4-bit weights are multiplied in.

    Raises:
        UserError: there are no safetensors weights, or damaged or incomplete ones, or the adapter was trained on
            another base.
    """
    architecture = model_config(location, config, setting=setting)
    own_dropout = set_dropout(architecture, config.dropout, config.attention_dropout)
    if location.adapter:
        quantize_bits = _recorded_base(location.adapter).get("quantize_bits")
    if config.from_scratch:
        model = _random_model(location, config, architecture, seed, setting)
    else:
        model = _pretrained_model(location, config, architecture, setting, quantize_bits, compute_dtype)
    for name, value in own_dropout.items():  # the layers have been built; this is what gets saved
        setattr(model.config, name, value)
    return _load_adapter(model, location, setting) if location.adapter else model


def _random_model(location: Location, config: ModelConfig, architecture: Any, seed: int, setting: str) -> Any:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    try:
        return AutoModelForCausalLM.from_config(
            architecture, dtype=torch.float32, trust_remote_code=config.trust_remote_code
        )
    except ValueError as error:
        raise UserError(f"{setting} {location.base}: no causal language model: {first_line(error)}") from None


def _pretrained_model(
    location: Location, config: ModelConfig, architecture: Any, setting: str, bits: int | None, dtype: torch.dtype
) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            location.base,
            config=architecture,
            revision=location.revision,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=config.trust_remote_code,
            output_loading_info=True,
            **(quantization(bits, dtype) if bits else {}),
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f"{setting} {location.base}: its weights cannot be loaded: {first_line(error)} "
            "(Weights are read from safetensors files only; use --from-scratch for an architecture without weights.)"
        ) from None
    except RuntimeError as error:
        raise UserError(
            f"{setting} {location.base}: its weights do not fit its config.json: {first_line(error)}"
        ) from None
    model, report = loaded
    if missing := sorted(report["missing_keys"]):  # transformers would go on with random numbers there
        raise UserError(
            f"{setting} {location.base}: its weights are incomplete: {len(missing)} missing, first {missing[0]}. "
            "Copy or download the model again."
        )
    return trainable_again(model) if bits else model


def set_dropout(architecture: Any, dropout: float, attention_dropout: float) -> dict[str, float]:
    """Set every dropout probability of a model's configuration, by whatever name its family calls them.

    Returns:
        What they were, by name.
    """
    before: dict[str, float] = {}
    for name, value in list(architecture.to_dict().items()):
        # A JSON file may say 0 for 0.0; a flag such as use_dropout is an int to Python, but no probability.
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and (name.endswith(("dropout", "pdrop")) or "_dropout" in name):
            before[name] = value
            setattr(architecture, name, attention_dropout if name.startswith(("attn", "attention")) else dropout)
    return before


def parameter_counts(model: torch.nn.Module) -> tuple[int, int]:
    """Numbers of trainable and of all parameters; tied ones count once."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)


def weights_fingerprint(model: torch.nn.Module) -> str:
    """SHA-256 of the names, shapes and values of all parameters."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name}{tuple(parameter.shape)}{parameter.dtype}".encode())
        digest.update(raw_bytes(parameter.detach()))
    return digest.hexdigest()


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """A tensor's bytes, copied: one that NumPy has looked into can never be resized again, which FSDP does."""
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
    """Write the model as transformers (and, for adapters, peft) load it, tokenizer included; whole or not at all.

    Args:
        model: a transformers model or a peft model.
        tokenizer: saved beside it.
        directory: replaced if it exists.
        base_fingerprint: for adapters, the :func:`weights_fingerprint` of the base, so that a later load on another
            base is noticed.
        quantize_bits: that the base was held in.
        state: the model's state dictionary, where the model itself holds a part of it only.
    """
    scratch = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    options: dict[str, Any] = {"save_embedding_layers": False} if base_fingerprint else {}
    with as_plain_lora(model):
        model.save_pretrained(scratch, state_dict=state, **options)
    (scratch / "README.md").unlink(missing_ok=True)  # peft's template of a card, all of it "[More Information Needed]"
    tokenizer.save_pretrained(scratch)
    if base_fingerprint:
        base = {"sha256": base_fingerprint} | ({"quantize_bits": quantize_bits} if quantize_bits else {})
        (scratch / BASE_FINGERPRINT).write_text(json.dumps(base) + "\n")
        _sort_lists(scratch / "adapter_config.json")
    shutil.rmtree(directory, ignore_errors=True)
    scratch.rename(directory)


def _sort_lists(path: Path) -> None:
    # peft keeps target names in a set, whose order changes from process to process.
    content = json.loads(path.read_text())
    for key, value in content.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            content[key] = sorted(value)
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def _recorded_base(adapter: Path) -> dict[str, Any]:
    """What :func:`save_model` wrote about the base of an adapter; empty for one that was trained elsewhere."""
    path = adapter / BASE_FINGERPRINT
    return json.loads(path.read_text()) if path.is_file() else {}


@without_bitsandbytes()
def _load_adapter(model: Any, location: Location, setting: str) -> Any:
    import peft

    assert location.adapter is not None
    wrong_base = f"{setting} {location.adapter}: an adapter for another base model than {location.base}"
    recorded = _recorded_base(location.adapter).get("sha256")
    if recorded and recorded != weights_fingerprint(model):
        raise UserError(
            f"{wrong_base}: the weights there are not the ones it was trained on. "
            "Correct base_model_name_or_path in adapter_config.json."
        )
    if not (location.adapter / "adapter_model.safetensors").is_file():
        raise UserError(f"{setting} {location.adapter}: there is no adapter_model.safetensors in it.")
    try:
        adapted = peft.PeftModel.from_pretrained(model, str(location.adapter), is_trainable=False)
    except (RuntimeError, ValueError, KeyError) as error:  # shapes or layers that the base does not have
        raise UserError(f"{wrong_base}: {first_line(error)}") from None
    # Where only some layers are others, peft leaves them out or makes them up, with at most a warning.
    with safe_open(location.adapter / "adapter_model.safetensors", "pt") as file:
        saved = _low_rank(file.keys())
    if lost := sorted(saved ^ _low_rank(peft.get_peft_model_state_dict(adapted, save_embedding_layers=False))):
        raise UserError(f"{wrong_base}: {len(lost)} of its layers are others, the first is {lost[0]}.")
    return adapted


def _low_rank(names: Iterable[str]) -> set[str]:
    return {name for name in names if ".lora_A." in name or ".lora_B." in name}
