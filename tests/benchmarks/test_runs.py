import math
import subprocess
from pathlib import Path
from typing import Any

import pytest
import runs
from run_files import write_run


def test_scores_are_those_after_training(tmp_path: Path) -> None:
    found = runs.scores(write_run(tmp_path / "run", {"a": 3.0, "b": 4.0}, before=9.0))
    assert [(score.id, score.nll, score.bytes) for score in found] == [("a", 3.0, 10), ("b", 4.0, 10)]


def test_the_difference_is_of_each_documents_mean_over_runs(tmp_path: Path) -> None:
    old = [write_run(tmp_path / f"old-{i}", {"a": 4.0 + i, "b": 6.0}) for i in range(2)]
    new = [write_run(tmp_path / f"new-{i}", {"a": 3.0 + i, "b": 5.0 + 2 * i}) for i in range(2)]
    assert [score.nll for score in runs.mean_scores([runs.scores(path) for path in new])] == [3.5, 6.0]
    found = runs.difference(new, old)
    assert found["bits_per_byte"] == pytest.approx((3.5 + 6.0 - 4.5 - 6.0) / 20 / math.log(2))
    assert found["bits_per_byte_interval"][0] <= found["bits_per_byte"] <= found["bits_per_byte_interval"][1]


def test_runs_of_different_documents_are_not_compared(tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "a", {"x": 1.0}), write_run(tmp_path / "b", {"y": 1.0})
    with pytest.raises(AssertionError, match="different documents"):
        runs.mean_scores([runs.scores(a), runs.scores(b)])


def test_a_run_is_as_long_as_its_last_step_says(tmp_path: Path) -> None:
    assert runs.length(write_run(tmp_path / "run", {"a": 1.0}, targets=512)) == {"steps": 2, "targets": 512}


def test_numbers_have_their_interval_and_a_true_minus() -> None:
    found = {"bits_per_byte": -0.15421, "bits_per_byte_interval": [-0.2, 0.01]}
    assert runs.with_interval(found, signed=True) == "−0.154 (−0.200 to +0.010)"
    assert runs.with_interval(found, signed=True, digits=2) == "−0.15 (−0.20 to +0.01)"
    assert runs.with_interval({"bits_per_byte": 1, "bits_per_byte_interval": [0.9, 1.1]}) == "1.000 (0.900–1.100)"


def test_a_failed_run_names_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str], *, stdout: Any, **_: Any) -> subprocess.CompletedProcess[str]:
        stdout.write(" ".join(command))
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(SystemExit, match=r"full-1 ended with 3; see .*full-1\.log"):
        runs.finetune(["--seed", "7"], tmp_path / "runs" / "full-1")
    command = (tmp_path / "runs" / "full-1.log").read_text(encoding="utf-8")
    assert command.endswith(f"--seed 7 --run-dir {tmp_path / 'runs' / 'full-1'}")
    assert "recipes/finetune.py" in command
