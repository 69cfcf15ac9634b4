"""Starting a W&B run, online or offline, without prompting and without recording secrets."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from textgen.errors import first_line
from textgen.reporting.config import WandbMode
from textgen.reporting.tracking.rows import STEP, TOKENS
from textgen.reporting.tracking.wandb_tables import SAMPLED

_READING = 60  # seconds that W&B may take to read an offline run
_TEARDOWN_SECONDS = 5.0  # for W&B to forget a service that was killed


def start_wandb_run(
    init: Mapping[str, Any], mode: WandbMode, echo: Callable[[str], None], init_timeout: float, *, fallback: bool = True
) -> Any:
    """Start or resume a W&B run; None if W&B is disabled by the mode or by its environment variable.

    Online if that is requested and works, otherwise offline, with a message to ``echo``.

    Args:
        init: arguments of ``wandb.init`` that do not depend on the mode: directory, settings, id, project, name, ….
        mode: "auto" is online if the user is logged in, otherwise offline.
        echo: prints a message.
        init_timeout: seconds to wait for the server.
        fallback: whether a run that cannot be online becomes offline.

    Raises:
        Exception: an offline run cannot be started either, for example because W&B is not installed properly; or,
            without ``fallback``, an online one cannot.
    """
    requested = _requested_mode(mode)
    if requested == "disabled":
        return None
    # With an unresponsive server, W&B's error reporting delays the end of the program by 20 s.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    # A process that started this one may have a service of its own, which could not be ended from here.
    os.environ.pop("WANDB_SERVICE", None)
    import wandb  # here, so that a broken installation disables tracking and does not stop the run

    # Before any run exists: suppresses the banner, and lets an explicit mode override WANDB_MODE.
    quiet = wandb.Settings(silent=True, quiet=True, mode="online")
    wandb.setup(settings=quiet)

    def begin(how: Literal["online", "offline"]) -> Any:
        resume: Literal["allow"] | None = "allow" if how == "online" else None
        run = wandb.init(**init, mode=how, resume=resume, settings=_settings(init_timeout))
        _define_metrics(run)
        return run

    if requested in ("auto", "online"):
        try:
            if _has_key():
                return begin("online")
            if not fallback:
                raise LookupError("no API key found (`wandb login` stores one)")
            if mode == "online":
                echo("W&B: no API key found (`wandb login` stores one); tracking offline.")
        except Exception as error:
            if not fallback:
                raise
            echo(f"W&B: could not start an online run, tracking offline: {first_line(error)}")
            wandb.teardown()  # its service still holds the run that could not be started
            wandb.setup(settings=quiet)
    run = begin("offline")
    directory = run_directory(run)
    remove_superseded(Path(directory), run.id)
    echo(f"W&B offline run: view it with `wandb leet {directory}`, upload it with `wandb sync {directory}`")
    return run


def remove_superseded(directory: Path, run_id: str) -> None:
    """Delete the offline directories that a run had before it was resumed, as far as they were not synced.

    The new one gets every row again, except what was synced. So there is one directory to sync, whatever happened.
    """
    for other in _others(directory, run_id):
        if not _is_synced(other, run_id):
            shutil.rmtree(other, ignore_errors=True)


def synced_before(run: Any) -> dict[str, float]:
    """The largest value of each of a run's steps in its offline directories that were synced before it was resumed."""
    found: dict[str, float] = {}
    for other in _others(Path(run_directory(run)), run.id):
        if not _is_synced(other, run.id):
            continue
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(other)]
        read = subprocess.run(command, capture_output=True, check=True, encoding="utf-8", timeout=_READING)
        rows = [
            record["history"]["item"] for line in read.stdout.splitlines() if "history" in (record := json.loads(line))
        ]
        for key in ("_step", STEP, SAMPLED):
            found |= {key: max([found.get(key, -1), *(row[key] for row in rows if key in row)])}
    return {key: value for key, value in found.items() if value >= 0}


def _others(directory: Path, run_id: str) -> list[Path]:
    """The other offline directories of a run."""
    found = sorted(directory.parent.glob(f"offline-run-*-{run_id}"))
    return [other for other in found if other != directory and not other.is_symlink()]


def _is_synced(directory: Path, run_id: str) -> bool:
    return (directory / f"run-{run_id}.wandb.synced").exists()


def run_directory(run: Any) -> str:
    """The directory of a W&B run, as `wandb leet` and `wandb sync` take it."""
    return str(run.settings.sync_dir)


def is_disabled(mode: WandbMode) -> bool:
    """Whether the mode or W&B's environment variable switch W&B off."""
    return _requested_mode(mode) == "disabled"


def _requested_mode(mode: WandbMode) -> str:
    # WANDB_MODE is how a cluster or a test suite sets the mode of every program.
    return os.environ.get("WANDB_MODE", "auto").lower() if mode == "auto" else mode


def stop_service() -> None:
    """End W&B's service process: with its server dead, it would keep this program from ending for a long time."""
    wandb = sys.modules.get("wandb")
    if wandb is None:  # it was never used, or cannot be imported
        return
    import psutil

    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if child.name() == "wandb-core":
                child.kill()

    def tear_down() -> None:
        with contextlib.suppress(Exception, SystemExit):  # there is no connection any more
            wandb.teardown()  # so that W&B's exit hook does not complain of that

    thread = threading.Thread(target=tear_down, daemon=True)  # it may wait for what never comes
    thread.start()
    thread.join(_TEARDOWN_SECONDS)


def _has_key() -> bool:
    """Whether W&B has a key for its configured server, without prompting or using the network.

    Raises:
        Exception: the key is malformed.
    """
    import wandb

    return bool(wandb.login(prompt=False, verify=False))


def _settings(init_timeout: float) -> Any:
    """Quiet, bounded in time, and without anything that may contain a secret: command line, git state, source, console
    output."""
    import wandb

    return wandb.Settings(
        silent=True,
        quiet=True,
        console="off",
        save_code=False,
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        x_disable_meta=True,
        x_save_requirements=False,
        init_timeout=init_timeout,
        finish_timeout=300,  # the mirror waits for a shorter time, and reports it
        reinit="finish_previous",
    )


def _define_metrics(run: Any) -> None:
    """Plot against our own step, or against tokens: W&B's counter does not survive a resumed run."""
    run.define_metric(STEP, hidden=True)
    run.define_metric(TOKENS, step_metric=STEP)
    for section in ("train/*", "eval/*", "system/*"):
        run.define_metric(section, step_metric=STEP)
    for name in ("eval/loss", "eval/token_perplexity", "eval/bits_per_byte"):
        run.define_metric(name, step_metric=STEP, summary="min,last")
    run.define_metric("samples/step", hidden=True)
    run.define_metric("samples/*", step_metric="samples/step")
