"""The columns of every table of metrics: key in the JSON files, title, digits shown, description."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textgen.reporting.formatting import finite, interval_text, number


@dataclass(frozen=True)
class Column:
    """A column of a table; its interval is under ``<key>_interval``."""

    key: str
    title: str
    digits: int
    description: str = ""
    """How to read the column, in one sentence."""
    optional: bool = False
    """Omitted if no row has a value."""


PERPLEXITIES = (
    Column("token_perplexity", "token perplexity", 2),
    Column("word_perplexity", "word perplexity", 2),
    Column("byte_perplexity", "byte perplexity", 3),
    Column("bits_per_byte", "bits per byte", 3),
)

ACCURACIES = (
    Column("top_1_accuracy", "top-1 accuracy", 3),
    Column("top_5_accuracy", "top-5 accuracy", 3),
    Column("expected_calibration_error", "calibration error", 3),
)

DIAGNOSTICS = (
    Column("kept_size", "tokens kept", 1),
    Column("kept_size_median", "median", 0),
    Column("kept_mass", "probability kept", 3),
    Column("entropy", "entropy, nats", 3),
    Column("human_coverage", "human token kept", 3),
)

METRICS = (
    Column("diversity", "diversity", 3, "Product of (1 − rep-n) over n = 2, 3, 4; low values mean repetitive text."),
    Column("rep_4", "rep-4", 3, "Share of word 4-grams that already occurred in the same continuation."),
    Column("distinct_2", "distinct-2", 3, "Distinct word pairs over all word pairs; falls as texts get longer."),
    Column(
        "self_bleu_4",
        "self-BLEU-4",
        3,
        "Similarity to the continuations of other prompts; high values mean that all texts are alike.",
    ),
    Column(
        "zipf", "Zipf", 3, "How fast word frequency falls with rank; high values mean that a few words are overused."
    ),
    Column(
        "nll",
        "nll",
        3,
        "Nats per token under the model itself; far below human is bland text, far above is noise.",
    ),
    Column(
        "own_nll",
        "own nll",
        3,
        "Nats per token under the distribution that the strategy sampled from, after temperature and truncation; "
        "undefined for human text.",
        optional=True,
    ),
    Column(
        "judge_bits_per_byte",
        "judge",
        3,
        "Bits per byte under the second model (--judge), which did not write the texts; human is the target here too.",
        optional=True,
    ),
    Column(
        "mauve",
        "MAUVE",
        3,
        "How close the texts are to the human texts as distributions: 1 if equal, near 0 if disjoint.",
        optional=True,
    ),
    Column("length", "length", 1, "Tokens per continuation; compare the other columns only where lengths are similar."),
    Column("end_of_text_rate", "end rate", 3, "Share of continuations that ended before the length limit."),
    Column("tokens_per_second", "tokens/s", 0, "Decoding throughput on this machine; human text has none."),
)
"""Metrics of the decoding table."""

NOT_SHOWN = frozenset({"diversity_simctg", "rep_2", "rep_3", "seq_rep_4", "distinct_1", "distinct_3"})
"""Metrics that are in decoding.json only."""


def shown_metrics(decoding: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Column]:
    """The columns of the decoding table: those that are not optional, and those that have a value in some row."""
    rows = [row for moment_rows in decoding.values() for row in moment_rows or []]
    return [
        column
        for column in METRICS
        if not column.optional or any(finite(row.get(column.key)) is not None for row in rows)
    ]


def cells(row: Mapping[str, Any], columns: Sequence[Column]) -> list[tuple[str, str]]:
    """(value, interval) of each column, as text."""
    return [
        (number(row.get(column.key), column.digits), interval_text(row.get(f"{column.key}_interval"), column.digits))
        for column in columns
    ]
