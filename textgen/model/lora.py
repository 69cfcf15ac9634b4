"""Low-rank adapters (LoRA, arXiv 2106.09685) and their variants, added to linear layers that are found by type."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D
from transformers.utils import is_bitsandbytes_available

from textgen.errors import UserError
from textgen.model.config import AdapterConfig

# Variant → arguments of peft.LoraConfig.
VARIANTS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},  # scaled by alpha / sqrt(rank): Kalajdzievski, arXiv 2312.03732
    "dora": {"use_dora": True},  # separate magnitude and direction: Liu et al., arXiv 2402.09353
    "pissa": {"init_lora_weights": "pissa"},  # starts from principal components: Meng et al., arXiv 2404.02948
}


def linear_layers(model: Any) -> dict[str, torch.nn.Module]:
    """Every linear layer by its full name, except the output head.

    Decided by type: ``nn.Linear``, or GPT-2's ``Conv1D``, a linear layer whose weight is stored transposed.
    """
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
    }


def adapter_targets(model: Any, lora_targets: str) -> list[str]:
    """Full names of the layers that get an adapter.

    Args:
        model: the base model.
        lora_targets: "auto", or comma-separated names or name suffixes (``c_attn``, ``attn.c_proj``).

    Raises:
        UserError: a name matches no linear layer; the message lists the names that exist.
    """
    layers = list(linear_layers(model))
    if lora_targets.strip() == "auto":
        return layers
    names = [name.strip() for name in lora_targets.split(",") if name.strip()]
    missing = [name for name in names if not any(_matches(layer, name) for layer in layers)]
    if missing or not names:
        existing = sorted({layer.rsplit(".", 1)[-1] for layer in layers})
        raise UserError(
            f"--lora-targets {', '.join(missing) or repr(lora_targets)}: the model has no such linear layer. "
            f"It has: {', '.join(existing)}."
        )
    return [layer for layer in layers if any(_matches(layer, name) for name in names)]


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Run code of peft without its warnings, and without bitsandbytes unless that is already imported.

    Its warnings are about its own use of transformers. If bitsandbytes is installed, peft imports it, and with it
    torch's compiler: that takes a second and 50 MB.
    """
    logging.getLogger("peft").setLevel(logging.ERROR)
    with warnings.catch_warnings(), _hide_bitsandbytes():
        warnings.simplefilter("ignore", FutureWarning)
        yield


@contextmanager
def _hide_bitsandbytes() -> Iterator[None]:
    if "bitsandbytes" in sys.modules:
        yield
        return
    sys.modules["bitsandbytes"] = None  # type: ignore[assignment]  # makes Python raise ImportError
    try:
        yield
    finally:
        del sys.modules["bitsandbytes"]
        from peft.import_utils import is_bnb_4bit_available, is_bnb_available

        for check in (is_bnb_available, is_bnb_4bit_available, is_bitsandbytes_available):
            check.cache_clear()


@quiet_peft()
def add_adapters(
    model: Any, config: AdapterConfig, base_name: str, *, seed: int, dtype: torch.dtype | None = None
) -> Any:
    """Add new adapters to a model and freeze everything else.

    Args:
        model: the base model; the result shares its weights. With pissa, the principal components are moved from its
            weights into the adapters; :func:`as_plain_lora` reverses that when saving.
        config: variant, rank, alpha, dropout and targets.
        base_name: the base model's name in the saved adapter: a directory or hub id.
        seed: random seed of the A matrices; the B matrices start at zero.
        dtype: dtype of the frozen weights; unchanged by default. Adapters are float32.

    Returns:
        The peft model.

    Raises:
        UserError: a target layer does not exist.
    """
    import peft

    targets = adapter_targets(model, config.lora_targets)
    layers = linear_layers(model)
    model.name_or_path = base_name
    adapters = peft.LoraConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        base_model_name_or_path=base_name,
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,  # type: ignore[arg-type]  # a float works: peft divides it
        lora_dropout=config.lora_dropout,
        target_modules=_shorten(targets, list(layers)),
        fan_in_fan_out=any(isinstance(layers[name], Conv1D) for name in targets),
        **VARIANTS[config.lora_variant],
    )
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
    """Inside, a PiSSA adapter is saved as a plain LoRA of the original base. Other variants do not change their base.

    PiSSA trains B A on the base minus B₀ A₀. The difference from the original, B A - B₀ A₀, is a LoRA of twice the
    rank: [B, -B₀] and [A; A₀] (arXiv 2404.02948, appendix C).
    """
    initial = getattr(model, "initial_adapters", None)
    if initial is None:
        yield
        return
    config = model.peft_config["default"]
    original = config.r, config.lora_alpha, config.init_lora_weights
    parameters = {name: p for name, p in model.named_parameters() if name in initial}
    trained = {name: p.data for name, p in parameters.items()}
    for name, p in parameters.items():
        is_a = ".lora_A." in name
        p.data = torch.cat([p.data, initial[name].to(p.device) * (1 if is_a else -1)], dim=0 if is_a else 1)
    config.r, config.lora_alpha, config.init_lora_weights = 2 * original[0], 2 * original[1], True
    try:
        yield
    finally:
        for name, p in parameters.items():
            p.data = trained[name]
        config.r, config.lora_alpha, config.init_lora_weights = original


def _matches(layer: str, name: str) -> bool:
    return layer == name or layer.endswith("." + name)


def _shorten(targets: list[str], layers: list[str]) -> list[str]:
    """The last parts of the target names if they match exactly the targets, otherwise the full names."""
    leaves = sorted({name.rsplit(".", 1)[-1] for name in targets})
    matched = {layer for layer in layers if any(_matches(layer, leaf) for leaf in leaves)}
    return leaves if matched == set(targets) else sorted(targets)
