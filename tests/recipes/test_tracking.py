"""No tracker, slow or dead, changes a result or loses a row (promise 8)."""

import time
from pathlib import Path

import pytest
from running import LIGHT, tree
from wandb_server import no_server, steps, stub

pytestmark = pytest.mark.slow

SERVERS = {
    "works": (),
    "refuses": None,
    "answers 500": ("--fail", ""),
    "hangs": ("--hang", ""),
    "answers 500 to rows": ("--fail", "file_stream"),
    "hangs on rows": ("--hang", "file_stream"),
    "dies in mid-run": ("--die-after", "2"),
}


SAMPLE = ("works", "hangs on rows", "dies in mid-run")


@pytest.mark.parametrize(
    "server", [pytest.param(name, marks=[] if name in SAMPLE else pytest.mark.exhaustive) for name in SERVERS]
)
def test_a_server_changes_no_byte_and_is_waited_for_no_longer_than_was_said(
    server: str, plain: Path, run_recipe, text_file, tmp_path: Path, monkeypatch
) -> None:
    options = SERVERS[server]
    with no_server() if options is None else stub(*options) as (environment, events):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        flags = [*LIGHT, "--wandb-mode", "online", "--wandb-timeout", 5, "--data", text_file]
        start = time.monotonic()
        ran = run_recipe("finetune", *flags, "--run-dir", tmp_path / "run")
        seconds = time.monotonic() - start
    assert tree(tmp_path / "run/model") == tree(plain / "model")
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == (plain / "metrics.jsonl").read_bytes()
    assert '"state": "done"' in (tmp_path / "run/status.json").read_text()
    assert "Traceback" not in ran.error
    assert seconds < 100
    if server == "works":
        assert steps(events) == [1, 2, 3, 4, 5, 6]
    else:
        assert "textgen replay" in ran.out or "wandb sync" in ran.out
