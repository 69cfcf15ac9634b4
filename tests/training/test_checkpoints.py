"""Checkpoints restore a run to the bit, and a damaged one is never loaded."""

import errno
import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from textgen.data.blocks import GlobalBatches
from textgen.data.token_stream import TokenStream
from textgen.disk import DiskError
from textgen.errors import Diverged, UserError
from textgen.files import write_json
from textgen.model.adapters.lora import add_adapters
from textgen.model.config import AdapterConfig
from textgen.model.loss import ModelWithLoss
from textgen.training import checkpoint_writer as writer_module
from textgen.training import checkpoints as checkpoints_module
from textgen.training.checkpoint_manifest import find_damage, read_manifest
from textgen.training.checkpoint_reader import load_checkpoint
from textgen.training.checkpoints import Checkpoints, newest_checkpoint
from textgen.training.config import TrainingConfig
from textgen.training.optimizers import build_optimizer
from textgen.training.precision import loss_scale, restore_loss_scale
from textgen.training.step import training_step
from textgen.training.train_state import TrainState

FILES = ("manifest.json", "optimizer.safetensors", "parameters.safetensors", "state.json")
FINGERPRINTS = {"settings": "a" * 64, "data": "b" * 64, "model": "c" * 64}
TOKENS = np.random.default_rng(0).integers(0, 300, 200).astype(np.uint16)
STREAM = TokenStream(TOKENS, np.array([1]))


def silent(message: str) -> None:
    pass


def small() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A model of six numbers, after one step: enough for everything about files."""
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 2)
    optimizer = build_optimizer(model, TrainingConfig())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return model, optimizer


def save(directory: Path, step: int, keep: int = 2, best: int | None = None) -> Path:
    return Checkpoints(directory, *small(), FINGERPRINTS, keep=keep).save(TrainState(step, 10 * step, best, 1.5))


def steps(directory: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in directory.glob("step-*"))


def bits(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, bytes]:
    """The bytes of every trainable parameter and of every tensor of the optimizer."""
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            found[name] = parameter.detach().numpy().tobytes()
            for key, value in optimizer.state[parameter].items():
                found[f"{name}/{key}"] = value.numpy().tobytes()
    return found


def trainer(accelerator: Any, model: Any) -> tuple[Any, Any, Callable[[int, int], None]]:
    """A model, its optimizer, and a function that trains from one step to another."""
    scored, optimizer = accelerator.prepare(ModelWithLoss(model), build_optimizer(model, TrainingConfig()))
    data = GlobalBatches(STREAM, block_size=8, global_batch_size=4, microbatch_size=2, seed=0)

    def train(first: int, last: int) -> None:
        for step in range(first, last + 1):
            training_step(accelerator, scored, optimizer, data, step=step, learning_rate=1e-2, max_grad_norm=1.0)

    return scored.train().model, optimizer.optimizer, train


@pytest.mark.parametrize("method", ["full", "lora"])
def test_training_continues_from_a_checkpoint_as_if_it_had_not_stopped(accelerator, tiny_gpt2, tmp_path, method):
    def fresh() -> tuple[Any, Any, Callable[[int, int], None]]:
        model = tiny_gpt2(resid_pdrop=0.1)
        if method == "lora":
            model = add_adapters(model, AdapterConfig(), "base", seed=0)
        return trainer(accelerator, model)

    model, optimizer, train = fresh()
    train(1, 3)
    state = TrainState(step=3, targets=96, best_step=2, best_value=0.1 + 0.2)
    Checkpoints(tmp_path, model, optimizer, FINGERPRINTS, keep=1).save(state)
    at_the_stop = bits(model, optimizer)
    train(4, 6)

    again, again_optimizer, train_again = fresh()
    assert Checkpoints(tmp_path, again, again_optimizer, FINGERPRINTS).resume("auto", silent) == state
    assert bits(again, again_optimizer) == at_the_stop
    train_again(4, 6)
    assert bits(again, again_optimizer) == bits(model, optimizer)


def test_tied_weights_are_saved_once_and_stay_tied(accelerator, tiny_gpt2, tmp_path):
    model, optimizer, train = trainer(accelerator, tiny_gpt2())
    train(1, 1)
    Checkpoints(tmp_path, model, optimizer, FINGERPRINTS, keep=1).save(TrainState(step=1))
    other, other_optimizer, _ = trainer(accelerator, tiny_gpt2(seed=1))
    Checkpoints(tmp_path, other, other_optimizer, FINGERPRINTS).resume("auto", silent)
    assert other.lm_head.weight is other.transformer.wte.weight
    assert torch.equal(other.lm_head.weight, model.lm_head.weight)


def test_saving_twice_writes_the_same_bytes_and_no_pickles(tmp_path):
    one, two = save(tmp_path / "one", 5), save(tmp_path / "two", 5)
    assert {path.name for path in one.iterdir()} == set(FILES)
    for name in FILES:
        assert (one / name).read_bytes() == (two / name).read_bytes()
    manifest = read_manifest(one)
    assert manifest["step"] == 5
    assert manifest["fingerprints"] == FINGERPRINTS
    assert set(manifest["files"]) == set(FILES) - {"manifest.json"}


def test_more_files_are_saved_as_they_are_at_that_step_and_verified(tmp_path):
    texts = iter([b"one", b"two"])
    checkpoints = Checkpoints(tmp_path, *small(), FINGERPRINTS, extra=lambda: {"config.yaml": next(texts)})
    one, two = (checkpoints.save(TrainState(step)) for step in (1, 2))
    assert [(path / "config.yaml").read_bytes() for path in (one, two)] == [b"one", b"two"]
    assert find_damage(two) is None
    (two / "config.yaml").write_bytes(b"owt")
    assert find_damage(two) == "config.yaml does not match its checksum"
    assert checkpoints.resume("auto", silent).step == 1


def test_without_a_checkpoint_a_run_starts_at_the_beginning(tmp_path):
    for where in ("auto", "never"):
        assert Checkpoints(tmp_path / "checkpoints", *small(), FINGERPRINTS).resume(where, silent) == TrainState()


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    """Two intact checkpoints, of steps 1 and 2."""
    directory = tmp_path_factory.mktemp("pair")
    for step in (1, 2):
        save(directory, step)
    return directory


@settings(max_examples=300)
@given(name=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_makes_the_previous_checkpoint_the_newest(pair, name, place, bit):
    path = pair / "step-00000002" / name
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[int(place * len(whole))] ^= 1 << bit
    try:
        path.write_bytes(flipped)
        messages: list[str] = []
        assert newest_checkpoint(pair, messages.append) == pair / "step-00000001"
        assert len(messages) == 1
        assert messages[0].startswith("skipping damaged checkpoint step-00000002: ")
        assert name in messages[0] or name == "manifest.json"
    finally:
        path.write_bytes(whole)
    assert newest_checkpoint(pair, silent) == pair / "step-00000002"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0, 1, 0.5, -1, None])
def test_a_file_that_is_truncated_extended_or_missing_is_detected(tmp_path, name, kept):
    save(tmp_path, 1)
    path = save(tmp_path, 2) / name
    whole = path.read_bytes()
    if kept is None:
        path.unlink()
    else:
        path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    messages: list[str] = []
    state = Checkpoints(tmp_path, *small(), FINGERPRINTS).resume("auto", messages.append)
    assert state.step == 1
    assert messages[0].startswith("skipping damaged checkpoint step-00000002: ")
    assert messages[-1] == f"resuming from {tmp_path / 'step-00000001'}, after step 1"
    path.write_bytes(whole + b" ")
    assert find_damage(path.parent) is not None


def test_without_an_intact_checkpoint_the_run_starts_over_with_a_message_for_each(tmp_path):
    for step in (1, 2):
        (save(tmp_path, step) / "state.json").write_text("{}")
    messages: list[str] = []
    assert Checkpoints(tmp_path, *small(), FINGERPRINTS).resume("auto", messages.append) == TrainState()
    assert len(messages) == 2


def test_a_given_checkpoint_is_loaded_or_refused_but_never_replaced_by_another(tmp_path):
    older, newer = save(tmp_path, 1), save(tmp_path, 2)
    assert Checkpoints(tmp_path, *small(), FINGERPRINTS).resume(str(older), silent).step == 1
    (older / "parameters.safetensors").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"--resume .*step-00000001: parameters\.safetensors does not match its checksum"
    ):
        Checkpoints(tmp_path, *small(), FINGERPRINTS).resume(str(older), silent)
    assert Checkpoints(tmp_path, *small(), FINGERPRINTS).resume(str(newer), silent).step == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data": "x"}, "the data changed since"),
        ({"settings": "x"}, "the settings changed since"),
        ({"data": "x", "model": "y"}, "the data and the model changed since"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_what_changed(tmp_path, changed, message):
    path = save(tmp_path, 1)
    checkpoints = Checkpoints(tmp_path, *small(), FINGERPRINTS | changed)
    before = bits(checkpoints.model, checkpoints.optimizer)
    for source in ("auto", str(path)):
        with pytest.raises(UserError, match=message):
            checkpoints.resume(source, silent)
    assert bits(checkpoints.model, checkpoints.optimizer) == before


def test_files_that_changed_are_named(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", *small(), FINGERPRINTS)
    path = checkpoints.save(TrainState(1))
    write_json(tmp_path / "environment.json", {"inputs": {"data": {"a.txt": [5, "x"]}, "model": {"m.bin": [3, "y"]}}})
    inputs = {"data": {"a.txt": [6, "z"]}, "model": {"m.bin": [3, "w"]}}
    changed = Checkpoints(checkpoints.directory, *small(), FINGERPRINTS | {"data": "x"}, inputs=inputs)
    with pytest.raises(UserError) as caught:
        changed.find("auto", silent)
    assert f"{path}: the data changed since this checkpoint was written (a.txt: 5 bytes then, 6 now), so" in str(
        caught.value
    )


def test_a_checkpoint_of_another_run_may_have_other_settings_and_is_left_for_a_later_one_of_this(tmp_path):
    theirs = save(tmp_path / "theirs", 5)
    mine = Checkpoints(tmp_path / "mine", *small(), FINGERPRINTS | {"settings": "others"})
    assert mine.find(str(theirs), silent) == theirs
    early, late = mine.save(TrainState(4)), None
    assert mine.find(str(theirs), silent) == theirs
    late = mine.save(TrainState(6))
    assert mine.find(str(theirs), silent) == late
    assert mine.find(str(early), silent) == early, "one of this run is taken as it was named"


def test_a_checkpoint_that_does_not_say_its_tokenizer_is_accepted(tmp_path):
    path = save(tmp_path, 1)
    assert Checkpoints(tmp_path, *small(), FINGERPRINTS | {"tokenizer": "x"}).find("auto", silent) == path
    saved = Checkpoints(tmp_path, *small(), FINGERPRINTS | {"tokenizer": "x"}).save(TrainState(2))
    with pytest.raises(UserError, match="the tokenizer changed since"):
        Checkpoints(tmp_path, *small(), FINGERPRINTS | {"tokenizer": "y"}).find(str(saved), silent)


def test_finding_a_checkpoint_accepts_or_refuses_it_without_loading_anything(tmp_path, monkeypatch):
    path = save(tmp_path, 7)
    monkeypatch.setattr(checkpoints_module, "load_checkpoint", lambda *args: pytest.fail("loaded"))
    model, optimizer = small()
    with torch.no_grad():
        model.weight.add_(1.0)
    before = bits(model, optimizer)
    for source in ("auto", "never", str(path)):
        assert Checkpoints(tmp_path, model, optimizer, FINGERPRINTS).find(source, silent) == path
        with pytest.raises(UserError, match="the model changed since this checkpoint was written"):
            Checkpoints(tmp_path, model, optimizer, FINGERPRINTS | {"model": "x"}).find(source, silent)
    (path / "optimizer.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"optimizer\.safetensors does not match its checksum"):
        Checkpoints(tmp_path, model, optimizer, FINGERPRINTS).find(str(path), silent)
    assert Checkpoints(tmp_path, model, optimizer, FINGERPRINTS).find("auto", silent) is None
    assert bits(model, optimizer) == before


def test_loading_without_a_checkpoint_is_a_new_state(tmp_path):
    assert Checkpoints(tmp_path, *small(), FINGERPRINTS).load(None, silent) == TrainState()


def test_the_loss_scale_is_saved_and_restored(tmp_path):
    scaler, other = (torch.amp.GradScaler("cpu", init_scale=scale) for scale in (8.0, 1024.0))
    restore_loss_scale(scaler, (8.0, 3))
    saved = Checkpoints(tmp_path, *small(), FINGERPRINTS, scaler=scaler).save(TrainState(step=1))
    assert json.loads((saved / "state.json").read_text())["loss_scale"] == [8.0, 3]
    assert Checkpoints(tmp_path, *small(), FINGERPRINTS, scaler=other).resume("auto", silent) == TrainState(step=1)
    assert loss_scale(other) == (8.0, 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_saved_and_delete_nothing(tmp_path, value):
    save(tmp_path, 1, keep=1)
    model, optimizer = small()
    with torch.no_grad():
        model.bias[0] = value
    with pytest.raises(Diverged, match="step 2: its update left weights that are not finite"):
        Checkpoints(tmp_path, model, optimizer, FINGERPRINTS, keep=1).save(TrainState(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_checkpoint_from_before_skipped_steps_were_counted_is_loaded(tmp_path):
    path = save(tmp_path, 1) / "state.json"
    old = {"step": 1, "targets": 5, "best_step": None, "best_value": None, "loss_scale": None}
    path.write_text(json.dumps(old))
    assert load_checkpoint(path.parent, *small()) == TrainState(1, 5)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"step": "1"}, "a count is not a whole number"),
        ({"step": True}, "a count is not a whole number"),
        ({"targets": -5}, "a count is not a whole number"),
        ({"metrics": {"train/loss": None}}, "a value is not a number"),
        ({"metrics": [1]}, "no attribute 'values'"),
        ({"losses": 7}, "not iterable"),
        ({"unknown": 1}, "unexpected keyword argument 'unknown'"),
        ({"loss_scale": "high"}, "could not convert string to float"),
        ({"loss_scale": []}, "index out of range"),
    ],
)
def test_a_state_that_textgen_did_not_write_is_refused(tmp_path, change, named):
    path = save(tmp_path, 1) / "state.json"
    write_json(path, json.loads(path.read_text()) | change)
    with pytest.raises(UserError, match=f"step-00000001: its checksums match, but .*state.json: .*{named}"):
        load_checkpoint(path.parent, *small())


def test_tensors_of_another_model_are_refused(tmp_path):
    path = save(tmp_path, 1)
    model, optimizer = small()
    with pytest.raises(UserError, match="other parameters than those that are trained"):
        load_checkpoint(path, torch.nn.Linear(3, 2), optimizer)
    save_file({"weigth/step": torch.ones(1)}, path / "optimizer.safetensors")
    with pytest.raises(UserError, match="optimizer: weigth/step"):
        load_checkpoint(path, model, optimizer)


class SlowDisk:
    """Writes of checkpoints wait until they are allowed; or fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.allowed, self.error, self.started = threading.Event(), None, threading.Event()
        self.write = writer_module.write_verified
        monkeypatch.setattr(writer_module, "write_verified", self)

    def __call__(self, path: Path, pieces: Any) -> Any:
        self.started.set()
        assert self.allowed.wait(30)
        if self.error and path.name == "state.json":  # the last file
            raise self.error
        return self.write(path, pieces)


@pytest.fixture
def disk(monkeypatch) -> SlowDisk:
    return SlowDisk(monkeypatch)


def test_in_the_background_the_weights_of_the_step_are_written_while_training_changes_them(tmp_path, disk):
    model, optimizer = small()
    checkpoints = Checkpoints(tmp_path, model, optimizer, FINGERPRINTS, background=True)
    at_the_step = bits(model, optimizer)
    saved = checkpoints.save(TrainState(1))
    assert disk.started.wait(30)
    with torch.no_grad():
        for tensor in [*model.parameters(), *optimizer.state[model.weight].values()]:
            tensor.add_(1.0)
    checkpoints.poll()
    assert not saved.exists()
    assert newest_checkpoint(tmp_path, silent) is None, "what is not complete looks like no checkpoint"
    disk.allowed.set()
    checkpoints.wait()
    assert find_damage(saved) is None
    load_checkpoint(saved, model, optimizer)
    assert bits(model, optimizer) == at_the_step


def test_in_the_background_one_checkpoint_is_written_at_a_time(tmp_path, disk):
    checkpoints = Checkpoints(tmp_path, *small(), FINGERPRINTS, background=True)
    checkpoints.save(TrainState(1))
    threading.Timer(0.2, disk.allowed.set).start()
    checkpoints.save(TrainState(2))
    assert 1 in steps(tmp_path)
    checkpoints.wait()
    assert steps(tmp_path) == [1, 2]


@pytest.mark.parametrize("call", ["save", "wait", "poll"])
def test_an_error_in_the_background_is_raised_once_and_leaves_the_earlier_checkpoint(tmp_path, disk, call):
    disk.allowed.set()
    checkpoints = Checkpoints(tmp_path, *small(), FINGERPRINTS, background=True, keep=1)
    checkpoints.save(TrainState(1))
    checkpoints.wait()
    disk.error = OSError(errno.ENOSPC, "No space left on device", "state.json")
    checkpoints.save(TrainState(2))
    while not checkpoints.writer._task.finished:
        time.sleep(0.01)
    with pytest.raises(DiskError, match=r"state\.json: cannot be written: the disk is full: about \d+ bytes is needed"):
        {"save": lambda: checkpoints.save(TrainState(3)), "wait": checkpoints.wait, "poll": checkpoints.poll}[call]()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    checkpoints.wait()
    disk.error = None
    checkpoints.save(TrainState(4))
    checkpoints.wait()
    assert steps(tmp_path) == [4]


def test_training_goes_on_without_a_checkpoint_only_if_told_to_and_with_a_warning_each_time(tmp_path, disk):
    disk.allowed.set()
    warnings: list[str] = []
    checkpoints = Checkpoints(tmp_path, *small(), FINGERPRINTS, background=True, warn=warnings.append)
    disk.error = OSError(errno.ENOSPC, "No space left on device", "state.json")
    for step in (1, 2):
        checkpoints.save(TrainState(step))
        checkpoints.wait()
        assert len(warnings) == step
        assert warnings[-1].startswith("warning: training continues without a checkpoint. state.json: cannot be")
    disk.error = None
    checkpoints.save(TrainState(3))
    checkpoints.wait()
    assert (len(warnings), steps(tmp_path)) == (2, [3])


def test_a_run_directory_that_is_gone_is_not_created_again(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints", *small(), FINGERPRINTS)
    with pytest.raises(DiskError, match="run: the directory is gone"):
        checkpoints.save(TrainState(1))
    assert not (tmp_path / "run").exists()


def test_without_memory_for_copies_a_checkpoint_is_written_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints_module, "available_bytes", lambda device: 100)
    monkeypatch.setattr(writer_module, "own_copy", lambda tensor: pytest.fail("copied"))
    saved = Checkpoints(tmp_path, *small(), FINGERPRINTS, background=True).save(TrainState(1))
    assert find_damage(saved) is None


def test_a_disk_that_returns_other_bytes_loses_no_checkpoint(tmp_path, monkeypatch):
    """The newest verified checkpoint is never deleted: here the next one cannot be verified."""
    save(tmp_path, 1, keep=1)
    read = np.fromfile

    def flipped(file: Any, *args: Any) -> Any:
        found = read(file, *args)
        if "optimizer" in file.name:
            found[-1] ^= 1
        return found

    monkeypatch.setattr(np, "fromfile", flipped)
    with pytest.raises(DiskError, match="the disk returned other bytes"):
        save(tmp_path, 2, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert find_damage(tmp_path / "step-00000001") is None


def test_what_killed_processes_left_is_removed_when_a_run_goes_on(tmp_path):
    save(tmp_path, 1)
    for name in (".step-00000002.partial", ".step-00000001.replaced", ".other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
    Checkpoints(tmp_path, *small(), FINGERPRINTS).resume("auto", silent)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other", "step-00000001"]


def test_damaged_later_checkpoints_do_not_count_as_recent(tmp_path):
    for step in (1, 2, 8, 9):
        save(tmp_path, step, keep=9)
    save(tmp_path, 3, keep=2)
    assert steps(tmp_path) == [2, 3, 8, 9]


def test_a_partial_checkpoint_left_by_a_crash_is_ignored(tmp_path):
    save(tmp_path, 1)
    torn = tmp_path / ".step-00000002.partial"
    torn.mkdir()
    (torn / "parameters.safetensors").write_bytes(b"torn")
    messages: list[str] = []
    assert newest_checkpoint(tmp_path, messages.append) == tmp_path / "step-00000001"
    assert messages == []
    saved = save(tmp_path, 2)
    assert find_damage(saved) is None
    assert not torn.exists()


def test_saving_a_step_again_replaces_its_checkpoint(tmp_path):
    (save(tmp_path, 3) / "state.json").write_text("damaged")
    assert find_damage(save(tmp_path, 3)) is None
    assert steps(tmp_path) == [3]


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [(1, None, [6]), (2, None, [5, 6]), (2, 2, [2, 5, 6]), (1, 6, [6]), (9, 1, [1, 2, 3, 4, 5, 6])],
)
def test_the_last_and_the_best_are_kept_and_others_deleted(tmp_path, keep, best, left):
    for step in range(1, 7):
        save(tmp_path, step, keep=keep, best=best if best and best <= step else None)
    assert steps(tmp_path) == left
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{step:08d}" for step in left]


def test_after_resuming_from_an_earlier_step_new_checkpoints_are_kept(tmp_path):
    for step in (1, 8, 9):
        save(tmp_path, step, keep=9)
    save(tmp_path, 2, keep=1)
    assert 2 in steps(tmp_path)


@given(
    step=st.integers(0, 10**8 - 1),
    targets=st.integers(0, 2**60),
    best=st.none() | st.integers(1, 10**8),
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    losses=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=70),
)
@settings(max_examples=25)
def test_the_state_is_restored_exactly(tmp_path_factory, step, targets, best, value, losses):
    state = TrainState(step, targets, best, value, skipped=targets % 3, losses=tuple(losses))
    directory = tmp_path_factory.mktemp("state")
    Checkpoints(directory, *small(), FINGERPRINTS, keep=1).save(state)
    assert Checkpoints(directory, *small(), FINGERPRINTS).resume("auto", silent) == state
    saved = json.loads((directory / f"step-{step:08d}" / "state.json").read_text())
    assert saved == asdict(state) | {"losses": losses, "loss_scale": None}
