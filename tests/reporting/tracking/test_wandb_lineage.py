"""What a run used and made, as W&B artifacts."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb

from textgen.files import read_json, write_json
from textgen.reporting.results import RunFiles
from textgen.reporting.tracking.rows import TrackedRun
from textgen.reporting.tracking.wandb_lineage import log_lineage


class Run(SimpleNamespace):
    """A stand-in for a W&B run that remembers its artifacts."""

    def __init__(self):
        super().__init__(used={}, made={}, aliases={})

    def _log_artifact(self, artifact, aliases, is_user_created, use_after_commit):
        assert (is_user_created, use_after_commit) == (True, True)
        self.used[artifact.name] = artifact

    def log_artifact(self, artifact, aliases):
        self.made[artifact.name], self.aliases[artifact.name] = artifact, aliases


@pytest.fixture(autouse=True)
def staging(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "staging"))


def lineage(path, run_id="0123456789ab", **settings):
    files, run = RunFiles.read(path), Run()
    log_lineage(run, TrackedRun(path, files.config | settings, files.environment, run_id), files)
    return run


def content(artifact, name):
    return json.loads(Path(artifact.manifest.entries[name].local_path).read_text(encoding="utf-8"))


def test_a_training_run_used_its_data_and_base_model_and_made_a_model_and_an_evaluation(run_dir):
    (run_dir / "report.html").write_text("<h1>report</h1>")
    run = lineage(run_dir)
    assert {name: artifact.type for name, artifact in run.used.items()} == {
        "data-plays": "dataset", "base-tiny-gpt2": "model"
    }  # fmt: skip
    assert {name: artifact.type for name, artifact in run.made.items()} == {
        "model-0123456789ab": "model", "evaluation-0123456789ab": "evaluation"
    }  # fmt: skip
    data = content(run.used["data-plays"], "dataset.json")
    assert data == {
        "data": "plays", "data_sha256": "cd" * 32, "train_documents": 88, "train_tokens": 812_345,
        "validation_documents": 12,
    }  # fmt: skip
    made = run.made["model-0123456789ab"]
    assert set(made.manifest.entries) == {"config.json"}
    assert made.metadata["step"] == 400
    evaluated = run.made["evaluation-0123456789ab"]
    assert set(evaluated.manifest.entries) == {"perplexity.json", "decoding.json", "recommendation.json", "report.html"}


@pytest.mark.parametrize("best", [100, 400])
def test_a_model_is_the_best_if_no_evaluation_before_it_was_better(run_dir, best):
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if "eval/loss" in row:
            row["eval/bits_per_byte"] = 1.0 if row["step"] == best else 2.0
    (run_dir / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    run = lineage(run_dir)
    assert run.aliases["model-0123456789ab"] == ["latest", "step-400"] + ["best"] * (best == 400)
    assert run.made["model-0123456789ab"].metadata["best_step"] == best


def test_an_evaluation_used_the_very_version_that_a_run_made(run_dir, evaluation_dir, tmp_path):
    facts = read_json(run_dir / "environment.json")
    write_json(run_dir / "environment.json", facts | {"tracking_id": "ba9876543210"})
    made = lineage(run_dir, "ba9876543210").made["model-ba9876543210"]
    settings = {"model": str(run_dir / "model"), "baseline": "tiny-gpt2", "output_dir": str(evaluation_dir)}
    run = lineage(evaluation_dir, **settings)
    assert set(run.used) == {"data-plays", "model-ba9876543210", "base-tiny-gpt2"}
    assert run.used["model-ba9876543210"].digest == made.digest
    assert set(run.made) == {"evaluation-0123456789ab"}


def test_the_same_data_is_the_same_version_and_other_data_another(run_dir):
    digests = [lineage(run_dir, data=data).used[f"data-{data}"].digest for data in ("plays", "plays", "poems")]
    assert digests[0] == digests[1] != digests[2]


def test_names_are_what_wandb_takes_and_nothing_secret_is_kept(run_dir):
    data = "https://user:hunter2hunter2@example.com/a b\x1b.txt?token=hunter2hunter2"
    run = lineage(run_dir, data=data, model="my models/ü x", from_scratch=False)
    assert set(run.used) == {"data-a-b-x1b", "base-x"} or all(wandb.Artifact(name, type="x") for name in run.used)
    for artifact in run.used.values():
        for entry in artifact.manifest.entries.values():
            assert b"hunter2" not in Path(entry.local_path).read_bytes()
        assert "hunter2" not in json.dumps(artifact.metadata)


def test_a_model_from_scratch_has_no_base(run_dir):
    assert set(lineage(run_dir, from_scratch=True).used) == {"data-plays"}
