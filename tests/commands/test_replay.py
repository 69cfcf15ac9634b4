"""``textgen replay RUN`` from the command line: what it refuses, before W&B is asked for anything."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from wandb_server import KEY, ROOT, no_server, without_account

from textgen.commands.replay import ReplayConfig, UploadConfig, check_is_run, main
from textgen.errors import UserError
from textgen.reporting.tracking import replay as replay_module
from textgen.reporting.tracking.replay import read_run
from textgen.run.lock import LOCK_FILE


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    (path / "config.yaml").write_text(yaml.safe_dump({"model": "tiny-gpt2", "steps": 2, "wandb_project": "plays"}))
    (path / "metrics.jsonl").write_text('{"step": 1, "train/loss": 2.5}\n{"step": 2, "train/loss": 2.25}\n')
    return path


def refused(*flags: object) -> str:
    with pytest.raises(UserError) as caught:
        main(ReplayConfig(UploadConfig(*flags)))
    return str(caught.value)


def test_what_is_no_run_is_refused(tmp_path):
    assert "there is no such directory" in refused(str(tmp_path / "nothing"))
    assert refused(str(tmp_path)).startswith(f"{tmp_path}: holds no run (no config.yaml)")
    with pytest.raises(UserError, match="cannot be read"):
        check_is_run(Path("x" * 300))


def test_the_time_limit_must_be_positive(run_dir):
    assert refused(str(run_dir), "wandb", None, "offline", 0).startswith("--wandb-timeout 0: must be at least 1.")


@pytest.mark.parametrize("kept", [0, 1])
def test_a_record_without_the_last_steps_of_a_finished_run_is_refused(run_dir, kept):
    (run_dir / "status.json").write_text('{"state": "done", "step": 2}')
    read_run(run_dir)
    rows = (run_dir / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run_dir / "metrics.jsonl").write_bytes(b"".join(rows[:kept]))
    assert refused(str(run_dir)).startswith(f"{run_dir / 'metrics.jsonl'}: damaged: it ends at step {kept}, and")


def test_a_run_that_another_process_writes_is_left_alone(run_dir):
    with FileLock(run_dir / LOCK_FILE):
        assert "another process is writing to this run" in refused(str(run_dir))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", b"- a list"),
        ("config.yaml", b"a: [unclosed"),
        ("environment.json", b"[]"),
        ("status.json", b"{"),
        ("metrics.jsonl", b'nonsense\n{"step": 2}\n'),
        ("samples.jsonl", b'{"step": 2}\n'),
        ("evaluation/perplexity.json", b"{"),
        ("evaluation/perplexity.json", b'{"after": 5}'),
        ("evaluation/decoding.json", b'{"after": 5}'),
        ("evaluation/continuations.jsonl", b'{"when": "after"}\n'),
        ("evaluation/contamination.json", b'{"documents": 5}'),
        ("report.html", b"\xff"),
    ],
)
def test_a_damaged_file_is_named_before_anything_is_sent(run_dir, name, content, monkeypatch):
    monkeypatch.setattr(replay_module, "start_mirrors", lambda *args, **options: pytest.fail("too early"))
    (run_dir / name).parent.mkdir(exist_ok=True)
    (run_dir / name).write_bytes(content)
    assert refused(str(run_dir)).startswith(str(run_dir / name))


@pytest.mark.exhaustive  # half a minute of waiting
@pytest.mark.slow
def test_a_server_that_cannot_be_reached_is_a_message(run_dir, tmp_path):
    with no_server() as (environment, _):
        done = subprocess.run(
            [sys.executable, "-m", "textgen", "replay", str(run_dir)],
            env=without_account(tmp_path) | environment | KEY,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {run_dir}: not uploaded: W&B disabled for this run: ")
    assert "Repeat the command when it can be reached" in done.stderr
    assert "Traceback" not in done.stderr
