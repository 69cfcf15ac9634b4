import io
import json
import subprocess
import sys

import pytest
from rich.console import Console

from textgen.reporting.console import duration, print_decoding, print_perplexity, print_step, step_line


def printed(function, value, width=100, **options) -> str:
    file = io.StringIO()
    function(value, console=Console(file=file, width=width, **options))
    return file.getvalue()


@pytest.fixture
def evaluation(run_dir):
    return {
        name: json.loads((run_dir / "evaluation" / f"{name}.json").read_text()) for name in ("perplexity", "decoding")
    }


def test_perplexity_shows_both_moments_and_the_difference(evaluation):
    text = printed(print_perplexity, evaluation["perplexity"])
    assert "1.920 (1.862–1.978)" in text
    assert "1.410 (1.368–1.452)" in text
    assert "difference in bits per byte: −0.510 (−0.550 to −0.470)" in text


def test_decoding_sets_the_human_row_apart_and_marks_the_closest(evaluation):
    rows = [
        {"strategy": "greedy", "diversity": 0.1, "nll": None},
        {"strategy": "nucleus", "diversity": 0.9, "diversity_interval": [0.8, 0.95], "nll": 2.0},
        {"strategy": "human", "diversity": 0.93, "nll": 3.0},
    ]
    lines = [line.strip() for line in printed(print_decoding, {"model": rows}).splitlines()]
    human = next(index for index, line in enumerate(lines) if line.startswith("human"))
    assert lines[human + 1] == ""
    assert lines[human + 2].split()[:3] == ["greedy", "0.10", "–"]
    assert lines[human + 3].split()[:4] == ["nucleus", "*0.90", "(0.80–0.95)", "*2.00"]


def test_what_cannot_be_told_apart_is_said_below_the_later_table(compared_rows):
    text = printed(print_decoding, {"before": compared_rows(1), "after": compared_rows(2)})
    lines = [line.strip() for line in text.splitlines()]
    assert lines.count("nll: not distinguishable: top_k, nucleus") == 1
    assert "diversity: all of them differ" in lines
    assert "To know every strategy’s difference from human" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("width", [100, 80, 60])
def test_no_number_is_cut_off(evaluation, width):
    text = printed(print_decoding, evaluation["decoding"], width=width)
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= width
    for row in evaluation["decoding"]["after"]:
        assert f"{row['diversity']:.2f}" in text
        assert f"{row['rep_4']:.3f}" in text
    assert "…" not in printed(print_perplexity, evaluation["perplexity"], width=width)


def test_piped_output_is_plain_and_wide_enough(run_dir):
    program = (
        "import json, sys; from textgen.reporting.console import print_decoding, print_step\n"
        "print_decoding(json.load(open(sys.argv[1])))\n"
        "print_step({'step': 1, 'train/loss': 3.0}, 10)"
    )
    path = run_dir / "evaluation" / "decoding.json"
    environment = {"PATH": "/usr/bin", "COLUMNS": "40", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True, env=environment
    )
    assert "\x1b" not in done.stdout
    assert "…" not in done.stdout
    assert any(line.split()[:1] == ["no_repeat_ngram"] for line in done.stdout.splitlines())
    assert done.stdout.splitlines()[-1] == "step  1/10 · loss 3.000"


def test_names_are_not_markup():
    text = printed(print_decoding, {"model": [{"strategy": "[red]x[/red]\x1b[31m", "diversity": 0.5}]})
    assert "[red]x[/red]␛[31m" in text.replace("\n", "")


def test_nothing_measured_prints_nothing_of_decoding():
    assert printed(print_decoding, {}) == ""
    assert printed(print_decoding, {"before": [], "after": None}) == ""


def test_step_line():
    row = {"step": 120, "train/loss": 3.2141, "train/learning_rate": 3e-4, "train/grad_norm": 0.812}
    assert step_line(row, 400, tokens_per_second=5120.4, seconds_left=42.2) == (
        "step 120/400 · loss 3.214 · lr 3.0e-04 · grad 0.81 · 5,120 tok/s · 0:42 left"
    )
    assert step_line({"step": 5, "train/loss": None, "eval/loss": 2.0}, 400) == "step   5/400 · eval loss 2.000"


def test_a_step_is_one_line_in_any_terminal():
    file = io.StringIO()
    row = {"step": 1, "train/loss": 1.0, "train/learning_rate": 1e-3, "train/grad_norm": 1.0}
    print_step(row, 9, tokens_per_second=1.0, seconds_left=3600, console=Console(file=file, width=20))
    assert file.getvalue() == "step 1/9 · loss 1.000 · lr 1.0e-03 · grad 1.00 · 1 tok/s · 1:00:00 left\n"


def test_durations():
    assert [duration(seconds) for seconds in (0, 42.4, 725, 3600, 90061, -1)] == [
        "0:00", "0:42", "12:05", "1:00:00", "25:01:01", "0:00",
    ]  # fmt: skip
