"""A model ready to be measured: the model argument of every measurement."""

from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase

from textgen.model.build import load_frozen
from textgen.model.locate import FoundModel


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model on its device, with its tokenizer.

    Attributes:
        accelerator: its processes divide the work, and all end up with the same results.
        model: the unwrapped model, full or with adapters, on the accelerator's device. Measurements restore its mode.
        tokenizer: the model's tokenizer.
        context: maximum number of tokens the model reads at once.
        name: the model's name in results.
    """

    accelerator: Accelerator
    model: Any
    tokenizer: PreTrainedTokenizerBase
    context: int
    name: str = ""

    @classmethod
    def load(cls, accelerator: Accelerator, found: FoundModel, *, seed: int) -> "LoadedModel":
        """Load a model onto the accelerator's device, as it is.

        Raises:
            UserError: the weights cannot be loaded.
        """
        model = load_frozen(found, device=accelerator.device, seed=seed)
        return cls(accelerator, model, found.tokenizer, found.context, found.config.model)

    @property
    def device(self) -> torch.device:
        """The model's device."""
        return self.accelerator.device

    @property
    def eos_token_id(self) -> int | None:
        """The end-of-text token, or None if the tokenizer has none."""
        return self.tokenizer.eos_token_id
