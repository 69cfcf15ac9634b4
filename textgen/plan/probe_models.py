"""Loading models only to know that they can be loaded, and are causal: before data is read, and in a dry run."""

from collections.abc import Iterable
from pathlib import Path

import psutil
import torch
from accelerate import Accelerator

from textgen.model.build import check_training, load_frozen
from textgen.model.locate import FoundModel


def probe_models(models: Iterable[FoundModel | None], accelerator: Accelerator, *, seed: int) -> None:
    """Load each model, probe it (:mod:`textgen.model.probe`), and forget it. None stands for a model not asked for.

    This is for the models that are used much later, so that a wrong one is refused before the hours in between.

    Raises:
        UserError: its weights cannot be loaded, or it is not a causal language model.
    """
    for found in models:
        if found is not None:
            load_frozen(found, device=accelerator.device, seed=seed)


def probe_in_dry_run(found: FoundModel, *, seed: int, trained: bool = False, isolated: bool = False) -> str:
    """Load a model whose weights are on this machine onto the CPU, and probe it; returns what was done, as a phrase.

    Args:
        found: the model.
        seed: random seed of random weights.
        trained: whether it is the model to train.
        isolated: whether documents in one row must not see each other in training.

    Raises:
        UserError: its weights cannot be loaded, it is not a causal language model, or it cannot be trained so.
    """
    needed = 4 * found.parameters
    if not _is_local(found):
        return "not loaded, since its weights are not on this machine"
    if needed > psutil.virtual_memory().available:
        return f"not loaded, since its weights take {needed / 1e9:,.0f} GB of memory"
    model = load_frozen(found, device=torch.device("cpu"), seed=seed)
    if trained:
        check_training(model, found, isolated=isolated)
    return "loaded, and predicts each token from those before it"


def _is_local(found: FoundModel) -> bool:
    from huggingface_hub import try_to_load_from_cache

    base, revision = found.location.base, found.location.revision
    if found.config.from_scratch or Path(base).is_dir():
        return True
    files = ("model.safetensors", "model.safetensors.index.json")
    return any(isinstance(try_to_load_from_cache(base, file, revision=revision), str) for file in files)
