"""Starting a W&B run, online or offline, without prompting and without recording secrets."""

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal

from textgen.errors import first_line
from textgen.reporting.config import WandbMode


def start_wandb_run(
    init: Mapping[str, Any], mode: WandbMode, echo: Callable[[str], None], init_timeout: float, *, fallback: bool = True
) -> Any:
    """Start or resume a W&B run; None if W&B is disabled by the mode or by its environment variable.

    Online if that is requested and works, otherwise offline, with a message to ``echo``.

    Args:
        init: arguments of ``wandb.init`` that do not depend on the mode: directory, settings, id, project, name.
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
    echo(f"W&B offline run: view it with `wandb leet {directory}`, upload it with `wandb sync {directory}`")
    return run


def run_directory(run: Any) -> str:
    """The directory of a W&B run, as `wandb leet` and `wandb sync` take it."""
    return str(run.settings.sync_dir)


def import_wandb(mode: WandbMode) -> None:
    """Import W&B if it will be used, on the thread of the caller; what is wrong with it shows when the run starts.

    Two threads that import modules at once may see half of one, so the training thread does this before others begin.
    """
    if _requested_mode(mode) != "disabled":
        with contextlib.suppress(Exception):
            import wandb  # noqa: F401


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
    with contextlib.suppress(Exception, SystemExit):  # there is no connection any more
        wandb.teardown()  # so that W&B's exit hook does not complain of that


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
        finish_timeout=300,  # WandbMirror waits for a shorter time, and reports it
        reinit="finish_previous",
    )


def _define_metrics(run: Any) -> None:
    """Plot against our own step: W&B's counter does not survive a resumed run."""
    run.define_metric("train/step", hidden=True)
    run.define_metric("train/*", step_metric="train/step")
    run.define_metric("eval/*", step_metric="train/step")
    run.define_metric("samples/step", hidden=True)
    run.define_metric("samples/*", step_metric="samples/step")
