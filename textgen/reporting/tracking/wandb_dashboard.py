"""A W&B workspace for a project, and a W&B report on one run or two, as code.

Every panel is made from the tables of names that logging uses, so none can show what no run logs.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from textgen.errors import UserError, first_line
from textgen.printable import printable
from textgen.reporting.columns import PERPLEXITIES
from textgen.reporting.results import MOMENT_PAIRS
from textgen.reporting.tracking.rows import EVALUATION, STEP, SYSTEM, TOKENS, TRAINING
from textgen.reporting.tracking.wandb_charts import BARS, FIGURES
from textgen.reporting.tracking.wandb_results import REPORT
from textgen.reporting.tracking.wandb_tables import SAMPLES

NAME = "textgen"
"""The name of the workspace: one that has it already is updated."""

_TIMEOUT = 20  # seconds that the server has to answer
_VIEWS = """query Views($entity: String!, $project: String!, $kind: String!) {
  project(name: $project, entityName: $entity) {
    allViews(viewType: $kind) { edges { node { id name displayName } } }
  }
}"""
_COLUMNS = 24  # of a report's grid
_OF_TOKENS = ("charts/perplexity", "charts/loss_by_position", "charts/calibration")


@dataclass(frozen=True)
class Panel:
    """What a panel shows.

    Attributes:
        kind: "line", "media" (HTML pages), "table", or "bar" (figures of the summary).
        title: its title.
        keys: the names of what it shows.
        x: the horizontal axis of a line.
    """

    kind: str
    title: str
    keys: tuple[str, ...]
    x: str = STEP


def panels() -> dict[str, list[Panel]]:
    """The sections of the workspace, each with its panels, first what a person looks at first."""
    training = [key for key in TRAINING if key != TOKENS]
    finals = [f"{moment}/bits_per_byte" for pair in MOMENT_PAIRS for moment in pair]
    assert PERPLEXITIES[-1].key == "bits_per_byte"
    return {
        "training": [
            *(Panel("line", TRAINING[key], (key,)) for key in training),
            Panel("line", "loss by tokens trained on", ("train/loss",), x=TOKENS),
            Panel("table", "sample texts", (SAMPLES,)),
        ],
        "evaluation": [
            *(Panel("line", title, (key,)) for key, title in EVALUATION.items()),
            Panel("bar", "bits per byte, before and after", tuple(finals)),
            *(Panel("media", FIGURES[key][0], (key,)) for key in _OF_TOKENS),
            *(Panel("table", name.replace("_", " "), (name,)) for name in ("loss_by_position", "calibration")),
        ],
        "decoding": [
            *(Panel("media", title, (key,)) for key, (title, _) in FIGURES.items() if key not in _OF_TOKENS),
            *(Panel("media", column.title, (key,)) for key, column in BARS.items()),
            *(Panel("table", name, (name,)) for name in ("decoding", "diagnostics", "continuations")),
            Panel("media", "report", (REPORT,)),
        ],
        "system": [Panel("line", title, (key,)) for key, title in SYSTEM.items()],
    }


def workspace(entity: str, project: str) -> Any:
    """The workspace of a project, as an object of ``wandb_workspaces``."""
    import wandb_workspaces.workspaces as ws

    sections = [
        ws.Section(name=name, panels=[_drawn(panel) for panel in found], is_open=True)
        for name, found in panels().items()
    ]
    settings = ws.WorkspaceSettings(x_axis=STEP)
    return ws.Workspace(entity=entity, project=project, name=NAME, sections=sections, settings=settings)


def report(entity: str, project: str, runs: Sequence[tuple[str, str]], *, offline: bool = False) -> Any:
    """A report on one run, or on two beside each other, as an object of ``wandb_workspaces``.

    Args:
        entity: W&B user or team.
        project: W&B project.
        runs: id and name of each run.
        offline: leave out which project the runs are from, which the library would ask the server about.
    """
    import wandb_workspaces.expr as expr
    import wandb_workspaces.reports.v2 as wr

    names = " and ".join(printable(name) for _, name in runs)
    ids = [run_id for run_id, _ in runs]
    where: dict[str, Any] = {} if offline else {"entity": entity, "project": project}
    blocks: list[Any] = [wr.TableOfContents()]
    for section, found in panels().items():
        runset = wr.Runset(**where, name=names, filters=expr.And(expr.Metric("ID").isin(ids)))
        drawn = [_drawn(panel) for panel in found]
        for place, panel in enumerate(drawn):
            panel.layout = wr.Layout(x=place % 3 * _COLUMNS // 3, y=place // 3 * 8, w=_COLUMNS // 3, h=8)
        blocks += [wr.H2(section.capitalize()), wr.PanelGrid(runsets=[runset], panels=drawn)]
    return wr.Report(entity=entity, project=project, title=f"textgen: {names}"[:128], blocks=blocks, width="fluid")


def as_json(view: Any) -> str:
    """A workspace or a report as W&B stores it; without a network."""
    return json.dumps(json.loads(view._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)), indent=2)


def publish(view: Any, *, is_report: bool) -> str:
    """Make a workspace or a report on the server, or update the one of its name; returns its address.

    Raises:
        UserError: the server cannot be reached, or refuses.
    """
    import wandb

    name = view.title if is_report else view.name
    asked = {"entity": view.entity, "project": view.project, "kind": "runs" if is_report else "project-view"}
    try:
        service = wandb.Api(timeout=_TIMEOUT)._service_api
        answer: dict[str, Any] = service.execute_graphql(_VIEWS, asked, timeout=_TIMEOUT)
        views = (answer.get("project") or {}).get("allViews") or {}  # a project without runs does not exist yet
        nodes = [edge["node"] for edge in views.get("edges") or []]
        for node in nodes:
            if node["displayName"] == name and is_report:
                view.id = node["id"]
            elif node["displayName"] == name:
                view._internal_id, view._internal_name = node["id"], node["name"]
        view.save()
        return str(view.url)
    except Exception as error:
        raise UserError(
            f"{name}: W&B did not take it: {first_line(error)}. Log in with `wandb login`, check --wandb-entity and "
            "--wandb-project, or use --print to see what would be sent."
        ) from None


def _drawn(panel: Panel) -> Any:
    import wandb_workspaces.reports.v2 as wr

    if panel.kind == "line":
        return wr.LinePlot(title=panel.title, x=panel.x, y=list(panel.keys))
    if panel.kind == "bar":
        return wr.BarPlot(title=panel.title, metrics=[wr.SummaryMetric(key) for key in panel.keys])
    if panel.kind == "media":
        return wr.MediaBrowser(title=panel.title, media_keys=list(panel.keys), num_columns=1)
    return wr.WeavePanelSummaryTable(table_name=panel.keys[0])
