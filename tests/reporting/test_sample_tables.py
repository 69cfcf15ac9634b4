"""What the model wrote while it learned: side by side in the report, and growing on W&B."""

from types import SimpleNamespace

import pytest
import wandb

from textgen.reporting import sample_tables
from textgen.reporting.jsonl import StepRecord
from textgen.reporting.report import write_report
from textgen.reporting.sample_tables import GrowingTable, side_by_side


def rows_at(*steps: int) -> list[dict]:
    return [
        {
            "step": step,
            "prompt_id": f"texts#{prompt}",
            "prompt": f"Once {prompt}",
            "strategy": strategy,
            "text": f" {strategy} of {prompt} at {step}",
        }
        for step in steps
        for prompt in range(2)
        for strategy in ("greedy", "top_p")
    ]


def test_steps_stand_side_by_side():
    first, second = side_by_side(rows_at(0, 50, 100))
    assert (first["id"], first["text"], first["steps"]) == ("texts#0", "Once 0", [0, 50, 100])
    assert [strategy for strategy, _ in second["rows"]] == ["greedy", "top_p"]
    assert second["rows"][1][1] == [" top_p of 1 at 0", " top_p of 1 at 50", " top_p of 1 at 100"]
    assert side_by_side([]) == []


def test_of_many_steps_the_first_the_last_and_some_between_are_shown():
    [shown, _] = side_by_side(rows_at(*range(0, 97, 8), 99))
    assert shown["steps"] == [0, 24, 48, 72, 99]


def test_a_step_that_lacks_a_prompt_leaves_a_gap():
    rows = [row for row in rows_at(0, 5) if (row["step"], row["prompt_id"]) != (5, "texts#1")]
    assert side_by_side(rows)[1]["rows"][0][1] == [" greedy of 1 at 0", None]


def test_the_report_shows_them_escaped_and_says_nothing_where_there_are_none(run_dir, hostile):
    assert "while it learned" not in write_report(run_dir).read_text()
    record = StepRecord(run_dir / "samples.jsonl")
    for row in [*rows_at(0, 400)[:-1], rows_at(400)[-1] | {"text": hostile}]:
        record.append(row)
    page = write_report(run_dir).read_text()
    assert "What it wrote while it learned" in page
    assert '<th scope="col">step 400</th>' in page
    assert " greedy of 1 at 400" in page
    assert "<script>alert" not in page


class Run(SimpleNamespace):
    """What the table needs of a W&B run, and what it was sent."""

    def __init__(self, **summary):
        super().__init__(resumed=bool(summary), summary=summary, logged=[])

    def log(self, values):
        self.logged.append((values["samples/step"], [row[:1] + row[3:] for row in values["samples/texts"].data]))


def test_the_table_grows_and_takes_no_row_twice():
    run, table = Run(), GrowingTable()
    table.log(run, rows_at(0))
    table.log(run, rows_at(0, 50))
    table.log(run, rows_at(50))
    table.log(run, [])
    assert [step for step, _ in run.logged] == [0, 50]
    assert [len(rows) for _, rows in run.logged] == [4, 8]
    assert run.logged[1][1][-1] == [50, "top_p", " top_p of 1 at 50"]


def test_a_resumed_run_gets_only_what_its_server_lacks():
    run, table = Run(**{"samples/step": 50}), GrowingTable()
    table.log(run, rows_at(0, 50, 100))
    assert [(step, len(rows)) for step, rows in run.logged] == [(100, 4)]


def test_the_table_stops_growing_at_what_the_server_takes(monkeypatch):
    monkeypatch.setattr(sample_tables, "MAX_ROWS", 6)
    run, table = Run(), GrowingTable()
    for step in (0, 50, 100):
        table.log(run, rows_at(step))
    assert [len(rows) for _, rows in run.logged] == [4, 6]


@pytest.mark.parametrize("calls", [1, 3])
def test_wandb_itself_keeps_an_increment_for_every_look(tmp_path, calls):
    run = wandb.init(mode="offline", dir=tmp_path, settings=wandb.Settings(silent=True, quiet=True, console="off"))
    table = GrowingTable()
    for step in range(calls):
        table.log(run, rows_at(step))
    summary = dict(run.summary["samples/texts"])
    run.finish()
    assert summary["_type"] == "incremental-table-file"
    assert (summary["nrows"], summary["increment_num"]) == (4 * calls, calls - 1)
