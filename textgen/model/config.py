"""Settings of the model and its adapters: what to load, and which parameters to train."""

from dataclasses import dataclass
from typing import Literal

from textgen.config import flag
from textgen.launch_environment import on_cpu


@dataclass(frozen=True)
class ModelConfig:
    """The model: any Hugging Face causal language model, trained in full or through adapters."""

    model: str = "tiny-gpt2"
    """The bundled tiny-gpt2, a local directory, or a hub id such as gpt2."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
    from_scratch: bool = False
    """Start from random weights; only the architecture and the tokenizer come from --model."""
    method: Literal["full", "lora", "qlora"] = "full"
    """full: train all parameters; lora: train low-rank adapters on frozen weights; qlora: the same, with the frozen
    weights quantized to --qlora-bits."""
    dropout: float = 0.0
    """Dropout probability during training, everywhere except in attention; overrides the model's own config."""
    attention_dropout: float = 0.0
    """Dropout probability of attention weights. Above 0, attention uses a slower kernel that stores all its weights."""
    special_tokens_in_text: bool = False
    """Read the name of a special token in a text, such as <|endoftext|>, as that token. By default it is text like any
    other, so that a page about the token does not end there."""
    chat_template: str | None = None
    """File with a Jinja chat template, for data of chats. Default: the tokenizer's own."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Read that code first."""

    def problems(self) -> list[str]:
        """Invalid settings, one message each."""
        found = []
        for name in ("dropout", "attention_dropout"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                found.append(f"{flag(name)} {value}: must be at least 0 and below 1.")
        if self.from_scratch and self.method != "full":
            found.append(
                f"--from-scratch with --method {self.method}: adapters need pretrained weights. Use --method full."
            )
        return found


@dataclass(frozen=True)
class AdapterConfig:
    """Low-rank adapters, for --method lora (arXiv 2106.09685) and qlora (arXiv 2305.14314)."""

    lora_rank: int = 8
    """Rank of the adapters."""
    lora_alpha: float = 16.0
    """Scale of the adapters: their output is multiplied by alpha / rank."""
    lora_dropout: float = 0.0
    """Dropout probability on the adapters' input."""
    lora_targets: str = "auto"
    """Weights that get adapters: comma-separated names or name suffixes, such as c_attn,mlp.c_fc; auto: every linear
    layer except the output head and the routers of experts, and the experts' stacked weights."""
    lora_variant: Literal["lora", "rslora", "dora", "pissa"] = "lora"
    """rslora: scale by alpha / sqrt(rank); dora: train magnitude and direction of the weights separately; pissa:
    initialize with the principal components of the weights."""
    lora_plus_ratio: float = 1.0
    """Learning rate of the adapters' B matrices, as a multiple of --learning-rate (LoRA+, arXiv 2402.12354); 16 is
    usual."""
    qlora_bits: Literal[4, 8] = 4
    """Bits of the frozen weights with --method qlora."""

    def problems(self, method: str) -> list[str]:
        """Invalid settings, one message each.

        Args:
            method: ``--method``.
        """
        found = []
        if self.lora_rank < 1:
            found.append(f"--lora-rank {self.lora_rank}: must be at least 1; 8 is usual.")
        if not 0 < self.lora_alpha < float("inf"):
            found.append(f"--lora-alpha {self.lora_alpha}: must be positive and finite; twice the rank is usual.")
        if not 0 <= self.lora_dropout < 1:
            found.append(f"--lora-dropout {self.lora_dropout}: must be at least 0 and below 1.")
        if not 0 < self.lora_plus_ratio < float("inf"):
            found.append(
                f"--lora-plus-ratio {self.lora_plus_ratio}: must be positive and finite; 1 is plain LoRA, 16 is usual."
            )
        return found + (self.quantization_problems(method, self.qlora_bits) if method == "qlora" else [])

    def quantization_problems(self, method: str, bits: int) -> list[str]:
        """Settings that quantized weights make impossible, one message each.

        Args:
            method: ``--method``.
            bits: bits of the weights: those of ``--qlora-bits``, or of a checkpoint that was saved quantized.
        """
        chosen = f"--method {method} with --lora-variant {self.lora_variant}"
        if self.lora_variant == "pissa":  # peft takes the principal components of floating-point weights only
            return [f"{chosen}: pissa needs unquantized weights. Use --method lora on them, or another --lora-variant."]
        # peft needs the weights' norms at every step, and on a CPU loses the scales of 8-bit weights in computing them.
        if self.lora_variant == "dora" and bits == 8 and on_cpu():
            remedy = "Use weights in 4 bits (--qlora-bits 4), or another --lora-variant."
            return [f"{chosen} and weights in 8 bits: not supported on CPU. {remedy}"]
        return []
