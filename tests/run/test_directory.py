"""The run directory: its name, its owner, its settings and its state."""

import errno
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from textgen.checksums import sha256_of, with_seal, write_sealed
from textgen.data.config import DataConfig
from textgen.errors import UserError
from textgen.evaluation.config import EvaluationConfig
from textgen.files import json_bytes
from textgen.model.config import AdapterConfig, ModelConfig
from textgen.reporting.config import TrackingConfig
from textgen.run.config import NOT_FINGERPRINTED, RunConfig
from textgen.run.directory import RunDirectory, fingerprint
from textgen.training.config import EngineConfig, TrainingConfig

GROUPS = (
    ModelConfig(),
    AdapterConfig(),
    DataConfig(),
    TrainingConfig(),
    EngineConfig(),
    RunConfig(),
    TrackingConfig(),
    EvaluationConfig(),
)
FLAT: dict[str, Any] = {name: value for group in GROUPS for name, value in asdict(group).items() if name != "config"}
RUN_SETTINGS = {"verify_data", "run_dir", "resume", "checkpoint_every", "keep_checkpoints", "dry_run", "threads"}
RUN_SETTINGS |= {"on_full_disk"}
TRACKING_SETTINGS = {"track", "wandb_project", "wandb_mode", "wandb_timeout"}
TRACKING_SETTINGS |= {"wandb_tags", "wandb_group", "wandb_notes", "quiet"}
DATA_SETTINGS = {"verify_data"}
STOPPING = {"max_skipped_steps"}  # says when a run ends without a result, and changes none


def directory(
    given: Path | None = None, *, name: str = "some-name", resume: str = "auto", **changed: Any
) -> RunDirectory:
    flat = FLAT | {"run_dir": str(given) if given else None} | changed
    return RunDirectory(flat, path=str(given) if given else None, name=name, resume=resume)


def other_value(value: Any) -> Any:
    return not value if isinstance(value, bool) else value + 1 if isinstance(value, int | float) else f"{value}x"


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", FLAT)
def test_the_fingerprint_depends_on_every_setting_except_those_without_effect(name):
    changed = fingerprint(FLAT | {name: other_value(FLAT[name])}) != fingerprint(FLAT)
    assert changed == (name not in RUN_SETTINGS | TRACKING_SETTINGS | DATA_SETTINGS | STOPPING)


def test_settings_without_effect_exist():
    assert RUN_SETTINGS | TRACKING_SETTINGS | DATA_SETTINGS | STOPPING | {"output_dir"} == NOT_FINGERPRINTED
    assert set(FLAT) >= NOT_FINGERPRINTED - {"output_dir"}


def test_the_fingerprint_does_not_depend_on_the_order_of_settings():
    assert fingerprint(dict(reversed(FLAT.items()))) == fingerprint(FLAT)


def test_the_default_name_describes_the_run_and_differs_by_settings():
    one, other = directory(name="tiny-gpt2-full-a b/ü"), directory(name="tiny-gpt2-full-a b/ü", seed=1)
    assert one.path == Path("runs") / f"tiny-gpt2-full-a-b-{one.fingerprint[:8]}"
    assert other.path != one.path
    assert directory(name="tiny-gpt2-full-a b/ü", threads=3).path == one.path
    assert directory(name="../..").path.parent == Path("runs")


@pytest.mark.parametrize("given", [None, Path("mine")])
def test_never_chooses_the_next_free_name(given):
    first = directory(given)
    assert directory(given, resume="never").path == first.path, "a free name is used unchanged"
    first.create()
    assert directory(given).path == first.path
    for number in (2, 3):
        beside = directory(given, resume="never")
        assert beside.path == first.path.with_name(f"{first.path.name}-{number}")
        beside.create()


def test_never_uses_a_directory_with_only_the_status_of_an_earlier_failure():
    early = directory(Path("mine"))
    early.record_end("failed", 2, "--steps 0: must be positive.")
    assert directory(Path("mine"), resume="never").path == Path("mine")


def test_config_yaml_has_every_setting_and_the_directory():
    mine = directory(learning_rate=1e-5, model="a: b")
    mine.create()
    written = yaml.safe_load((mine.path / "config.yaml").read_text(encoding="utf-8"))
    assert written == mine.settings | {"run_dir": str(mine.path)}
    evaluation = RunDirectory({"output_dir": None, "model": "x"}, path=None, name="evaluation")
    evaluation.create()
    written = yaml.safe_load((evaluation.path / "config.yaml").read_text(encoding="utf-8"))
    assert written == {"output_dir": str(evaluation.path), "model": "x"}


@given(
    rate=st.floats(allow_nan=False),
    data=st.text(st.characters(codec=None)),
    column=st.none() | st.text(),
    seed=st.integers(-(2**70), 2**70),
)
@example(rate=1e-05, data="next\x85line", column="no", seed=0)
def test_the_same_settings_are_recognized_for_all_values(tmp_path_factory, rate, data, column, seed):
    mine = directory(tmp_path_factory.mktemp("run"), learning_rate=rate, data=data, revision=column, seed=seed)
    mine.create()
    mine.check()


def test_check_accepts_new_empty_and_own_directories_and_changes_nothing(tmp_path):
    for path in (tmp_path / "new" / "deep", tmp_path):
        directory(path).check()
        assert list(tmp_path.iterdir()) == []
    directory(tmp_path / "mine").create()
    before = (tmp_path / "mine" / "config.yaml").stat()
    directory(tmp_path / "mine", threads=4, wandb_mode="offline", keep_checkpoints=9).check()
    assert (tmp_path / "mine" / "config.yaml").stat() == before


def test_check_names_the_files_of_a_directory_without_a_run(tmp_path):
    (tmp_path / "thesis.tex").write_text("x", encoding="utf-8")
    with pytest.raises(UserError, match=r"--run-dir .* holds no run: there is no config\.yaml \(thesis\.tex\)"):
        directory(tmp_path).check()


def test_check_names_the_settings_in_which_another_run_differs(tmp_path):
    directory(tmp_path, learning_rate=3e-4, threads=1).create()
    with pytest.raises(UserError) as caught:
        directory(tmp_path, learning_rate=1e-3, lora_rank=4, threads=2).check()
    message = str(caught.value)
    assert "learning_rate: 0.0003 (existing) vs 0.001 (requested)" in message
    assert "lora_rank: 8 (existing) vs 4 (requested)" in message
    assert "threads" not in message
    with pytest.raises(UserError, match="omit --output-dir"):
        RunDirectory({"output_dir": None, "model": "x"}, path=str(tmp_path), name="evaluation").check()


@pytest.mark.parametrize("content", [b"model: [", b"- 1", b"", b"\xff\xfe"])
def test_check_fails_for_a_run_with_damaged_settings(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.yaml is damaged"):
        directory(tmp_path).check()


@pytest.mark.parametrize("place", ["/proc/textgen-run", "file.txt", "file.txt/below/it"])
def test_check_fails_for_an_unwritable_place(tmp_path, place):
    (tmp_path / "file.txt").write_text("x", encoding="utf-8")
    with pytest.raises(UserError, match=r"--run-dir .* cannot be written"):
        directory(Path(place)).check()


def test_creating_an_unwritable_directory_is_a_user_error(tmp_path):
    (tmp_path / "file.txt").write_text("x", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        directory(tmp_path / "file.txt" / "run").create()


def test_a_directory_in_place_of_the_settings_is_named(tmp_path):
    (tmp_path / "run" / "config.yaml").mkdir(parents=True)
    with pytest.raises(UserError, match=r"--run-dir .*config\.yaml: cannot be written: Is a directory"):
        directory(tmp_path / "run").create()


def test_status_reads_what_was_written_and_is_empty_for_a_damaged_file():
    mine = directory(Path("mine"))
    assert mine.status() == {}
    mine.create()
    mine.write_status("running", step=12)
    assert mine.status().items() >= {"state": "running", "step": 12, "exit_code": None, "message": ""}.items()
    assert mine.status().keys() >= {"host", "process_id"}
    (mine.path / "status.json").write_text('{"state": "runn', encoding="utf-8")
    assert mine.status() == {}


@pytest.mark.parametrize("content", ["[]", "3", '{"state": "dine", "step": 3}', '{"state": "done", "step": []}'])
def test_a_status_that_no_run_writes_counts_as_none(content):
    mine = directory(Path("mine"))
    mine.create()
    (mine.path / "status.json").write_text(content, encoding="utf-8")
    assert mine.status() == {}
    assert not mine.has_finished()


def test_what_a_resumed_run_depends_on_is_intact_or_comes_from_its_checkpoint():
    mine = directory(Path("mine"))
    assert mine.environment() == {}
    mine.create()
    mine.write_file("environment.json", json_bytes(with_seal({"microbatch_size": 4})))
    assert mine.environment() == {"microbatch_size": 4}
    path = mine.path / "environment.json"
    path.write_bytes(path.read_bytes().replace(b"4", b"3", 1))
    assert mine.environment() == {}, "a damaged one is not used"
    checkpoint(mine)
    assert mine.environment() == {"microbatch_size": 4}


@pytest.mark.parametrize("content", [None, b"", b"[]", b"model: [", b"steps: 2024-01-01\n", b"3: 4\n", b"\xff"])
def test_damaged_settings_are_those_of_the_checkpoint(content):
    mine = directory(Path("mine"), seed=1)
    mine.create()
    checkpoint(mine)
    path = mine.path / "config.yaml"
    path.unlink() if content is None else path.write_bytes(content)
    again = directory(Path("mine"), seed=1)
    assert again.exists()
    again.check()
    with pytest.raises(UserError, match="seed: 1 \\(existing\\) vs 2"):
        directory(Path("mine"), seed=2).check()


def test_a_setting_that_was_damaged_is_not_taken_for_another_run():
    mine = directory(Path("mine"), seed=1)
    mine.create()
    path = mine.path / "config.yaml"
    path.write_bytes(path.read_bytes().replace(b"seed: 1", b"seed: 3"))
    with pytest.raises(UserError, match=r"other settings \(config\.yaml\)\. seed: 3"):
        directory(Path("mine"), seed=1).check()
    checkpoint(mine)
    directory(Path("mine"), seed=1).check()


@pytest.mark.parametrize("content", [None, b"[]", b"seed: 1"])
def test_damaged_settings_of_a_finished_run_are_those_of_its_manifest(content):
    finished()
    path = Path("mine/config.yaml")
    path.unlink() if content is None else path.write_bytes(content)
    directory(Path("mine")).check()
    with pytest.raises(UserError, match="other settings"):
        directory(Path("mine"), seed=7).check()


def finished() -> RunDirectory:
    mine = directory(Path("mine"))
    mine.create()
    (mine.path / "result.json").write_bytes(b"{}")
    mine.finish({"result.json": sha256_of(b"{}")}, step=7)
    return mine


def test_a_finished_run_is_complete_while_its_files_are_what_it_wrote():
    finished()
    assert directory(Path("mine")).is_complete()
    for name in ("result.json", "config.yaml", "manifest.json"):
        mine = finished()
        (mine.path / name).write_bytes(b"{ }")
        found = directory(Path("mine"))
        assert found.has_finished()
        assert not found.is_complete()
        assert found.damage() == [name]
        assert f"complete, but damaged ({name}), so it would be finished again" == found.describe()


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"state": "d'])
def test_a_damaged_status_does_not_undo_a_finished_run(content):
    status = finished().path / "status.json"
    whole = status.read_bytes()
    status.unlink() if content is None else status.write_bytes(content)
    found = directory(Path("mine"))
    assert found.is_complete()
    found.restore_status()
    assert status.read_bytes() == whole


def test_a_run_that_is_finished_again_is_not_complete_meanwhile():
    finished()
    again = directory(Path("mine"))
    again.create()
    again.write_status("running", step=7)
    assert not again.has_finished()
    assert not again.is_complete()


def test_small_files_that_were_damaged_are_written_again():
    mine = directory(Path("mine"))
    mine.create()
    assert mine.mend() == []
    (mine.path / "config.yaml").write_bytes(b"")
    assert mine.mend() == ["config.yaml"]
    directory(Path("mine")).check()
    assert mine.copies() == {"config.yaml": (mine.path / "config.yaml").read_bytes()}


def checkpoint(mine: RunDirectory) -> None:
    """A checkpoint that has nothing but the copies of a run's files."""
    path = mine.path / "checkpoints/step-00000002"
    path.mkdir(parents=True)
    files = {name: {"sha256": sha256_of(data)} for name, data in mine.copies().items()}
    for name, data in mine.copies().items():
        (path / name).write_bytes(data)
    write_sealed(path / "manifest.json", {"files": files})


def test_a_failure_is_recorded_with_the_last_step():
    mine = directory()
    mine.create()
    mine.write_status("running", step=12)
    mine.record_end("failed", 3, "loss nan")
    expected = {"state": "failed", "exit_code": 3, "message": "loss nan", "step": 12}
    assert mine.status().items() >= expected.items()


@pytest.mark.parametrize("state", ["failed", "preempted"])
def test_a_full_disk_does_not_keep_the_end_from_being_recorded(monkeypatch, state):
    mine = directory()
    mine.create()
    mine.write_status("running", step=12)

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("textgen.run.directory.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        mine.write_status("running", step=13)
    for message in ("the disk is full, and there is more to say", "the disk is full"):
        mine.record_end(state, 2, message)
        assert mine.status().items() >= {"state": state, "exit_code": 2, "message": message, "step": 12}.items()


def test_a_failure_before_the_start_is_recorded_only_in_a_directory_that_the_user_named():
    directory().record_end("failed", 2, "no such data")
    assert not Path("runs").exists()
    directory(Path("mine")).record_end("failed", 2, "no such data")
    assert directory(Path("mine")).status()["exit_code"] == 2
    directory(Path("mine")).record_end("failed", 2, "no such model")
    assert directory(Path("mine")).status()["message"] == "no such model", "the latest problem"


@pytest.mark.parametrize("state", ["done", "running", "failed"])
def test_a_failure_never_overwrites_the_status_of_another_run(state):
    other = directory(Path("other"), seed=1)
    other.create()
    other.write_status(state, step=5, exit_code=0)
    before = (other.path / "status.json").read_bytes()
    directory(Path("other"), seed=2).record_end("failed", 2, "holds a run with other settings")
    assert (other.path / "status.json").read_bytes() == before


def test_a_failure_is_not_recorded_among_other_files_or_over_a_finished_status(tmp_path):
    (tmp_path / "thesis.tex").write_text("x", encoding="utf-8")
    directory(tmp_path).record_end("failed", 2, "holds other files")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    finished = directory(tmp_path / "finished")
    finished.write_status("done", exit_code=0)
    directory(tmp_path / "finished").record_end("failed", 2, "late")
    assert finished.status()["state"] == "done"


def test_a_failure_that_cannot_be_recorded_raises_nothing(tmp_path):
    (tmp_path / "file.txt").write_text("x", encoding="utf-8")
    directory(tmp_path / "file.txt" / "run").record_end("failed", 2, "cannot be written")
    assert (tmp_path / "file.txt").read_text(encoding="utf-8") == "x"


def test_the_tracking_id_is_stable_when_a_run_resumes_and_differs_between_runs(tmp_path):
    mine = directory(tmp_path / "a")
    assert directory(tmp_path / "a", threads=3).tracking_id() == mine.tracking_id()
    others = {directory(tmp_path / "b").tracking_id(), directory(tmp_path / "a", seed=1).tracking_id()}
    assert len(others | {mine.tracking_id()}) == 3


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_file_in_place_of_the_directory_is_named_and_kept(tmp_path, resume):
    (tmp_path / "out.txt").write_text("mine", encoding="utf-8")
    mine = directory(tmp_path / "out.txt", resume=resume)
    with pytest.raises(UserError, match=r"--run-dir .*out\.txt: cannot be written: this is a file\. Name a directory"):
        mine.check()
    mine.record_end("failed", 2, "this is a file")
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == "mine"


def test_a_name_that_the_system_refuses_is_an_error():
    with pytest.raises(UserError, match=r"--run-dir x*: cannot be written: File name too long\."):
        directory(Path("x" * 1000)).check()


def test_a_directory_in_use_is_refused_and_names_who_uses_it(tmp_path, monkeypatch):
    mine = directory(tmp_path)
    mine.create()
    mine.write_status("running", step=7)
    (tmp_path / ".lock").write_text(json.dumps({"host": "elsewhere", "process_id": 123}), encoding="utf-8")
    before = (tmp_path / "status.json").read_bytes()
    monkeypatch.setattr("textgen.run.directory.is_locked", lambda path: path == tmp_path)
    monkeypatch.setattr("textgen.run.directory.take_lock", lambda path: path != tmp_path)
    other = directory(tmp_path)
    for use in (other.check, other.create):
        with pytest.raises(UserError) as caught:
            use()
        holder = "process 123 on elsewhere is writing to it, at step 7."
        assert str(caught.value).startswith(f"--run-dir {tmp_path}: {holder} Wait for it or end it, or use")
    other.record_end("failed", 2, str(caught.value))
    assert (tmp_path / "status.json").read_bytes() == before
    (tmp_path / "status.json").unlink()
    (tmp_path / ".lock").write_bytes(b"")
    with pytest.raises(UserError, match="another process is writing to it, at step 0"):
        other.check()
    monkeypatch.setenv("RANK", "1")
    other.check()


def test_the_lock_is_no_file_of_another_kind(tmp_path):
    (tmp_path / ".lock").write_bytes(b"")
    directory(tmp_path).check()
    assert directory(tmp_path, resume="never").path == tmp_path


def test_a_run_of_another_length_is_neither_refused_nor_complete(tmp_path):
    mine = directory(tmp_path / "run", steps=5)
    mine.create()
    mine.finish({}, step=5)
    assert mine.is_complete()
    for changed in ({"steps": 9}, {"steps": None, "epochs": 2.0}):
        longer = directory(tmp_path / "run", **changed)
        longer.check()
        assert longer.has_other_length()
        assert not longer.is_complete()
        assert longer.checkpoint_fingerprint == mine.checkpoint_fingerprint
        assert longer.fingerprint != mine.fingerprint
    assert not mine.has_other_length()
    assert directory(tmp_path / "run", steps=5, seed=3).checkpoint_fingerprint != mine.checkpoint_fingerprint
    (tmp_path / "run/config.yaml").write_bytes(b"[")
    assert mine.is_complete(), "what its settings were is not known"


def test_the_state_is_described_for_a_plan(tmp_path):
    mine = directory(tmp_path)
    assert mine.describe() == "new"
    mine.create()
    assert mine.describe() == "to be resumed"
    mine.finish({}, step=3)
    assert mine.describe().startswith("already complete, so nothing would be done; use --resume=never")


def test_a_tilde_in_its_name_is_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert directory(Path("~/runs/mine")).path == tmp_path / "runs/mine"
