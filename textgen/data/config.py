"""Settings of the data: training and held-out text, and block size."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataConfig:
    """Training and held-out text. A hash of a document's text decides whether it is held out."""

    data: str = "python-reference"
    """Training text: a bundled corpus (python-reference, docstrings), a .txt, .jsonl, .csv or .parquet file, a
    directory, a glob pattern, a hub dataset id (id:split for a split other than train), or a synthetic source of known
    entropy, such as markov:seed=1."""
    data_config: str | None = None
    """Configuration (subset) of a hub dataset."""
    text_column: str = "text"
    """Column that contains the text, in .jsonl, .csv, .parquet and hub data."""
    one_document: bool = False
    """Treat each .txt file as one document. By default, blank lines separate documents."""
    validation_data: str | None = None
    """Held-out text, specified like --data. Default: part of --data, see --validation-fraction."""
    validation_fraction: float = 0.1
    """Fraction of the documents of --data to hold out if there is no --validation-data; at least one document is held
    out."""
    retain_data: str | None = None
    """General text, specified like --data: perplexity on it before and after shows what fine-tuning cost elsewhere."""
    block_size: int = 128
    """Tokens per block, the unit of the batch size; at most the model's context."""
    packing: bool = True
    """Let blocks run across document boundaries; --no-packing starts a new block with each document."""

    def problems(self) -> list[str]:
        """Invalid settings, one message each."""
        found = []
        if not 0 < self.validation_fraction < 1:
            found.append(
                f"--validation-fraction {self.validation_fraction}: must be between 0 and 1, such as 0.1. Without "
                "held-out text, the model cannot be evaluated."
            )
        if self.block_size < 2:
            found.append(f"--block-size {self.block_size}: must be at least 2, to predict one token from another.")
        return found
