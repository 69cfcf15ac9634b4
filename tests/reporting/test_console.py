import io
import json
import subprocess
import sys

import pytest
from rich.console import Console

from textgen.reporting.console import print_balance, print_decoding, print_perplexity, print_recommendation, step_line
from textgen.reporting.results import RunFiles


def printed(function, value, width=100, **options) -> str:
    file = io.StringIO()
    function(value, console=Console(file=file, width=width, **options))
    return file.getvalue()


@pytest.fixture
def evaluation(run_dir):
    return {
        name: json.loads((run_dir / "evaluation" / f"{name}.json").read_text()) for name in ("perplexity", "decoding")
    }


def test_the_perplexity_table_shows_both_models_and_the_difference(evaluation):
    text = printed(print_perplexity, evaluation["perplexity"])
    assert "1.920 (1.862–1.978)" in text
    assert "1.410 (1.368–1.452)" in text
    assert "difference in bits per byte: −0.510 (−0.550 to −0.470)" in text


def test_the_perplexity_table_shows_how_many_documents_of_how_many_were_scored(evaluation):
    assert printed(print_perplexity, evaluation["perplexity"]).splitlines()[4].split()[-1] == "12"
    evaluation["perplexity"]["before"]["documents_available"] = 34_000
    assert "12 of 34,000" in printed(print_perplexity, evaluation["perplexity"])


def test_the_human_row_is_set_apart_and_the_closest_values_are_marked():
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


def test_findings_are_below_the_second_table(compared_rows):
    text = printed(print_decoding, {"before": compared_rows(1), "after": compared_rows(2)})
    lines = [line.strip() for line in text.splitlines()]
    assert lines.count("nll: not distinguishable: top_k, nucleus") == 1
    heading = lines.index("Differences from human (paired over prompts, corrected for their number):")
    assert heading > lines.index("Decoding, after (* closest to the human text)")
    assert lines[heading + 1] == "diversity: all differ"
    assert "Prompts needed for a ±5 % interval on the difference from human (now 160): 311 for diversity" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("width", [100, 80, 60])
def test_no_number_is_cut_off(evaluation, width):
    text = printed(print_decoding, evaluation["decoding"], width=width)
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= width
    for row in evaluation["decoding"]["after"]:
        assert f"{row['diversity']:.2f}" in text
        assert f"{row['rep_4']:.3f}" in text
        assert width < 80 or row["strategy"] in text


@pytest.mark.parametrize("width", [100, 80])
def test_perplexity_table_breaks_no_interval(evaluation, width):
    text = printed(print_perplexity, evaluation["perplexity"], width=width)
    for moment in ("before", "after"):
        for name, digits in (("bits_per_byte", 3), ("token_perplexity", 2)):
            low, high = evaluation["perplexity"][moment][f"{name}_interval"]
            assert f"({low:,.{digits}f}–{high:,.{digits}f})" in text
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in printed(print_perplexity, evaluation["perplexity"], width=60)


def test_piped_output_is_plain_and_wide_enough(run_dir):
    program = (
        "import json, sys; from textgen.reporting.console import print_decoding\n"
        "print_decoding(json.load(open(sys.argv[1])))"
    )
    path = run_dir / "evaluation" / "decoding.json"
    environment = {"PATH": "/usr/bin", "COLUMNS": "40", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True, env=environment
    )
    assert "\x1b" not in done.stdout
    assert "…" not in done.stdout
    assert any(line.split()[:1] == ["no_repeat_ngram"] for line in done.stdout.splitlines())


def test_names_are_not_markup():
    text = printed(print_decoding, {"model": [{"strategy": "[red]x[/red]\x1b[31m", "diversity": 0.5}]})
    assert r"[red]x[/red]\x1b[31m" in text.replace("\n", "")


def test_without_decoding_nothing_is_printed():
    assert printed(print_decoding, {}) == ""
    assert printed(print_decoding, {"before": [], "after": None}) == ""


def test_the_excess_over_a_known_entropy_is_printed(perplexity):
    source = {"name": "markov:seed=1", "bits_per_byte": 2.59, "bits_per_byte_interval": [2.5, 2.6], "entropy_rate": 2.5}
    entry = perplexity(2.6, source=source, excess_bits_per_byte=0.01)
    text = " ".join(printed(print_perplexity, {"model": entry}).split())
    assert "source of known entropy, markov:seed=1" in text
    assert text.endswith("model 0.010.")


MASK = {"examples": 9, "tokens": 500, "targets": 100, "cut": 0, "without_prompt": 0, "untargeted": 0, "left_out": 0}


def test_the_balance_is_printed_below(balance_dir):
    run = RunFiles.read(balance_dir)
    file = io.StringIO()
    print_balance(run.perplexity, run.contamination, MASK, Console(file=file, width=200))
    first, second, *trained = file.getvalue().splitlines()
    assert first.startswith("  2 of 12 scored documents share 13 words in a row")
    assert second.strip() == "text to retain: before 2.500, after 2.750, difference 0.250 (0.200–0.300) bits per byte"
    assert [line.strip() for line in trained] == ["Trained on: 100 of 500 training tokens (20.0 %)."]


def test_step_line():
    row = {"step": 120, "train/loss": 3.2141, "train/learning_rate": 3e-4, "train/grad_norm": 0.812}
    assert step_line(row, 400, tokens_per_second=5120.4, seconds_left=42.2) == (
        "step 120/400 · loss 3.214 · lr 3.0e-04 · grad 0.81 · 5,120 tok/s · 0:42 left"
    )
    assert step_line({"step": 5, "train/loss": None, "eval/loss": 2.0}, 400) == "step   5/400 · eval loss 2.000"


def test_the_recommendation_is_printed_in_full(recommended):
    text = printed(print_recommendation, {"before": recommended(confirmed=False), "after": recommended()})
    assert " ".join(text.split()).startswith("Recommended: nucleus (top_p 0.95). Chosen on 8 prompts")
    assert printed(print_recommendation, {}) == ""


def test_too_few_prompts_are_said_instead_of_findings(compared_rows):
    rows = [row | {"smallest_p": 1 / 16, "least_prompts": 6, "prompts": 5} for row in compared_rows(1)]
    text = printed(print_decoding, {"model": rows})
    assert "5 prompts: too few to distinguish any strategy from human" in text
    assert "not distinguishable" not in text
