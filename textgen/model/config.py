"""Which model to train, and which of its parameters."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ModelConfig:
    """The model, any Hugging Face causal language model, and whether all of it learns or an adapter does."""

    model: str = "tiny-gpt2"
    """The bundled tiny-gpt2, a local directory, or a hub id such as gpt2."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
    from_scratch: bool = False
    """Take only the model's architecture and tokenizer, and start from random weights."""
    method: Literal["full", "lora"] = "full"
    """Train every parameter, or low-rank adapters beside frozen ones (LoRA, arXiv 2106.09685)."""
    lora_rank: int = 8
    """Rank of the adapters."""
    lora_alpha: float = 16.0
    """Adapters are scaled by alpha / rank."""
    lora_dropout: float = 0.0
    """Dropout on the adapters' input."""
    lora_targets: str = "auto"
    """Names of the layers that get adapters, separated by commas; auto takes every linear layer but the head."""
    dropout: float | None = None
    """Sets every dropout probability of the model; as the model's own config says if not given."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Read it first."""

    def problems(self) -> list[str]:
        """What is wrong with these settings by themselves, one remedy each."""
        found = []
        if self.lora_rank < 1:
            found.append(f"--lora-rank {self.lora_rank}: give a rank of at least 1; 8 is usual.")
        if self.lora_alpha <= 0:
            found.append(f"--lora-alpha {self.lora_alpha}: give a positive scale; twice the rank is usual.")
        if not 0 <= self.lora_dropout < 1:
            found.append(f"--lora-dropout {self.lora_dropout}: give a probability below 1.")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            found.append(f"--dropout {self.dropout}: give a probability below 1.")
        if self.from_scratch and self.method != "full":
            found.append(f"--from-scratch with --method {self.method}: random weights have nothing to adapt; use full.")
        return found
