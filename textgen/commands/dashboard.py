"""Make or update a Weights & Biases workspace for the runs of a project, or a report on one run or two.

Without a run, the workspace "textgen" of the project: sections for training, evaluation, decoding and the system. With
a run directory, a report on that run; with two, on both beside each other. It needs the package wandb-workspaces.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from textgen.commands.replay import check_is_run
from textgen.errors import UserError
from textgen.files import user_path
from textgen.reporting.config import TrackingConfig
from textgen.run.main import run_script

_PACKAGE = "wandb_workspaces"


@dataclass(frozen=True)
class ViewConfig:
    """What to show, and where."""

    runs: Annotated[tuple[str, ...], Positional, arg(metavar="RUN")] = ()
    """Directories of runs to report on: none, one or two."""
    wandb_entity: str | None = None
    """W&B user or team. Default: the one that you are logged in as."""
    wandb_project: str | None = None
    """W&B project. Default: that of the run, or textgen."""
    print: bool = False
    """Print the JSON that W&B would get, and use no network."""

    def problems(self) -> list[str]:
        """Invalid settings, one message each."""
        found = [] if len(self.runs) <= 2 else [f"{' '.join(self.runs)}: at most two runs can be compared."]
        if find_spec(_PACKAGE) is None:
            found.append("textgen dashboard: needs wandb-workspaces. Run `pip install wandb-workspaces`.")
        return found


@dataclass(frozen=True)
class DashboardConfig:
    view: ViewConfig


def main(config: DashboardConfig) -> None:
    given = config.view
    if problems := given.problems():
        raise UserError.of(problems)
    paths = [user_path(run, setting="RUN") for run in given.runs]
    for path in paths:
        check_is_run(path)

    from textgen.reporting.tracking import wandb_dashboard  # imports torch

    runs, project = _read(paths)
    project = given.wandb_project or project or TrackingConfig.wandb_project
    entity = given.wandb_entity or ("ENTITY" if given.print else _own_entity())
    make = wandb_dashboard
    view = make.report(entity, project, runs, offline=given.print) if runs else make.workspace(entity, project)
    if given.print:
        print(wandb_dashboard.as_json(view))
    else:
        print(wandb_dashboard.publish(view, is_report=bool(runs)))


def _read(paths: list[Path]) -> tuple[list[tuple[str, str]], str | None]:
    """Id and name of each run, and the project of the first."""
    from textgen.reporting.results import RunFiles
    from textgen.reporting.tracking.replay import tracking_id

    found = [RunFiles.read(path) for path in paths]
    runs = [(tracking_id(run), run.path.resolve().name) for run in found]
    return runs, str(found[0].config.get("wandb_project") or "") or None if found else None


def _own_entity() -> str:
    import wandb

    try:
        entity = wandb.Api(timeout=20).default_entity if wandb.login(prompt=False) else None
    except Exception:
        entity = None
    if not entity:
        raise UserError("textgen dashboard: W&B does not say who you are. Run `wandb login`, or use --wandb-entity.")
    return str(entity)


def run() -> None:
    """Parse the command line, make the view, and exit with the documented code."""
    run_script(DashboardConfig, main, description=__doc__ or "")
