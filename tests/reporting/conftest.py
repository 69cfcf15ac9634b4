"""Small run directories with every kind of file that the recipes write."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from textgen.files import json_line, read_json, write_bytes, write_json
from textgen.reporting.jsonl import StepRecord

STRATEGIES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beam": {"beams": 4},
    "temperature": {"temperature": 0.7},
    "top_k": {"top_k": 40},
    "nucleus": {"top_p": 0.95},
    "typical": {"typical_p": 0.95},
    "min_p": {"min_p": 0.05},
    "contrastive": {"k": 5, "alpha": 0.6},
    "no_repeat_ngram": {"n": 3},
}
METRICS = ("diversity", "rep_4", "distinct_2", "self_bleu_4", "zipf", "nll", "end_of_text_rate")
HOSTILE = '<script>alert(1)</script></style>{{7*7}} | `x` 🙂 \x00\x1b[31m\r --- & "quoted" \ud800'


def perplexity_entry(bits: float, **more: Any) -> dict[str, Any]:
    """A consistent entry of perplexity.json: all values follow from one sum of nll."""
    tokens, words, size = 5120, 3900, 20480
    nll = bits * size * math.log(2)
    stated: dict[str, Any] = {
        "convention": "rolling",
        "stride": None,
        "documents": 12,
        "nll_sum": nll,
        "tokens": tokens,
        "words": words,
        "bytes": size,
        "token_perplexity": math.exp(nll / tokens),
        "word_perplexity": math.exp(nll / words),
        "byte_perplexity": math.exp(nll / size),
        "bits_per_byte": bits,
        "data_sha256": "ab" * 32,
        "model": "tiny-gpt2",
    }
    for name in ("token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"):
        stated[f"{name}_interval"] = [stated[name] * 0.97, stated[name] * 1.03]
    return stated | more


def tokens_entry(better: float = 0.0) -> dict[str, Any]:
    """The parts of an entry of perplexity.json that are about tokens."""
    positions = [
        {"from": 1, "to": 1, "tokens": 12, "nll": 6 - better, "nll_interval": None},
        {"from": 2, "to": 2, "tokens": 12, "nll": 5 - better, "nll_interval": [4.5, 5.5]},
        {"from": 3, "to": 4, "tokens": 24, "nll": 4 - better, "nll_interval": [3.5, 4.5]},
    ]
    bins = [
        {"from": 0.2, "to": 0.3, "tokens": 30, "confidence": 0.25, "accuracy": 0.2, "accuracy_interval": [0.1, 0.3]},
        {"from": 0.7, "to": 0.8, "tokens": 18, "confidence": 0.75, "accuracy": 0.5, "accuracy_interval": None},
    ]
    hardest = {
        "document": "plays.txt#1",
        "nll": 17.25,
        "before": "But soft, what",
        "token": " light",
        "after": " through",
    }
    hardest |= {"expected": " the", "expected_probability": 0.5}
    return {
        "top_1_accuracy": 0.3 + better / 10,
        "top_1_accuracy_interval": [0.25, 0.45],
        "top_5_accuracy": 0.6,
        "top_5_accuracy_interval": [0.5, 0.7],
        "expected_calibration_error": 0.125,
        "calibration": bins,
        "loss_by_position": positions,
        "hardest_tokens": [hardest] * 20,
    }


def decoding_entry(seed: int) -> list[dict[str, Any]]:
    """Rows of decoding.json with random but plausible numbers."""
    draw = random.Random(seed)
    rows = []
    for strategy, settings in {**STRATEGIES, "human": {}}.items():
        row: dict[str, Any] = {"strategy": strategy, "settings": settings}
        for metric in METRICS:
            value = draw.uniform(1.2, 3.4) if metric == "nll" else draw.uniform(0.05, 0.95)
            row |= {metric: value, f"{metric}_interval": [value * 0.9, value * 1.1]}
        row |= {"length": 64.0, "length_interval": [60.5, 64.0], "tokens_per_second": 812.0, "continuations": 16}
        row["tokens_per_second_interval"] = None
        if strategy == "human":
            row |= {"tokens_per_second": None, "diversity": 0.936, "diversity_interval": [0.92, 0.95]}
        rows.append(row)
    return rows


def compared_entry(seed: int) -> list[dict[str, Any]]:
    """Rows of decoding.json of a run with a sweep, a judge and enough prompts for MAUVE."""
    rows = [row | {"family": row["strategy"], "prompts": 160} for row in decoding_entry(seed)]
    sweep = []
    for share, diversity, nll in ((0.8, 0.85, 2.4), (0.9, 0.9, 2.9), (1.0, 0.95, 3.6)):
        row = dict(rows[4]) | {"strategy": f"top_p[{share}]", "family": "top_p", "settings": {"top_p": share}}
        sweep.append(row | {"diversity": diversity, "nll": nll})
    rows = [*rows[:-1], *reversed(sweep), rows[-1]]
    for number, row in enumerate(rows):
        row |= {"own_nll": 2.5, "judge_bits_per_byte": 1.1 + number / 50, "mauve": 0.5 + number / 40}
        if row["strategy"] == "human":
            row |= {"own_nll": None, "mauve": None, "mauve_reason": "what the others are compared with"}
            continue
        row |= {"interval_width": 0.1, "baseline": None if number == 0 else "greedy"}
        for metric in ("diversity", "nll", "length"):
            alike = metric == "length" or (number in (3, 4) and metric == "nll")
            row |= {f"{metric}_minus_human": 0.1, f"{metric}_minus_human_p": 0.4 if alike else 0.001}
            row |= {f"{metric}_prompts_needed": 300 + number}
            if number:
                row |= {f"{metric}_minus_baseline": 0.1, f"{metric}_minus_baseline_p": 0.9 if number == 1 else 0.01}
    return rows


def diagnostics_entry() -> list[dict[str, Any]]:
    """Rows of diagnostics.json: the full distribution and four truncated ones."""
    rows = []
    for strategy, family, settings, size, coverage in (
        ("untruncated", "untruncated", {}, 4096.0, 1.0),
        ("top_k", "top_k", {"top_k": 40}, 40.0, 0.78),
        ("top_p[0.8]", "top_p", {"top_p": 0.8}, 61.3, 0.74),
        ("top_p[0.9]", "top_p", {"top_p": 0.9}, 170.2, 0.86),
        ("min_p", "min_p", {"min_p": 0.05}, 21.9, 0.71),
    ):
        row: dict[str, Any] = {"strategy": strategy, "family": family, "settings": settings, "positions": 1024}
        for name, value in (("kept_size", size), ("kept_mass", 0.9), ("entropy", 2.5), ("human_coverage", coverage)):
            row |= {name: value, f"{name}_interval": [value * 0.95, min(value * 1.05, max(value, 1.0))]}
        rows.append(row | {"kept_size_median": round(size / 2)})
    return rows


def continuation_rows(moments: tuple[str, str], prompts: int) -> list[dict[str, Any]]:
    """Rows of continuations.jsonl: every strategy and the human text for every prompt."""
    rows = []
    for index in range(prompts):
        prompt = {"prompt_id": f"plays.txt#{index}", "prompt": f"ROMEO {index}:\nBut soft, what light"}
        for when in moments:
            for strategy in STRATEGIES:
                text = f" through yonder window breaks?\n  It is the {strategy} of {when},\tprompt {index}. " * 3
                rows.append({"when": when, **prompt, "strategy": strategy, "sample": 0, "text": text, "token_ids": [1]})
        human = {"strategy": "human", "sample": 0, "text": f" through yonder window {index}", "token_ids": [2]}
        rows.append({"when": moments[0], **prompt, **human})
    rows[0]["text"] = HOSTILE
    rows[1]["text"] = ""
    return rows


def sample_entries(*steps: int) -> list[dict[str, Any]]:
    """Rows of samples.jsonl: at each step, two prompts and two strategies."""
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


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    write_bytes(path, b"".join(map(json_line, rows)))


def write_run(run_dir: Path) -> Path:
    """A finished fine-tuning run."""
    config = {"model": "tiny-gpt2", "data": "plays", "method": "lora", "steps": 400, "learning_rate": 3e-4, "seed": 0}
    run_dir.mkdir(parents=True)
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config | {"text_column": None, "wandb_mode": "offline"}))
    environment = {
        "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
        "processes": 2,
        "threads": 1,
        "device": "cpu",
        "trainable_parameters": 24_576,
        "total_parameters": 3_145_728,
        "train_documents": 88,
        "validation_documents": 12,
        "train_tokens": 812_345,
        "data_sha256": "cd" * 32,
        "model": "tiny-gpt2",
        "command": "accelerate launch recipes/finetune.py --method lora",
    }
    write_json(run_dir / "environment.json", environment)
    write_json(run_dir / "status.json", {"state": "running", "step": 400, "message": "", "exit_code": None})
    record = StepRecord(run_dir / "metrics.jsonl")
    for step in range(10, 401, 10):
        row = {"step": step, "train/loss": 2 + 2 * math.exp(-step / 90) + 0.05 * math.sin(step)}
        row |= {"train/learning_rate": 3e-4 * (1 - step / 400), "train/grad_norm": 0.8, "train/tokens": 4096}
        record.append(row | ({"eval/loss": 2.1 + 2 * math.exp(-step / 90)} if step % 100 == 0 else {}))
    stated = {"before": perplexity_entry(1.92), "after": perplexity_entry(1.41, model="model")}
    difference = {"bits_per_byte": -0.51, "bits_per_byte_interval": [-0.55, -0.47]}
    write_json(run_dir / "evaluation" / "perplexity.json", stated | {"difference": difference})
    write_json(run_dir / "evaluation" / "decoding.json", {"before": decoding_entry(1), "after": decoding_entry(2)})
    after = recommendation_entry(written_to="model/generation_config.json")
    write_json(run_dir / "evaluation" / "recommendation.json", {"before": recommendation_entry(), "after": after})
    write_rows(run_dir / "evaluation" / "continuations.jsonl", continuation_rows(("before", "after"), 14))
    (run_dir / "model").mkdir()
    write_json(run_dir / "model" / "config.json", {"model_type": "gpt2"})
    return run_dir


def write_evaluation(output_dir: Path) -> Path:
    """The output of recipes/evaluate.py for two models."""
    config = {"model": "gpt2", "baseline": "tiny-gpt2", "data": "plays"}
    output_dir.mkdir(parents=True)
    (output_dir / "config.yaml").write_text(yaml.safe_dump(config))
    stated = {"baseline": perplexity_entry(1.43), "model": perplexity_entry(1.42, model="gpt2")}
    difference = {"bits_per_byte": -0.01, "bits_per_byte_interval": [-0.04, 0.02]}
    write_json(output_dir / "evaluation" / "perplexity.json", stated | {"difference": difference})
    write_json(output_dir / "evaluation" / "decoding.json", {"baseline": decoding_entry(1), "model": decoding_entry(2)})
    write_rows(output_dir / "evaluation" / "continuations.jsonl", continuation_rows(("baseline", "model"), 3))
    return output_dir


def add_balance(run_dir: Path) -> Path:
    """Add what a run with contaminated documents and ``--retain-data`` has."""
    path = run_dir / "evaluation" / "perplexity.json"
    stated = read_json(path)
    for moment, bits in (("before", 1.9), ("after", 1.45)):
        stated[moment]["uncontaminated"] = perplexity_entry(bits, documents=10)
    stated["difference"]["uncontaminated"] = {"bits_per_byte": -0.45, "bits_per_byte_interval": [-0.5, -0.4]}
    retained = {"before": perplexity_entry(2.5), "after": perplexity_entry(2.75, documents_available=3000)}
    retained["difference"] = {"bits_per_byte": 0.25, "bits_per_byte_interval": [0.2, 0.3]}
    write_json(path, stated | {"retained": retained})
    rows = [
        {"id": f"plays.txt#{n}", "words": 300, "shared_words": 20 - n, "training_id": "plays.txt#7"}
        | {"passage": HOSTILE, "passage_words": 13}
        for n in range(2)
    ]
    contamination = {"ngram_words": 13, "training_documents": 88, "held_out_documents": 12, "documents": rows}
    example = {"id": HOSTILE, "earlier_id": "plays.txt#5", "similarity": 0.953125}
    contamination["near_duplicates"] = {"compared": 80, "found": 3, "examples": [example]}
    write_json(run_dir / "evaluation" / "contamination.json", contamination)
    return run_dir


@pytest.fixture
def balance_dir(run_dir: Path) -> Path:
    """A finished fine-tuning run with contaminated documents and ``--retain-data``."""
    return add_balance(run_dir)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A finished fine-tuning run."""
    return write_run(tmp_path / "run")


@pytest.fixture
def evaluation_dir(tmp_path: Path) -> Path:
    """An evaluation of two models."""
    return write_evaluation(tmp_path / "evaluated")


@pytest.fixture
def perplexity() -> Callable[..., dict[str, Any]]:
    """Makes an entry of perplexity.json from bits per byte."""
    return perplexity_entry


@pytest.fixture
def token_perplexity() -> dict[str, dict[str, Any]]:
    """The contents of perplexity.json with what was measured about tokens, before and after training."""
    return {
        "before": perplexity_entry(1.9) | tokens_entry(),
        "after": perplexity_entry(1.4) | tokens_entry(better=1),
    }


@pytest.fixture
def decoding_rows() -> Callable[[int], list[dict[str, Any]]]:
    """Makes rows of decoding.json from a seed."""
    return decoding_entry


@pytest.fixture
def compared_rows() -> Callable[[int], list[dict[str, Any]]]:
    """Makes rows of decoding.json with paired differences, a sweep, a judge and MAUVE."""
    return compared_entry


@pytest.fixture
def diagnostics_rows() -> list[dict[str, Any]]:
    """Rows of diagnostics.json."""
    return diagnostics_entry()


@pytest.fixture
def hostile() -> str:
    """A text that breaks anything that does not escape it; the first continuation of every example run."""
    return HOSTILE


@pytest.fixture
def sample_rows() -> Callable[..., list[dict[str, Any]]]:
    """Makes rows of samples.jsonl for the given steps: two prompts, two strategies."""
    return sample_entries


def recommendation_entry(**other: Any) -> dict[str, Any]:
    """An entry of recommendation.json: a nucleus, confirmed."""
    entry: dict[str, Any] = {"strategy": "nucleus", "confirmed": True, "prompts": [8, 9], "family": "top_p"}
    entry |= {"settings": {"top_p": 0.95}, "baseline": "greedy", "scales": {"nll": 0.5}}
    entry |= {"distances": {"greedy": [2.0, 2.5], "nucleus": [0.25, 0.5]}}
    entry |= {"generation_config": {"do_sample": True, "top_k": 0, "top_p": 0.95}}
    entry |= {"closer_by": 2.0, "closer_by_interval": [1.5, 2.5], "closer_by_p": 1 / 512}
    return entry | {"rival": "top_k", "rival_p": 0.6, "reason": None} | other


@pytest.fixture
def recommended() -> Callable[..., dict[str, Any]]:
    """Makes an entry of recommendation.json, by default a confirmed one."""
    return recommendation_entry
