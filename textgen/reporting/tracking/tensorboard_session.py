"""TensorBoard: event files in the run directory, which ``tensorboard --logdir RUN`` shows."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from textgen.printable import printable
from textgen.reporting.config import TrackingConfig
from textgen.reporting.formatting import finite
from textgen.reporting.results import RunFiles
from textgen.reporting.tracking.rows import TrackedRun, result_values


def start_tensorboard(
    tracked: TrackedRun, config: TrackingConfig, echo: Callable[[str], None], *, fallback: bool = True
) -> "TensorBoardSession":
    """Start writing event files, from the first row: those of before an interruption are replaced."""
    directory = tracked.path / "tensorboard"
    for old in directory.glob("events.out.tfevents.*"):  # the rows come again, and those after a checkpoint anew
        old.unlink(missing_ok=True)
    echo(f"TensorBoard: view the run with `tensorboard --logdir {directory}`")
    return TensorBoardSession(directory, tracked)


class TensorBoardSession:
    """A :class:`textgen.reporting.tracking.mirror.Session` of TensorBoard."""

    def __init__(self, directory: Path, tracked: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.logged_step = self.sampled_step = -1
        self._writer: Any = SummaryWriter(str(directory))
        text = json.dumps(tracked.config, indent=2, ensure_ascii=False, default=str)
        self._writer.add_text("config", _block(text), 0)

    def log(self, row: Mapping[str, Any]) -> None:
        """Write every number of a row."""
        for key, value in row.items():
            if key != "step" and finite(value) is not None:
                self._writer.add_scalar(key, value, row["step"])
        self._writer.flush()

    def log_samples(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write sample texts."""
        for row in rows:
            text = f"{printable(row['prompt'])} ▸{printable(row['text'])}"
            tag = f"samples/{printable(row['strategy'])}/{printable(row['prompt_id'])}"
            self._writer.add_text(tag, _block(text), row["step"])
        self._writer.flush()

    def log_results(self, files: RunFiles) -> None:
        """Write every figure that was measured, at the last step."""
        step = int(files.metrics[-1]["step"]) if files.metrics else 0
        for key, value in result_values(files).items():
            self._writer.add_scalar(key, value, step)

    def end(self, status: Mapping[str, Any]) -> None:
        """Close the files."""
        self._writer.close()


def _block(text: str) -> str:
    """Text that Markdown shows as it is: indented."""
    return "\n".join(f"    {line}" for line in text.splitlines())
