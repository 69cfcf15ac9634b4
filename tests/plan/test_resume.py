"""A checkpoint of other settings or data is refused before anything is loaded, and names what differs."""

from pathlib import Path
from typing import Any

import pytest

from textgen.errors import UserError
from textgen.plan.resume import check_restorable, check_resume
from textgen.run.directory import RunDirectory
from textgen.training.checkpoint_manifest import checksums, write_manifest

SETTINGS = {"steps": 2, "learning_rate": 1e-3, "threads": 1, "run_dir": None}


def directory(path: str, **changed: Any) -> RunDirectory:
    return RunDirectory(SETTINGS | changed, path=path, name="run")


@pytest.fixture
def checkpoint() -> Path:
    """A checkpoint of a run in ``run``, with data "123"."""
    mine = directory("run")
    mine.create()
    path = mine.path / "checkpoints/step-00000002"
    path.mkdir(parents=True)
    write_manifest(path, step=2, files={}, fingerprints={"settings": mine.fingerprint, "data": "123", "model": "x"})
    return path


def refused(resume: object, mine: RunDirectory, data: str = "123") -> str:
    with pytest.raises(UserError) as caught:
        check_resume(str(resume), mine, data)
    return str(caught.value)


def test_the_same_settings_and_data_can_resume(checkpoint):
    check_resume(str(checkpoint), directory("other", threads=2), "123")
    for resume in ("auto", "never"):
        check_resume(resume, directory("run"), "123")
        check_resume(resume, directory("new", steps=3), "456")


def test_other_settings_are_named_with_both_values(checkpoint):
    message = refused(checkpoint, directory("other", steps=4, learning_rate=2e-3, threads=3))
    assert message.startswith(f"--resume {checkpoint}: this checkpoint was written with other settings")
    assert "steps: 2 (existing) vs 4 (requested), learning_rate: 0.001 (existing) vs 0.002 (requested)." in message
    (checkpoint.parent.parent / "config.yaml").unlink()
    assert "from the original one. Use the same ones" in refused(checkpoint, directory("other", steps=4))


def test_what_is_auto_may_have_become_any_value(checkpoint):
    check_resume(str(checkpoint), directory("other", learning_rate="auto"), "123")
    message = refused(checkpoint, directory("other", learning_rate="auto", steps=4))
    assert "steps: 2 (existing) vs 4 (requested). Use" in message
    (checkpoint.parent.parent / "config.yaml").unlink()
    check_resume(str(checkpoint), directory("other", learning_rate="auto"), "123")  # known when the value is


@pytest.mark.parametrize("resume", ["auto", "path"])
def test_other_data_is_refused_too(checkpoint, resume):
    message = refused(checkpoint if resume == "path" else resume, directory("run"), "456")
    assert f"{checkpoint}: the data changed since this checkpoint was written" in message


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"fingerprints": 5}', b"\xff"])
def test_a_damaged_checkpoint_is_left_to_the_loading(checkpoint, content):
    (checkpoint / "manifest.json").write_bytes(content)
    check_resume(str(checkpoint), directory("other", steps=4), "123")
    check_resume(str(checkpoint.parent / "step-00000009"), directory("other"), "123")


def test_settings_come_from_the_checkpoints_own_copy(checkpoint):
    config = checkpoint.parent.parent / "config.yaml"
    (checkpoint / config.name).write_bytes(config.read_bytes())
    fingerprints = {"settings": directory("run").fingerprint, "data": "123"}
    write_manifest(checkpoint, step=2, files=checksums([checkpoint / config.name]), fingerprints=fingerprints)
    config.write_bytes(b"[]")
    assert "steps: 2 (existing) vs 4 (requested)." in refused(checkpoint, directory("other", steps=4))


def finished(step: int) -> RunDirectory:
    mine = directory("run")
    mine.create()
    mine.write_file("result", b"1234")
    mine.finish({}, step=step)
    return mine


def test_a_finished_run_that_is_damaged_needs_its_last_checkpoint(checkpoint):
    finished(step=2)
    check_restorable(directory("run"))
    (checkpoint.parent.parent / "result").write_bytes(b"1235")
    check_restorable(directory("run"))  # restored from the checkpoint
    (checkpoint / "manifest.json").write_bytes(b"")
    with pytest.raises(UserError, match=r"run/result: missing or damaged, and no intact checkpoint of the last step"):
        check_restorable(directory("run"))
    assert (checkpoint.parent.parent / "result").read_bytes() == b"1235"


def test_a_checkpoint_of_an_earlier_step_does_not_restore_a_finished_run(checkpoint):
    finished(step=3)
    (checkpoint.parent.parent / "result").unlink()
    with pytest.raises(UserError, match=r"run/result: missing or damaged"):
        check_restorable(directory("run"))


def test_an_unfinished_run_needs_nothing():
    check_restorable(directory("run"))
    directory("run").create()
    check_restorable(directory("run"))
