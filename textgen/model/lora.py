"""Low-rank adapters (LoRA, arXiv 2106.09685) and their variants, placed by structure."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D
from transformers.utils import is_bitsandbytes_available

from textgen.errors import UserError
from textgen.model.config import AdapterConfig

# Variant → what it asks of peft.LoraConfig.
VARIANTS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},  # scaled by alpha / sqrt(rank): Kalajdzievski, arXiv 2312.03732
    "dora": {"use_dora": True},  # magnitude and direction apart: Liu et al., arXiv 2402.09353
    "pissa": {"init_lora_weights": "pissa"},  # starts from principal components: Meng et al., arXiv 2404.02948
}


def linear_layers(model: Any) -> dict[str, torch.nn.Module]:
    """Every layer that multiplies by a weight matrix, by its full name, but for the output head.

    Decided by what a layer is: ``nn.Linear``, or GPT-2's ``Conv1D``, which is a linear layer stored transposed.
    """
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
    }


def adapter_targets(model: Any, wanted: str) -> list[str]:
    """Full names of the layers that get an adapter.

    Args:
        model: the base model.
        wanted: "auto", or names as they end (``c_attn``, ``attn.c_proj``), separated by commas.

    Raises:
        UserError: a name matches no linear layer; the names there are follow.
    """
    layers = list(linear_layers(model))
    if wanted.strip() == "auto":
        return layers
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    missing = [name for name in names if not any(_ends_with(layer, name) for layer in layers)]
    if missing or not names:
        there = sorted({layer.rsplit(".", 1)[-1] for layer in layers})
        raise UserError(
            f"--lora-targets {', '.join(missing) or wanted!r}: the model has no such linear layer. "
            f"It has: {', '.join(there)}."
        )
    return [layer for layer in layers if any(_ends_with(layer, name) for name in names)]


@contextmanager
def without_bitsandbytes() -> Iterator[None]:
    """Inside, peft takes bitsandbytes for missing, unless it is in use already.

    Wherever it is installed peft imports it, and with it torch's compiler: a second, and 50 MB.
    """
    if "bitsandbytes" in sys.modules:
        yield
        return
    sys.modules["bitsandbytes"] = None  # type: ignore[assignment]  # how Python notes what cannot be imported
    try:
        yield
    finally:
        del sys.modules["bitsandbytes"]
        from peft.import_utils import is_bnb_4bit_available, is_bnb_available

        for asked in (is_bnb_available, is_bnb_4bit_available, is_bitsandbytes_available):
            asked.cache_clear()  # they remember the answer


@without_bitsandbytes()
def add_adapters(
    model: Any, config: AdapterConfig, base_name: str, *, seed: int, dtype: torch.dtype | None = None
) -> Any:
    """The model with fresh adapters, which alone are trainable.

    Args:
        model: the base model; its weights are shared with the result and frozen. With pissa they become what is left
            of them beside their principal components, which :func:`as_plain_lora` takes back when saving.
        config: variant, rank, alpha, dropout and targets.
        base_name: what the saved adapter will call its base: a directory or hub id.
        seed: of the adapters' random half; the other half starts at zero.
        dtype: that the frozen weights are held in; as they are if not given. Adapters are float32.
    """
    import peft

    targets = adapter_targets(model, config.lora_targets)
    layers = linear_layers(model)
    model.name_or_path = base_name
    adapters = peft.LoraConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        base_model_name_or_path=base_name,
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,  # type: ignore[arg-type]  # peft divides it; a float is fine
        lora_dropout=config.lora_dropout,
        target_modules=_shortest(targets, list(layers)),
        fan_in_fan_out=any(isinstance(layers[name], Conv1D) for name in targets),
        **VARIANTS[config.lora_variant],
    )
    logging.getLogger("peft").setLevel(logging.ERROR)
    torch.manual_seed(seed)
    if dtype is not None and dtype != torch.float32:
        model.to(dtype)
    adapted: Any = peft.get_peft_model(model, adapters)
    if config.lora_variant == "pissa":
        adapted.initial_adapters = {
            name: p.detach().clone() for name, p in adapted.named_parameters() if p.requires_grad
        }
    return adapted


@contextmanager
def as_plain_lora(model: Any) -> Iterator[None]:
    """Inside, an adapter saves itself as a plain LoRA of the original base, whatever its variant did to that base.

    PiSSA trains B A on the base less B₀ A₀. The change from the original, B A - B₀ A₀, is a LoRA of twice the rank:
    [B, -B₀] and [A; A₀] (arXiv 2404.02948, appendix C).
    """
    initial = getattr(model, "initial_adapters", None)
    if initial is None:
        yield
        return
    config = model.peft_config["default"]
    before = config.r, config.lora_alpha, config.init_lora_weights
    parameters = {name: p for name, p in model.named_parameters() if name in initial}
    trained = {name: p.data for name, p in parameters.items()}
    for name, p in parameters.items():
        down = ".lora_A." in name
        p.data = torch.cat([p.data, initial[name].to(p.device) * (1 if down else -1)], dim=0 if down else 1)
    config.r, config.lora_alpha, config.init_lora_weights = 2 * before[0], 2 * before[1], True
    try:
        yield
    finally:
        for name, p in parameters.items():
            p.data = trained[name]
        config.r, config.lora_alpha, config.init_lora_weights = before


def _ends_with(layer: str, name: str) -> bool:
    return layer == name or layer.endswith("." + name)


def _shortest(targets: list[str], layers: list[str]) -> list[str]:
    """Last parts of the names where they mean exactly the targets, else the full names."""
    leaves = sorted({name.rsplit(".", 1)[-1] for name in targets})
    meant = {layer for layer in layers if any(_ends_with(layer, leaf) for leaf in leaves)}
    return leaves if meant == set(targets) else sorted(targets)
