"""Train a byte-level BPE tokenizer and write an untrained GPT-2 beside it: what --from-scratch starts from.

    python recipes/make_tokenizer.py --data docstrings --vocab-size 4096 --output-dir my-gpt2
    accelerate launch recipes/finetune.py --model my-gpt2 --from-scratch --data docstrings

The tokenizer sees the training side of the split only, so the held-out text stays unseen by all of the model.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from textgen.config import parse
from textgen.data.config import DataConfig
from textgen.errors import UserError

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class ShapeConfig:
    """The tokenizer, and the shape of the GPT-2 that will use it."""

    output_dir: str
    """Directory to write; it must not exist."""
    config: str | None = None
    """YAML file with settings."""
    vocab_size: int = 4096
    """Tokens in the vocabulary, the end-of-text token included."""
    context: int = 256
    """Positions that the model can see."""
    width: int = 128
    """Dimensions of a token's representation."""
    layers: int = 4
    """Transformer blocks."""
    heads: int = 4
    """Attention heads; they divide the width."""


@dataclass(frozen=True)
class MakeTokenizerConfig:
    data: DataConfig
    shape: ShapeConfig


def main() -> None:
    config = parse(MakeTokenizerConfig, description=(__doc__ or "").split("\n")[0])
    shape = config.shape
    output = Path(shape.output_dir)
    if output.exists():
        raise UserError(f"--output-dir {output}: it exists already; name a new directory.")
    if shape.width % shape.heads:
        raise UserError(f"--heads {shape.heads}: does not divide --width {shape.width}.")

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2Config, PreTrainedTokenizerFast

    from textgen.data.readers import training_documents

    texts = (document.text for document in training_documents(config.data))

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        model_max_length=shape.context,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.save_pretrained(output)
    GPT2Config(
        architectures=["GPT2LMHeadModel"],
        vocab_size=len(tokenizer),
        n_positions=shape.context,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        # The tanh GELU of GPT-2 as torch's one fused operation: the same numbers, less memory and time.
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    ).save_pretrained(output)
    print(f"wrote {output}: a tokenizer of {len(tokenizer)} tokens and the configuration of an untrained GPT-2")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
