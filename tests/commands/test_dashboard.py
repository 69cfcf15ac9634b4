"""``textgen dashboard`` from the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from wandb_server import ROOT, no_server, stub, without_account

from textgen.commands import dashboard
from textgen.commands.dashboard import DashboardConfig, ViewConfig, main
from textgen.errors import UserError

pytest.importorskip("wandb_workspaces")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    (path / "config.yaml").write_text(yaml.safe_dump({"model": "tiny-gpt2", "steps": 2, "wandb_project": "plays"}))
    return path


def refused(*runs: object, **settings: object) -> str:
    with pytest.raises(UserError) as caught:
        main(DashboardConfig(ViewConfig(tuple(map(str, runs)), **settings)))
    return str(caught.value)


@pytest.fixture
def no_network(monkeypatch):
    import socket

    monkeypatch.setattr(socket.socket, "connect", lambda *args: pytest.fail("a connection"))


def test_print_shows_the_workspace_or_the_report_without_a_network(run_dir, no_network, capsys):
    main(DashboardConfig(ViewConfig(print=True)))
    assert "panelBankConfig" in json.loads(capsys.readouterr().out)["section"]
    main(DashboardConfig(ViewConfig((str(run_dir),), print=True)))
    assert "blocks" in json.loads(capsys.readouterr().out)


def test_what_cannot_be_shown_is_refused(run_dir, tmp_path, monkeypatch):
    assert "at most two runs" in refused(run_dir, run_dir, run_dir, print=True)
    assert "there is no such directory" in refused(tmp_path / "nothing", print=True)
    monkeypatch.setattr(dashboard, "find_spec", lambda name: None)
    assert "pip install wandb-workspaces" in refused(print=True)


def dashboard_of(home: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "textgen", "dashboard", "--wandb-entity", "me", *flags],
        cwd=ROOT,
        env=without_account(home) | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_the_workspace_is_made_once_and_then_updated(tmp_path):
    with stub() as (environment, events):
        for _ in range(2):
            done = dashboard_of(tmp_path, "--wandb-project", "plays", **environment)
            assert done.returncode == 0, done.stderr
            assert "/me/plays?nw=" in done.stdout
    saved = [event["variables"] for event in events if event.get("operation") == "UpsertView2"]
    assert [one.get("id") for one in saved] == [None, "view-0"]
    assert {(one["entityName"], one["projectName"], one["displayName"]) for one in saved} == {
        ("me", "plays", "textgen")
    }
    assert '"train/loss"' in saved[0]["spec"]


@pytest.mark.exhaustive  # W&B tries for half a minute
@pytest.mark.slow
def test_a_server_that_cannot_be_reached_is_a_message_of_the_dashboard(tmp_path):
    with no_server() as (environment, _):
        done = dashboard_of(tmp_path, **environment)
    assert done.returncode == 2
    assert "error: textgen: W&B did not take it: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_report_on_two_runs_is_made(run_dir, tmp_path):
    with stub() as (environment, events):
        done = dashboard_of(tmp_path, str(run_dir), str(run_dir), **environment)
        assert done.returncode == 0, done.stderr
    [saved] = [event["variables"] for event in events if event.get("operation") == "upsertView"]
    assert (saved["entityName"], saved["projectName"], saved["displayName"]) == ("me", "plays", "textgen: run and run")
