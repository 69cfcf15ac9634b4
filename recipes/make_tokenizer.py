"""Train a byte-level BPE tokenizer, and save it with the configuration of an untrained GPT-2, for --from-scratch.

    python recipes/make_tokenizer.py --data docstrings --vocab-size 4096 --output-dir my-gpt2
    accelerate launch recipes/finetune.py --model my-gpt2 --from-scratch --data docstrings

The tokenizer is trained on the training documents only, so that the held-out text is unseen by tokenizer and model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from textgen.config import at_least
from textgen.data.config import DataConfig
from textgen.data.sources import DataSources, find_data
from textgen.errors import UserError, collect_problems
from textgen.run.directory import check_writable
from textgen.run.main import run_script

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class ShapeConfig:
    """Size of the tokenizer and of the GPT-2 model."""

    output_dir: str
    """Directory to create."""
    config: str | None = None
    """YAML file of settings; flags override it."""
    vocab_size: int = 4096
    """Tokens in the vocabulary, including 256 bytes and the end-of-text token."""
    context: int = 256
    """Context length of the model in tokens."""
    width: int = 128
    """Hidden size of the model."""
    layers: int = 4
    """Number of transformer blocks."""
    heads: int = 4
    """Number of attention heads; must divide --width."""

    def problems(self) -> list[str]:
        """Invalid settings, one message each."""
        found = at_least(self, {"vocab_size": 257, "context": 1, "width": 1, "layers": 1, "heads": 1})
        if self.heads >= 1 and self.width % self.heads:
            found.append(f"--heads {self.heads}: must divide --width {self.width}.")
        return found


@dataclass(frozen=True)
class MakeTokenizerConfig:
    data: DataConfig
    shape: ShapeConfig


def main(config: MakeTokenizerConfig) -> None:
    sources = check(config)
    for note in sources.notes:
        print(note)

    # Libraries that take seconds to import come after the checks that do not need them.
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2Config, PreTrainedTokenizerFast

    from textgen.data.readers import training_documents

    # ---------------------------------------------------------------------------------------------------- tokenizer
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.shape.vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    bpe.train_from_iterator((document.text for document in training_documents(config.data, sources)), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        model_max_length=config.shape.context,
        clean_up_tokenization_spaces=False,
    )

    # -------------------------------------------------------------------------------------------------------- model
    model = GPT2Config(
        architectures=["GPT2LMHeadModel"],
        vocab_size=len(tokenizer),
        n_positions=config.shape.context,
        n_embd=config.shape.width,
        n_layer=config.shape.layers,
        n_head=config.shape.heads,
        # The tanh GELU of GPT-2 as one fused torch operation: the same numbers, less memory and time.
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )

    output = Path(config.shape.output_dir)
    tokenizer.save_pretrained(output)
    model.save_pretrained(output)
    print(f"wrote {output}: a tokenizer of {len(tokenizer)} tokens and the configuration of an untrained GPT-2")


def check(config: MakeTokenizerConfig) -> DataSources:
    """Check the settings and the output directory, and find the data.

    Raises:
        UserError: something is wrong; every problem that was found is in the message.
    """
    problems = [*config.data.problems(), *config.shape.problems()]
    output = Path(config.shape.output_dir)
    if output.exists():
        problems.append(f"--output-dir {output}: already exists. Choose a new directory.")
    else:
        with collect_problems(problems):
            check_writable(output, setting="--output-dir")
    with collect_problems(problems):
        sources = find_data(config.data)
    if problems:
        raise UserError.of(problems)
    return sources


if __name__ == "__main__":
    run_script(MakeTokenizerConfig, main, description=__doc__)
