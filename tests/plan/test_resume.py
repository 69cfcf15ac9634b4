"""A checkpoint of other settings or data is refused before anything is loaded, and names what differs."""

import hashlib
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from recipes.finetune import FinetuneConfig
from textgen.errors import UserError
from textgen.files import write_json
from textgen.plan.resume import CHANGEABLE, check_restorable, check_resume
from textgen.run.directory import RunDirectory
from textgen.training.checkpoint_manifest import write_manifest

SETTINGS = {"steps": 2, "learning_rate": 1e-3, "seed": 0, "threads": 1, "run_dir": None}


def checksum(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


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
    assert check_resume(str(checkpoint), directory("other", threads=2), "123") == []
    for resume in ("auto", "never"):
        assert check_resume(resume, directory("run"), "123") == []
        assert check_resume(resume, directory("new", seed=3), "456") == []


def test_a_checkpoint_of_another_run_may_differ_in_some_settings_which_are_listed(checkpoint):
    [note] = check_resume(str(checkpoint), directory("other", steps=4, learning_rate=2e-3, threads=3), "123")
    assert note == (
        f"--resume {checkpoint}: settings that differ from those of its run: steps: 2 (existing) vs 4 (requested), "
        "learning_rate: 0.001 (existing) vs 0.002 (requested)"
    )


def test_other_settings_are_named_with_both_values(checkpoint):
    message = refused(checkpoint, directory("other", steps=4, seed=1))
    assert message.startswith(f"--resume {checkpoint}: this checkpoint was written with other settings")
    assert "original one: seed: 0 (existing) vs 1 (requested). Use the same ones" in message
    (checkpoint.parent.parent / "config.yaml").unlink()
    assert "from the original one. Use the same ones" in refused(checkpoint, directory("other", steps=4))


@pytest.mark.parametrize("resume", ["auto", "path"])
def test_a_checkpoint_of_the_run_itself_may_differ_in_length_alone(checkpoint, resume):
    resume = str(checkpoint) if resume == "path" else resume
    assert check_resume(resume, directory("run", steps=4), "123") == []
    assert "learning_rate: 0.001 (existing) vs 0.002 (requested)" in refused(
        resume, directory("run", learning_rate=2e-3)
    )


def test_every_setting_that_may_differ_is_one(checkpoint):
    names = {field.name for group in get_type_hints(FinetuneConfig).values() for field in fields(group)}
    assert set(CHANGEABLE) <= names
    assert not set(CHANGEABLE) & {"model", "method", "data", "block_size", "packing", "global_batch_size", "optimizer"}


def test_what_is_auto_may_have_become_any_value(checkpoint):
    assert check_resume(str(checkpoint), directory("other", learning_rate="auto"), "123") == []
    message = refused(checkpoint, directory("other", learning_rate="auto", seed=4))
    assert "seed: 0 (existing) vs 4 (requested). Use" in message
    (checkpoint.parent.parent / "config.yaml").unlink()
    check_resume(str(checkpoint), directory("other", learning_rate="auto"), "123")  # known when the value is


def test_files_of_the_data_that_changed_are_named(checkpoint):
    write_json(Path("run/environment.json"), {"inputs": {"data": {"a.txt": [3, "x"]}}, "data_sha256": "123"})
    with pytest.raises(UserError, match=r"the data changed .* was written \(a.txt: 3 bytes then, 4 now\), so"):
        check_resume("auto", directory("run"), "456", {"data": {"a.txt": [4, "y"]}})


def test_data_that_changed_before_the_first_checkpoint_is_refused_once_something_was_measured():
    mine = directory("run")
    mine.create()
    now = {"data": {"a.txt": [4, "y"]}}
    write_json(mine.path / "environment.json", {"inputs": {"data": {"a.txt": [3, "x"]}}, "data_sha256": "123"})
    assert check_resume("auto", mine, "456", now) == []
    (mine.path / "evaluation").mkdir()
    assert check_resume("auto", mine, "123", now) == []
    with pytest.raises(
        UserError, match=r"run: the data changed since this run was started \(a.txt: 3 bytes then, 4 now"
    ):
        check_resume("auto", mine, "456", now)


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
    write_manifest(
        checkpoint, step=2, files={config.name: checksum(checkpoint / config.name)}, fingerprints=fingerprints
    )
    config.write_bytes(b"[]")
    assert "seed: 0 (existing) vs 4 (requested)." in refused(checkpoint, directory("other", seed=4))


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
