"""Processes, W&B and the hub: what is reachable, and what is not."""

import sys

import pytest

from textgen.commands.checkup import connections
from textgen.commands.checkup.connections import check_hub, check_processes, check_wandb


def test_the_hub_that_cannot_be_reached_is_a_note(monkeypatch):
    for name in (
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    [finding] = check_hub()
    assert finding.state == "note"
    assert finding.text.startswith("127.0.0.1 cannot be reached")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert check_hub()[0].mend == "Unset it."


@pytest.mark.parametrize(("mode", "text"), [("offline", "tracked offline"), ("disabled", "not tracked")])
def test_a_mode_of_wandb_is_respected(monkeypatch, mode, text):
    monkeypatch.setenv("WANDB_MODE", mode)
    [finding] = check_wandb()
    assert (finding.state, text in finding.text) == ("ok", True)


def test_a_broken_wandb_is_a_note(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert "wandb cannot be imported" in check_wandb()[0].text


@pytest.mark.exhaustive  # half a minute of waiting
@pytest.mark.slow
def test_processes_that_cannot_meet_are_a_fault_with_the_reason(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "no-such-card")
    [finding] = check_processes()
    assert finding.state == "fault"
    assert "GLOO_SOCKET_IFNAME" in finding.mend
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    assert check_processes()[0].state == "ok"
    monkeypatch.setattr(connections, "_SECONDS", 0.01)
    assert "nothing after" in check_processes()[0].text
