"""``textgen dashboard`` from the command line."""

import json
from pathlib import Path

import pytest
import yaml

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
