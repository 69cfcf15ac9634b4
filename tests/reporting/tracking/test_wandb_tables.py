"""The tables that are sent to W&B."""

from types import SimpleNamespace

import pytest
import wandb

from textgen.files import write_json
from textgen.reporting.columns import METRICS
from textgen.reporting.results import RunFiles
from textgen.reporting.tracking import wandb_tables
from textgen.reporting.tracking.wandb_tables import (
    SamplesTable,
    calibration_table,
    continuations_table,
    decoding_table,
    diagnostics_table,
    position_table,
)


def test_the_decoding_table_has_a_row_per_model_and_strategy_and_three_columns_per_metric(run_dir):
    run = RunFiles.read(run_dir)
    columns, rows = decoding_table(run)
    assert columns[:5] == ["when", "strategy", "diversity", "diversity_low", "diversity_high"]
    assert columns[2:] == [f"{metric.key}{end}" for metric in METRICS for end in ("", "_low", "_high")]
    expected = [(moment, row["strategy"]) for moment in ("before", "after") for row in run.decoding[moment]]
    assert [(row[0], row[1]) for row in rows] == expected
    first = run.decoding["before"][0]
    assert rows[0][2:5] == [first["diversity"], *first["diversity_interval"]]


def test_the_continuations_table_has_a_row_per_prompt_and_a_column_per_model_and_strategy(run_dir):
    run = RunFiles.read(run_dir)
    columns, rows = continuations_table(run)
    assert columns[:5] == ["prompt_id", "sample", "prompt", "human", "before/greedy"]
    strategies = [row["strategy"] for row in run.decoding["after"] if row["strategy"] != "human"]
    assert set(columns[4:]) == {f"{moment}/{name}" for moment in ("before", "after") for name in strategies}
    assert [row[0] for row in rows] == list(dict.fromkeys(row["prompt_id"] for row in run.continuations()))
    assert rows[1][3] == " through yonder window 1"
    assert rows[1][columns.index("after/nucleus")].startswith(
        " through yonder window breaks?\n  It is the nucleus of after"
    )


def test_the_tables_of_tokens_and_truncation_have_their_intervals(run_dir, token_perplexity, diagnostics_rows):
    write_json(run_dir / "evaluation/perplexity.json", token_perplexity)
    write_json(run_dir / "evaluation/diagnostics.json", {"after": diagnostics_rows})
    run = RunFiles.read(run_dir)
    columns, rows = position_table(run)
    assert columns == ["when", "from", "to", "tokens", "nll", "nll_low", "nll_high"]
    assert [row[0] for row in rows] == ["before"] * 3 + ["after"] * 3
    assert rows[0][4:] == [6.0, None, None]
    columns, rows = calibration_table(run)
    assert (columns[-2:], rows[0][-2:]) == (["accuracy_low", "accuracy_high"], [0.1, 0.3])
    columns, rows = diagnostics_table(run)
    assert columns[:5] == ["when", "strategy", "kept_size", "kept_size_low", "kept_size_high"]
    assert rows[1][:5] == ["after", "top_k", 40.0, 38.0, 40.0]


class Run(SimpleNamespace):
    """A stand-in for a W&B run that records what is logged."""

    def __init__(self):
        super().__init__(logged=[])

    def log(self, values):
        self.logged.append((values["samples/step"], [row[:1] + row[3:] for row in values["samples/texts"].data]))


def test_the_samples_table_grows(sample_rows):
    run, table = Run(), SamplesTable()
    table.log(run, sample_rows(0))
    table.log(run, sample_rows(50))
    table.log(run, [])
    assert [step for step, _ in run.logged] == [0, 50]
    assert [len(rows) for _, rows in run.logged] == [4, 8]
    assert run.logged[1][1][-1] == [50, "top_p", " top_p of 1 at 50"]


def test_the_samples_table_stops_growing_at_the_limit_of_the_server(monkeypatch, sample_rows):
    monkeypatch.setattr(wandb_tables, "MAX_ROWS", 6)
    run, table = Run(), SamplesTable()
    for step in (0, 50, 100):
        table.log(run, sample_rows(step))
    assert [len(rows) for _, rows in run.logged] == [4, 6]


@pytest.mark.parametrize("calls", [1, 3])
def test_wandb_stores_an_increment_for_every_call(tmp_path, calls, sample_rows):
    run = wandb.init(mode="offline", dir=tmp_path, settings=wandb.Settings(silent=True, quiet=True, console="off"))
    table = SamplesTable()
    for step in range(calls):
        table.log(run, sample_rows(step))
    summary = dict(run.summary["samples/texts"])
    run.finish()
    assert summary["_type"] == "incremental-table-file"
    assert (summary["nrows"], summary["increment_num"]) == (4 * calls, calls - 1)
