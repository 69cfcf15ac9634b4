"""The tables that are sent to W&B."""

from types import SimpleNamespace

import pytest
import wandb

from textgen.reporting.columns import METRICS
from textgen.reporting.results import RunFiles
from textgen.reporting.tracking import wandb_tables
from textgen.reporting.tracking.wandb_tables import SamplesTable, continuations_table, decoding_table


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


class Run(SimpleNamespace):
    """A stand-in for a W&B run that records what is logged."""

    def __init__(self, **summary):
        super().__init__(resumed=bool(summary), summary=summary, logged=[])

    def log(self, values):
        self.logged.append((values["samples/step"], [row[:1] + row[3:] for row in values["samples/texts"].data]))


def test_the_samples_table_grows_and_no_row_is_logged_twice(sample_rows):
    run, table = Run(), SamplesTable()
    table.log(run, sample_rows(0))
    table.log(run, sample_rows(0, 50))
    table.log(run, sample_rows(50))
    table.log(run, [])
    assert [step for step, _ in run.logged] == [0, 50]
    assert [len(rows) for _, rows in run.logged] == [4, 8]
    assert run.logged[1][1][-1] == [50, "top_p", " top_p of 1 at 50"]


def test_a_resumed_run_gets_only_the_samples_that_its_server_lacks(sample_rows):
    run, table = Run(**{"samples/step": 50}), SamplesTable()
    table.log(run, sample_rows(0, 50, 100))
    assert [(step, len(rows)) for step, rows in run.logged] == [(100, 4)]


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
