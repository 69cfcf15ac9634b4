"""Low-rank adapters (LoRA, arXiv 2106.09685) and their variants, added to the weights that are found by structure."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from textgen.model.adapters.quiet_peft import quiet_peft
from textgen.model.adapters.targets import AdapterTargets, find_targets, shorten
from textgen.model.config import AdapterConfig

# Variant → arguments of peft.LoraConfig.
VARIANTS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},  # scaled by alpha / sqrt(rank): Kalajdzievski, arXiv 2312.03732
    "dora": {"use_dora": True},  # separate magnitude and direction: Liu et al., arXiv 2402.09353
    "pissa": {"init_lora_weights": "pissa"},  # starts from principal components: Meng et al., arXiv 2404.02948
}


@quiet_peft()
def add_adapters(
    model: Any,
    config: AdapterConfig,
    base_name: str,
    *,
    seed: int,
    dtype: torch.dtype | None = None,
    targets: AdapterTargets | None = None,
) -> Any:
    """Add new adapters to a model and freeze everything else.

    Args:
        model: the base model; the result shares its weights. With pissa, the principal components are moved from its
            weights into the adapters; :func:`as_plain_lora` reverses that when saving.
        config: variant, rank, alpha, dropout and targets.
        base_name: the base model's name in the saved adapter: a directory or hub id.
        seed: random seed of the A matrices; the B matrices start at zero.
        dtype: dtype of the frozen weights; unchanged by default. Adapters are float32.
        targets: what :func:`textgen.model.adapters.targets.find_targets` found, if that is known.

    Returns:
        The peft model.

    Raises:
        UserError: a target does not exist, or cannot be adapted.
    """
    import peft

    targets = targets or find_targets(model, config)
    modules = dict(model.named_modules())
    parameters = targets.parameters()
    model.name_or_path = base_name
    adapters = peft.LoraConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        base_model_name_or_path=base_name,
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,  # type: ignore[arg-type]  # a float works: peft divides it
        lora_dropout=config.lora_dropout,
        target_modules=shorten(targets.modules(), modules),
        target_parameters=shorten(parameters, dict(model.named_parameters()), parts=2) if parameters else None,
        fan_in_fan_out=any(isinstance(modules[name], Conv1D) for name in targets.modules()),
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
