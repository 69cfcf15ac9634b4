"""Starting the tracker that --track names."""

from typing import get_args, get_type_hints

from textgen.reporting.config import TrackingConfig
from textgen.reporting.tracking import tracker as tracker_module
from textgen.reporting.tracking.tracker import TRACKERS, NoTracker, start_tracker
from textgen.reporting.tracking.wandb_mirror import WandbMirror
from textgen.run.directory import RunDirectory


def directory(tmp_path):
    return RunDirectory({"model": "tiny-gpt2", "run_dir": None}, path=str(tmp_path / "run"), name="run")


def test_every_value_of_the_flag_starts_a_tracker():
    assert set(TRACKERS) == set(get_args(get_type_hints(TrackingConfig)["track"]))


def test_wandb_is_started_with_the_settings_and_the_id_of_the_directory(tmp_path, monkeypatch):
    started = {}

    def start(run_dir, config, **options):
        started.update(run_dir=run_dir, config=config, **options)
        return "the mirror"

    monkeypatch.setattr(tracker_module.WandbMirror, "start", start)
    run = directory(tmp_path)
    config = TrackingConfig(wandb_project="plays", wandb_mode="offline")
    assert start_tracker(run, config, print) == "the mirror"
    assert started == {
        "run_dir": run.path,
        "config": run.settings,
        "run_id": run.tracking_id(),
        "project": "plays",
        "mode": "offline",
        "name": "run",
        "echo": print,
        "timeout": 120,
    }


def test_none_does_nothing_whatever_the_wandb_mode(tmp_path, monkeypatch):
    monkeypatch.setattr(WandbMirror, "start", lambda *args, **options: 1 / 0)
    tracker = start_tracker(directory(tmp_path), TrackingConfig(track="none", wandb_mode="online"), print)
    assert isinstance(tracker, NoTracker)
    tracker.log({"step": 1})
    tracker.log_samples([{"step": 1}])
    tracker.finish(tmp_path)
    assert list(tmp_path.iterdir()) == []
