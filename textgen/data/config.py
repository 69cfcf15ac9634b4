"""Settings of the data: training and held-out text, and block size."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DataConfig:
    """Training and held-out text. A hash of a document's text decides whether it is held out."""

    data: str = "python-reference"
    """Training text: a bundled corpus (python-reference, docstrings, and python-topics, a task), a .txt, .jsonl, .json,
    .csv, .tsv, .parquet or .arrow file (text also as .gz or .zst), a directory or glob pattern of them, a URL
    (https://, hf://, s3://), a hub dataset id (id:split for a split other than train), or a synthetic source of known
    entropy, such as markov:seed=1. Or a mixture of several, with weights: a.jsonl:0.7,b/:0.3."""
    data_config: str | None = None
    """Configuration (subset) of a hub dataset."""
    text_column: str = "text"
    """Column or key that contains the text, in all formats but .txt. Without it, the columns prompt and completion,
    messages (a chat) or conversations (ShareGPT) are examples of a task."""
    one_document: bool = False
    """Treat each .txt file as one document. By default, blank lines separate documents."""
    validation_data: str | None = None
    """Held-out text, specified like --data, but no mixture. Default: part of --data, see --validation-fraction."""
    validation_fraction: float = 0.1
    """Fraction of the documents of --data to hold out if there is no --validation-data; at least one document is held
    out."""
    retain_data: str | None = None
    """General text, specified like --data, but no mixture: perplexity on it before and after shows what fine-tuning
    cost elsewhere."""
    verify_data: bool = False
    """Read all data files again to see whether their content has changed. By default, a file that was read before is
    recognized by its size, its time stamps and a sample of its content."""
    block_size: int | Literal["auto"] = "auto"
    """Tokens per block, the unit of the batch size; at most the model's context. auto: up to 1,024, as context and
    amount of data allow, and 128 with little data; for examples of a task, as long as 95 % of them need."""
    packing: Literal["auto", "joined", "isolated", "none"] = "auto"
    """How documents fill blocks. joined: one after another, across the ends of blocks; isolated: the same, but
    documents in a block do not see each other; none: each document starts a new block. auto: joined for texts, and none
    for examples of a task. --no-packing is short for --packing none."""
    loss_on: Literal["completion", "all"] = "completion"
    """What is trained on and scored of examples of a task: the completion, or the assistant's messages; or all."""

    def problems(self) -> list[str]:
        """Invalid settings, one message each."""
        found = []
        if not 0 < self.validation_fraction < 1:
            found.append(
                f"--validation-fraction {self.validation_fraction}: must be between 0 and 1, such as 0.1. Without "
                "held-out text, the model cannot be evaluated."
            )
        if self.block_size != "auto" and self.block_size < 2:
            found.append(f"--block-size {self.block_size}: must be at least 2, to predict one token from another.")
        return found
