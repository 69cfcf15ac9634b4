"""Whether the run in a directory can go on with another number of steps, and what the message advises if not."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from textgen.errors import UserError
from textgen.files import write_json
from textgen.plan.extend import check_length, check_steps_left, other_lengths
from textgen.run.directory import RunDirectory
from textgen.training.checkpoint_manifest import write_manifest
from textgen.training.config import TrainingConfig

CONSTANT = TrainingConfig(steps=40, learning_rate=1e-3, warmup_steps=4, schedule="constant")


def begun(training: TrainingConfig, done: int, total: int | None = None) -> None:
    """A run in ``run`` that has a checkpoint."""
    directory = RunDirectory(asdict(training), path="run", name="run")
    directory.create()
    write_json(directory.path / "environment.json", {} if total is None else {"total_steps": total})
    (directory.path / f"checkpoints/step-{done:08d}").mkdir(parents=True)


def check(training: TrainingConfig, total: int | None = None) -> None:
    check_length(training, RunDirectory(asdict(training), path="run", name="run"), total or training.steps)


def refused(training: TrainingConfig, total: int | None = None) -> str:
    with pytest.raises(UserError) as caught:
        check(training, total)
    return str(caught.value)


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_new_run_and_one_of_the_same_length_have_nothing_to_check():
    check(CONSTANT)
    begun(replace(CONSTANT, schedule="cosine"), 40)
    check(replace(CONSTANT, schedule="cosine"))


def test_a_constant_schedule_goes_on_also_to_fewer_steps_than_were_planned():
    begun(CONSTANT, 20)
    check(replace(CONSTANT, steps=80))
    check(replace(CONSTANT, steps=21))
    assert "--steps 20: the run in --run-dir run has been trained for 20 steps already" in refused(
        replace(CONSTANT, steps=20)
    )


def test_a_decay_that_has_begun_is_explained():
    begun(replace(CONSTANT, schedule="cosine"), 20)
    message = refused(replace(CONSTANT, schedule="cosine", steps=80))
    assert message.startswith("--steps 80: the run in --run-dir run cannot go on to 80 steps. Its steps so far would")
    assert "in step 5: --schedule cosine of 40 steps, with 4 of warm-up, is not that of 80, with 4." in message
    assert message.endswith("with --resume run/checkpoints/step-00000020.")


def test_a_longer_warm_up_has_a_remedy():
    begun(CONSTANT, 20)
    message = refused(replace(CONSTANT, steps=80, warmup_steps="auto"))
    assert message.endswith("Add --warmup-steps 4 to go on with the warm-up that it had.")
    check(replace(CONSTANT, steps=80, warmup_steps=4))


def test_epochs_are_compared_once_they_are_counted():
    epochs = replace(CONSTANT, steps=None, epochs=1.0)
    begun(replace(epochs, schedule="cosine"), 20, total=40)
    check(replace(epochs, schedule="cosine", epochs=2.0), None)
    assert refused(replace(epochs, schedule="cosine", epochs=2.0), 80).startswith("--epochs 2.0: the run in")
    assert "--schedule cosine of 40 steps" in refused(replace(CONSTANT, schedule="cosine", steps=80))


@pytest.mark.parametrize("damaged", [{"warmup_steps": "x"}, {"learning_rate": None}, {"schedule": "x"}])
def test_a_run_whose_settings_are_damaged_is_left_alone(damaged):
    begun(replace(CONSTANT, **damaged), 20)
    assert "is not known any more" in refused(replace(CONSTANT, steps=80))


def test_a_run_whose_length_is_unknown_is_left_alone():
    begun(replace(CONSTANT, steps=None, epochs=1.0), 20)
    assert "is not known any more. Use its own length (--epochs 1.0)" in refused(replace(CONSTANT, steps=80))


def named(**changed) -> RunDirectory:
    """A run whose directory has the default name."""
    return RunDirectory(asdict(replace(CONSTANT, **changed)) | {"run_dir": None}, path=None, name="x[1]")


def test_without_a_directory_runs_of_another_length_are_pointed_out():
    short, other = named(), named(seed=1)
    for run in (short, other):
        run.create()
    Path("runs/x-1-damaged").mkdir()
    Path("runs/x-1-damaged/config.yaml").write_bytes(b"[")
    assert other_lengths(named(steps=80)) == [
        f"{short.path} has this run with --steps 40; to go on with it, add --run-dir {short.path}"
    ]
    assert other_lengths(short) == other_lengths(named(seed=2)) == []
    chosen = RunDirectory(asdict(CONSTANT) | {"run_dir": "mine"}, path="mine", name="x")
    assert other_lengths(chosen) == []


def test_a_checkpoint_of_another_run_must_leave_steps_to_train():
    begun(CONSTANT, 20)
    checkpoint = Path("run/checkpoints/step-00000020")
    write_manifest(checkpoint, step=20, files={}, fingerprints={})

    def check_left(steps: int | None, resume: str = str(checkpoint), run: str = "new") -> None:
        training = replace(CONSTANT, steps=steps)
        check_steps_left(resume, training, RunDirectory(asdict(training), path=run, name="run"), steps)

    check_left(21)
    check_left(None)  # not known yet
    check_left(20, "auto")
    check_left(20, run="run")  # what follows its last step may be missing
    for steps in (15, 20):
        with pytest.raises(UserError, match=rf"--steps {steps}: --resume .* goes on after step 20, .*: ask for more"):
            check_left(steps)
    (checkpoint / "manifest.json").write_text("{", encoding="utf-8")
    check_left(15)  # damaged: the message comes when it is loaded
