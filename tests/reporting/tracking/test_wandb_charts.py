"""The charts that are sent to W&B."""

import re

import pytest

from textgen.files import write_json
from textgen.reporting.columns import METRICS
from textgen.reporting.results import HUMAN, RunFiles
from textgen.reporting.tracking.wandb_charts import BARS, FIGURES, charts, strategy_bars

COLUMNS = {column.key: column for column in METRICS}


@pytest.fixture
def files(run_dir, token_perplexity, compared_rows, diagnostics_rows) -> RunFiles:
    write_json(run_dir / "evaluation/perplexity.json", token_perplexity)
    write_json(run_dir / "evaluation/decoding.json", {"before": compared_rows(1), "after": compared_rows(2)})
    write_json(run_dir / "evaluation/diagnostics.json", {"after": diagnostics_rows})
    return RunFiles.read(run_dir)


def test_a_run_with_everything_has_every_chart_and_no_address(files):
    found = charts(files)
    assert set(found) == set(FIGURES) | set(BARS)
    assert len(found) == 5 + len(METRICS)
    for page in found.values():
        assert page.startswith("<!doctype html>")
        assert "http" not in page
        assert "<script" not in page


def test_what_was_not_measured_has_no_chart(run_dir):
    for name in ("decoding", "continuations"):
        (run_dir / f"evaluation/{name}.json{'l' if name == 'continuations' else ''}").unlink()
    assert set(charts(RunFiles.read(run_dir))) == {"charts/perplexity"}


def test_every_strategy_has_a_bar_with_its_interval_and_the_human_is_a_line(decoding_rows):
    rows = decoding_rows(1)
    svg = strategy_bars({"after": rows}, COLUMNS["diversity"])
    names = [row["strategy"] for row in rows if row["strategy"] != HUMAN]
    assert len(names) == 9
    for name in names:
        assert re.search(rf">\s*{name}\s*<", svg), name
    assert re.search(r">\s*human\s*<", svg)
    without = [row | {"diversity_interval": None} for row in rows]
    lines = [strategy_bars({"after": some}, COLUMNS["diversity"]).count("<path") for some in (rows, without)]
    assert lines[0] - lines[1] == len(names)


def test_a_metric_without_values_has_no_bars(decoding_rows):
    assert strategy_bars({"after": decoding_rows(1)}, COLUMNS["mauve"]) is None
    assert strategy_bars({}, COLUMNS["nll"]) is None
