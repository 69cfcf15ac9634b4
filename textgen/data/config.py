"""Which texts to train on, which to hold out, and how long a block is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataConfig:
    """The texts. Documents are split into training and validation by a hash of their text, before they are packed."""

    data: str = "python-reference"
    """What to train on: a bundled name (python-reference, docstrings), a .txt, .jsonl, .csv or .parquet file, a
    directory, a glob, a hub dataset id, or markov:seed=1, a synthetic source of known entropy."""
    data_config: str | None = None
    """Configuration (subset) of a hub dataset."""
    text_column: str = "text"
    """The column of a .jsonl, .csv, .parquet or hub dataset that holds the text."""
    one_document: bool = False
    """Take each .txt file as one document; otherwise blank lines separate documents."""
    validation_data: str | None = None
    """Held-out texts, named like --data; a share of --data if not given."""
    validation_fraction: float = 0.1
    """Share of the documents of --data that is held out when there is no --validation-data; one at least."""
    block_size: int = 128
    """Tokens in a block, the unit of a batch; at most the model's context."""
    packing: bool = True
    """Fill blocks with one document after another; --no-packing begins each document with a block of its own."""

    def problems(self) -> list[str]:
        """What is wrong with these settings by themselves, one remedy each."""
        found = []
        if not 0 < self.validation_fraction < 1:
            found.append(
                f"--validation-fraction {self.validation_fraction}: give a share between 0 and 1, such as 0.1; "
                "a run without held-out text could not say how good it is."
            )
        if self.block_size < 2:
            found.append(f"--block-size {self.block_size}: a block needs at least 2 tokens, one to predict the other.")
        return found
