"""The workspace and the report: only what a run logs is shown, and what is there is updated."""

import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from textgen.files import write_json
from textgen.reporting.jsonl import StepRecord
from textgen.reporting.results import RunFiles
from textgen.reporting.tracking.rows import EVALUATION, SYSTEM, TRAINING, TrackedRun, tracked_row
from textgen.reporting.tracking.wandb_dashboard import as_json, panels, report, workspace
from textgen.reporting.tracking.wandb_session import WandbSession

pytest.importorskip("wandb_workspaces")


class Run(SimpleNamespace):
    """A stand-in for a W&B run that remembers the keys of what is logged."""

    def __init__(self) -> None:
        super().__init__(keys=set(), summary={}, resumed=False, offline=False, id="abc")

    def log(self, values: dict[str, Any]) -> None:
        self.keys |= values.keys()


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield str(key)
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)
    elif isinstance(value, str):
        yield value


@pytest.fixture
def logged(run_dir, token_perplexity, compared_rows, diagnostics_rows, sample_rows, monkeypatch) -> set[str]:
    """The keys that a run with everything logs, through what logs them."""
    from textgen.reporting.tracking import wandb_session

    monkeypatch.setattr(wandb_session, "log_lineage", lambda *args: None)
    write_json(run_dir / "evaluation/perplexity.json", token_perplexity)
    write_json(run_dir / "evaluation/decoding.json", {"before": compared_rows(1), "after": compared_rows(2)})
    write_json(run_dir / "evaluation/diagnostics.json", {"after": diagnostics_rows})
    (run_dir / "report.html").write_text("<h1>report</h1>")
    files, run = RunFiles.read(run_dir), Run()
    session = WandbSession(run, TrackedRun(run_dir, files.config, files.environment, "abc"))
    timing = {"step": 400, "seconds": 2.0, "steps": 4, "tokens_per_second": 5.0, "peak_memory_bytes": 9}
    row = {"step": 400} | dict.fromkeys([*TRAINING, *EVALUATION], 1.0)
    session.log(tracked_row(row, timing | {"evaluation_seconds": 1.0, "saving_seconds": 1.0}))
    session.log_samples(sample_rows(0))
    session.log_results(files)
    return run.keys | run.summary.keys()


def test_a_panel_shows_nothing_that_no_run_logs(logged):
    shown = {key for section in panels().values() for panel in section for key in (*panel.keys, panel.x)}
    evaluation_only = {"baseline/bits_per_byte", "model/bits_per_byte"}  # of recipes/evaluate.py
    assert shown - logged == evaluation_only
    assert len(shown) >= 40


def test_everything_in_a_row_and_every_chart_has_a_panel(logged):
    shown = {key for section in panels().values() for panel in section for key in (*panel.keys, panel.x)}
    assert {*TRAINING, *EVALUATION, *SYSTEM} <= shown
    assert {key for key in logged if key.startswith("charts/")} <= shown


def test_the_rows_of_a_real_record_have_no_other_key(run_dir):
    assert {key for row in StepRecord(run_dir / "metrics.jsonl").read() for key in row} - {"step"} <= {
        *TRAINING, *EVALUATION
    }  # fmt: skip


def test_the_workspace_has_a_section_for_each_part_and_its_json_names_only_keys_that_are_logged(logged):
    spec = json.loads(as_json(workspace("me", "plays")))
    sections = spec["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections][:4] == ["training", "evaluation", "decoding", "system"]
    named = {text for text in strings(sections) if re.fullmatch(r"(train|eval|system|charts|samples)/\w+", text)}
    assert len(named) >= 30
    assert named <= logged


@pytest.mark.parametrize("runs", [[("a1", "one")], [("a1", "one"), ("b2", "two \x1b[31m")]])
def test_a_report_is_about_its_runs(runs):
    made = report("me", "plays", runs, offline=True)
    text = as_json(made)
    for run_id, _ in runs:
        assert f'"{run_id}"' in text
    assert "\x1b" not in made.title + text
    assert made.title.startswith("textgen: one")
