"""A model ready to be measured: what every measurement takes, in one object."""

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
        accelerator: its processes share the work; each ends up with the same results.
        model: unwrapped, full or with adapters, on the accelerator's device. It is left in the mode it was in.
        tokenizer: the model's own.
        context: number of tokens that the model can see.
        name: what results call it.
    """

    accelerator: Accelerator
    model: Any
    tokenizer: PreTrainedTokenizerBase
    context: int
    name: str = ""

    @classmethod
    def load(cls, accelerator: Accelerator, found: FoundModel, *, seed: int) -> "LoadedModel":
        """Load a model to be measured as it is.

        Raises:
            UserError: its weights cannot be loaded.
        """
        model = load_frozen(found, device=accelerator.device, seed=seed)
        return cls(accelerator, model, found.tokenizer, found.context, found.config.model)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.accelerator.device

    @property
    def eos_token_id(self) -> int | None:
        """The end-of-text token, if the tokenizer has one."""
        return self.tokenizer.eos_token_id
