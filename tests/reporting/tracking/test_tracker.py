"""Starting the trackers that --track names."""

import dataclasses

import pytest

from textgen.files import write_json
from textgen.reporting import config as config_module
from textgen.reporting.config import PACKAGES, TrackingConfig
from textgen.reporting.tracking import tracker as tracker_module
from textgen.reporting.tracking.tracker import TRACKERS, Trackers, start_tracker
from textgen.run.directory import RunDirectory


@pytest.fixture
def directory(tmp_path):
    found = RunDirectory({"model": "tiny-gpt2", "run_dir": None}, path=str(tmp_path / "other"), name="run")
    write_json(found.path / "environment.json", {"train_tokens": 5})
    return found


class Session:
    logged_step = sampled_step = -1

    def __init__(self):
        self.steps = []

    def log(self, row):
        self.steps.append(row["step"])

    def log_samples(self, rows):
        self.steps += [row["step"] for row in rows]

    def log_results(self, files):
        pass

    def end(self, status):
        self.steps.append(status["state"])


@pytest.fixture
def sessions(monkeypatch):
    """What each library was started with, and the run that it has then."""
    started = {}
    for name, library in TRACKERS.items():

        def start(tracked, config, echo, name=name):
            started[name] = (tracked, config, Session())
            return started[name][-1]

        stand_in = dataclasses.replace(library, start=start, prepare=lambda tracked: None)
        monkeypatch.setitem(tracker_module.TRACKERS, name, stand_in)
        monkeypatch.setitem(tracker_module.PACKAGES, name, "json")
    return started


def test_every_value_of_the_flag_is_a_tracker():
    assert list(TRACKERS) == list(PACKAGES)
    assert len(TRACKERS) == 4


def test_each_tracker_gets_every_row_and_the_end(directory, sessions, run_dir):
    trackers = start_tracker(directory, TrackingConfig(track="mlflow, wandb", wandb_mode="offline"), print)
    trackers.log({"step": 1})
    trackers.log_samples([{"step": 0}])
    trackers.finish(run_dir)
    assert sorted(sessions) == ["mlflow", "wandb"]
    for tracked, config, session in sessions.values():
        assert (tracked.path, tracked.id, tracked.name) == (directory.path, directory.tracking_id(), "other")
        assert (tracked.settings, tracked.facts) == (directory.settings, {"train_tokens": 5})
        assert config.wandb_mode == "offline"
        assert session.steps == [1, 0, "done"]


@pytest.mark.parametrize("config", [TrackingConfig(track="none"), TrackingConfig(wandb_mode="disabled")])
def test_nothing_is_started_that_is_switched_off(directory, sessions, config):
    trackers = start_tracker(directory, config, print)
    assert isinstance(trackers, Trackers)
    trackers.log({"step": 1})
    trackers.log_samples([{"step": 1}])
    trackers.finish(directory.path)
    assert sessions == {}


def test_what_the_flag_names_is_split_and_checked(monkeypatch):
    assert TrackingConfig(track="wandb, mlflow,wandb").trackers == ["wandb", "mlflow"]
    assert TrackingConfig(track="none").trackers == []
    assert TrackingConfig(wandb_tags="a, b,,a").tags == ["a", "b"]
    assert TrackingConfig(track="none,wandb").problems() == [
        "--track none,wandb: none cannot be combined with a tracker. Leave out the one or the other."
    ]
    [problem] = TrackingConfig(track="wandb,tensorbord").problems()
    assert problem.startswith("--track tensorbord: no such tracker. Perhaps you meant tensorboard?")
    [problem] = TrackingConfig(track="").problems()
    assert problem.startswith("--track : no such tracker.")
    [problem] = TrackingConfig(wandb_tags=f"short,{'x' * 65}").problems()
    assert problem.startswith(f"--wandb-tags {'x' * 65}: has 65 characters")
    monkeypatch.setattr(config_module, "find_spec", lambda package: None if package == "mlflow" else object())
    [problem] = TrackingConfig(track="wandb,mlflow").problems()
    assert problem.startswith("--track mlflow: its library is not installed. Run `pip install mlflow`, or")
