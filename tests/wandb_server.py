"""A W&B server to test with, in a process of its own: ``tests/reporting/tracking/wandb_stub.py``."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STUB = Path(__file__).parent / "reporting/tracking/wandb_stub.py"
ROOT = Path(__file__).parents[1]
KEY = {"WANDB_API_KEY": "a" * 40}
Events = list[dict[str, Any]]


@contextlib.contextmanager
def stub(*options: str) -> Iterator[tuple[dict[str, str], Events]]:
    """A stub of the W&B server: the environment variables that select it, and the events that it received."""
    events: Events = []
    with subprocess.Popen([sys.executable, str(STUB), *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        reader = threading.Thread(target=lambda out: events.extend(map(json.loads, out)), args=(process.stdout,))
        reader.start()
        try:
            yield {"WANDB_BASE_URL": f"http://127.0.0.1:{port}"} | KEY, events
        finally:
            process.terminate()
            reader.join(10)


@contextlib.contextmanager
def no_server() -> Iterator[tuple[dict[str, str], Events]]:
    """A server that refuses connections, as that of :func:`stub`."""
    yield {"WANDB_BASE_URL": "http://127.0.0.1:9"} | KEY, []  # "discard", which nothing listens to


def without_account(home: Path) -> dict[str, str]:
    """Environment variables of a user without a W&B account, who imports textgen from this checkout."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    return clean | {"HOME": str(home), "NETRC": str(home / ".netrc"), "PYTHONPATH": str(ROOT)}


def steps(events: Events, key: str = "train/step") -> list[int]:
    """The steps of the rows that a server received, in order."""
    return [row[key] for event in events for row in event.get("history", []) if key in row]
