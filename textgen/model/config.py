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
    method: Literal["full", "lora", "qlora"] = "full"
    """Train every parameter, or low-rank adapters beside frozen ones (lora), which qlora keeps in 4 or 8 bits."""
    dropout: float = 0.0
    """Dropout while training, everywhere but in attention, whatever the model's own config says."""
    attention_dropout: float = 0.0
    """Dropout of attention weights; above 0, attention takes a slower way that stores them all."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Read it first."""

    def problems(self) -> list[str]:
        """What is wrong with these settings by themselves, one remedy each."""
        found = []
        for name in ("dropout", "attention_dropout"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                found.append(f"--{name.replace('_', '-')} {value}: give a probability below 1.")
        if self.from_scratch and self.method != "full":
            found.append(f"--from-scratch with --method {self.method}: random weights have nothing to adapt; use full.")
        return found


@dataclass(frozen=True)
class AdapterConfig:
    """Adapters, for --method lora (arXiv 2106.09685) and qlora (arXiv 2305.14314)."""

    lora_rank: int = 8
    """Rank of the adapters."""
    lora_alpha: float = 16.0
    """Adapters are scaled by alpha / rank."""
    lora_dropout: float = 0.0
    """Dropout on the adapters' input."""
    lora_targets: str = "auto"
    """Names of the layers that get adapters, separated by commas; auto takes every linear layer but the head."""
    lora_variant: Literal["lora", "rslora", "dora", "pissa"] = "lora"
    """rslora scales by alpha / sqrt(rank); dora learns magnitudes apart from directions; pissa starts from the weights'
    principal components."""
    lora_plus_ratio: float = 1.0
    """Learning rate of the adapters' B matrices as a multiple of the others' (LoRA+, arXiv 2402.12354); 16 is usual."""
    qlora_bits: Literal[4, 8] = 4
    """Bits of the frozen weights with --method qlora."""

    def problems(self) -> list[str]:
        """What is wrong with these settings by themselves, one remedy each."""
        found = []
        if self.lora_rank < 1:
            found.append(f"--lora-rank {self.lora_rank}: give a rank of at least 1; 8 is usual.")
        if self.lora_alpha <= 0:
            found.append(f"--lora-alpha {self.lora_alpha}: give a positive scale; twice the rank is usual.")
        if not 0 <= self.lora_dropout < 1:
            found.append(f"--lora-dropout {self.lora_dropout}: give a probability below 1.")
        if not 0 < self.lora_plus_ratio < float("inf"):
            found.append(
                f"--lora-plus-ratio {self.lora_plus_ratio}: give a positive multiple; 1 is plain LoRA, 16 is usual."
            )
        return found
