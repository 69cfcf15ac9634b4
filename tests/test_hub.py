"""Whether the hub can be reached is known in seconds, and said with the remedy."""

import os
import socket
import sys
import threading

import pytest

from textgen import hub
from textgen.hub import use_hub


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "HF_ENDPOINT"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable.lower(), raising=False)
    for library in ("huggingface_hub.constants", "datasets.config"):
        if library in sys.modules:
            monkeypatch.setattr(sys.modules[library], "HF_HUB_OFFLINE", False)
    hub._unreachable.cache_clear()
    yield
    hub._unreachable.cache_clear()


def test_a_server_that_answers_is_used(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert use_hub() == ""
    assert not os.environ["HF_HUB_OFFLINE"]


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "https://no-such-host.invalid"])
def test_without_a_server_the_libraries_are_set_to_work_offline(monkeypatch, endpoint):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    host = endpoint.split("//")[1].split(":")[0]
    assert use_hub() == f" {host} cannot be reached: check the network, or name a local path."
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert huggingface_hub.constants.HF_HUB_OFFLINE is True


def test_a_name_that_is_looked_up_forever_is_not_waited_for(monkeypatch):
    answered = threading.Event()

    def look_up(*_, **__):
        answered.wait()
        raise OSError("at last")

    monkeypatch.setattr(hub, "_SECONDS", 0.01)
    monkeypatch.setattr(socket, "create_connection", look_up)
    assert "huggingface.co cannot be reached" in use_hub()
    answered.set()


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_a_user_who_works_offline_is_told_the_reason(monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    assert use_hub() == " HF_HUB_OFFLINE is set: unset it, or name a local path."


def test_behind_a_proxy_nothing_is_assumed(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    assert use_hub() == ""
