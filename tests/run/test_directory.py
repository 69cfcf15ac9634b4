"""Whose directory it is, what is in it, and how a recipe ends."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from textgen.data.config import DataConfig
from textgen.errors import Diverged, UserError
from textgen.evaluation.config import EvaluationConfig
from textgen.model.config import AdapterConfig, ModelConfig
from textgen.run.directory import RunConfig, RunDirectory, fingerprint, launch
from textgen.training.config import EngineConfig, TrainingConfig

ROOMS = (
    ModelConfig(),
    AdapterConfig(),
    DataConfig(),
    TrainingConfig(),
    EngineConfig(),
    RunConfig(),
    EvaluationConfig(),
)
FLAT: dict[str, Any] = {name: value for room in ROOMS for name, value in asdict(room).items() if name != "config"}
WHERE_AND_HOW_OFTEN = {"run_dir", "resume", "checkpoint_every", "keep_checkpoints", "dry_run", "threads"}
WHO_IS_TOLD = {"track", "wandb_project", "wandb_mode"}


def directory(
    given: Path | None = None, *, name: str = "some-name", resume: str = "auto", **changed: Any
) -> RunDirectory:
    flat = FLAT | {"run_dir": str(given) if given else None} | changed
    return RunDirectory(flat, given=str(given) if given else None, name=name, resume=resume)


def other_value(value: Any) -> Any:
    return not value if isinstance(value, bool) else value + 1 if isinstance(value, int | float) else f"{value}x"


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", FLAT)
def test_the_fingerprint_sees_every_setting_but_those_without_effect(name):
    changed = fingerprint(FLAT | {name: other_value(FLAT[name])}) != fingerprint(FLAT)
    assert changed == (name not in WHERE_AND_HOW_OFTEN | WHO_IS_TOLD)


def test_the_fingerprint_does_not_depend_on_the_order_of_settings():
    assert fingerprint(dict(reversed(FLAT.items()))) == fingerprint(FLAT)


def test_the_default_name_says_what_is_run_and_differs_by_settings():
    one, other = directory(name="tiny-gpt2-full-a b/ü"), directory(name="tiny-gpt2-full-a b/ü", seed=1)
    assert one.path == Path("runs") / f"tiny-gpt2-full-a-b-{one.fingerprint[:8]}"
    assert other.path != one.path
    assert directory(name="tiny-gpt2-full-a b/ü", threads=3).path == one.path
    assert directory(name="../..").path.parent == Path("runs")


@pytest.mark.parametrize("given", [None, Path("mine")])
def test_never_names_the_next_directory_beside_the_ones_in_use(given):
    first = directory(given)
    assert directory(given, resume="never").path == first.path, "a free name is taken as it is"
    first.claim()
    assert directory(given).path == first.path
    for number in (2, 3):
        beside = directory(given, resume="never")
        assert beside.path == first.path.with_name(f"{first.path.name}-{number}")
        beside.claim()


def test_never_takes_a_directory_that_holds_nothing_but_word_of_an_earlier_failure():
    early = directory(Path("mine"))
    early.fail(2, "--steps 0: give a positive number.")
    assert directory(Path("mine"), resume="never").path == Path("mine")


def test_a_claimed_directory_holds_every_setting_and_where_it_is():
    mine = directory(learning_rate=1e-5, model="a: b")
    mine.claim()
    assert yaml.safe_load((mine.path / "config.yaml").read_text()) == mine.flat | {"run_dir": str(mine.path)}
    evaluation = RunDirectory({"output_dir": None, "model": "x"}, given=None, name="evaluation")
    evaluation.claim()
    written = yaml.safe_load((evaluation.path / "config.yaml").read_text())
    assert written == {"output_dir": str(evaluation.path), "model": "x"}


@given(
    rate=st.floats(allow_nan=False),
    data=st.text(st.characters(codec=None)),
    column=st.none() | st.text(),
    seed=st.integers(-(2**70), 2**70),
)
@example(rate=1e-05, data="next\x85line", column="no", seed=0)
def test_the_same_settings_are_recognised_whatever_their_values(tmp_path_factory, rate, data, column, seed):
    mine = directory(tmp_path_factory.mktemp("run"), learning_rate=rate, data=data, revision=column, seed=seed)
    mine.claim()
    mine.check()


def test_check_passes_new_empty_and_own_directories_and_touches_nothing(tmp_path):
    for path in (tmp_path / "new" / "deep", tmp_path):
        directory(path).check()
        assert list(tmp_path.iterdir()) == []
    directory(tmp_path / "mine").claim()
    before = (tmp_path / "mine" / "config.yaml").stat()
    directory(tmp_path / "mine", threads=4, wandb_mode="offline", keep_checkpoints=9).check()
    assert (tmp_path / "mine" / "config.yaml").stat() == before


def test_check_refuses_a_directory_of_other_files_by_name(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"--run-dir .*holds other files \(thesis\.tex\) and no run"):
        directory(tmp_path).check()


def test_check_names_the_settings_in_which_another_run_differs(tmp_path):
    directory(tmp_path, learning_rate=3e-4, threads=1).claim()
    with pytest.raises(UserError) as caught:
        directory(tmp_path, learning_rate=1e-3, lora_rank=4, threads=2).check()
    message = str(caught.value)
    assert "learning_rate 0.0003 there and 0.001 here" in message
    assert "lora_rank 8 there and 4 here" in message
    assert "threads" not in message
    with pytest.raises(UserError, match="leave --output-dir out"):
        RunDirectory({"output_dir": None, "model": "x"}, given=str(tmp_path), name="evaluation").check()


@pytest.mark.parametrize("content", [b"model: [", b"- 1", b"", b"\xff\xfe"])
def test_check_refuses_a_run_whose_settings_cannot_be_read(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.yaml cannot be read"):
        directory(tmp_path).check()


@pytest.mark.parametrize("place", ["/proc/textgen-run", "/sys/a/b", "file.txt", "file.txt/below/it"])
def test_check_refuses_where_nothing_can_be_written(tmp_path, place):
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(UserError, match=r"--run-dir .* cannot be written"):
        directory(Path(place)).check()
    assert (tmp_path / "file.txt").read_text() == "x"


def test_claiming_what_became_unwritable_is_the_users_to_mend(tmp_path):
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        directory(tmp_path / "file.txt" / "run").claim()


def test_status_reads_what_was_written_and_nothing_from_a_broken_file():
    mine = directory(Path("mine"))
    assert mine.status() == {}
    mine.claim()
    mine.write_status("running", step=12)
    assert mine.status().items() >= {"state": "running", "step": 12, "exit_code": None, "message": ""}.items()
    assert mine.status().keys() >= {"host", "process_id"}
    (mine.path / "status.json").write_text('{"state": "runn')
    assert mine.status() == {}


def test_a_failure_is_left_in_an_own_directory_with_the_step_it_came_to():
    mine = directory()
    mine.claim()
    mine.write_status("running", step=12)
    mine.fail(3, "loss nan")
    said = {"state": "failed", "exit_code": 3, "message": "loss nan", "step": 12}
    assert mine.status().items() >= said.items()


def test_a_failure_before_the_start_is_left_only_where_the_user_pointed():
    directory().fail(2, "no such data")
    assert not Path("runs").exists()
    directory(Path("mine")).fail(2, "no such data")
    assert directory(Path("mine")).status()["exit_code"] == 2
    directory(Path("mine")).fail(2, "no such model")
    assert directory(Path("mine")).status()["message"] == "no such model", "a second try says what is wrong now"


@pytest.mark.parametrize("state", ["done", "running", "failed"])
def test_a_failure_never_writes_over_anothers_status(state):
    theirs = directory(Path("theirs"), seed=1)
    theirs.claim()
    theirs.write_status(state, step=5, exit_code=0)
    before = (theirs.path / "status.json").read_bytes()
    directory(Path("theirs"), seed=2).fail(2, "holds a run of another configuration")
    assert (theirs.path / "status.json").read_bytes() == before


def test_a_failure_leaves_other_files_and_a_lone_finished_status_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    directory(tmp_path).fail(2, "holds other files")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    finished = directory(tmp_path / "finished")
    finished.write_status("done", exit_code=0)
    directory(tmp_path / "finished").fail(2, "late")
    assert finished.status()["state"] == "done"


def test_a_failure_where_nothing_can_be_written_is_not_another_failure(tmp_path):
    (tmp_path / "file.txt").write_text("x")
    directory(tmp_path / "file.txt" / "run").fail(2, "cannot be written")
    assert (tmp_path / "file.txt").read_text() == "x"


def test_trackers_see_the_same_run_go_on_and_every_other_run_as_another(tmp_path):
    mine = directory(tmp_path / "a")
    assert directory(tmp_path / "a", threads=3).tracking_id() == mine.tracking_id()
    others = {directory(tmp_path / "b").tracking_id(), directory(tmp_path / "a", seed=1).tracking_id()}
    assert len(others | {mine.tracking_id()}) == 3


def test_settings_of_the_run_that_cannot_be_are_named_with_their_remedy(tmp_path):
    assert RunConfig().problems() == []
    wrong = RunConfig(evaluate_every=-1, checkpoint_every=-1, keep_checkpoints=0, log_every=0, resume=str(tmp_path))
    problems = wrong.problems()
    assert [problem.split()[0] for problem in problems] == [
        "--evaluate-every", "--checkpoint-every", "--keep-checkpoints", "--log-every", "--resume"
    ]  # fmt: skip
    assert "give at least 1" in problems[3]
    (tmp_path / "manifest.json").write_text("{}")
    assert RunConfig(resume=str(tmp_path)).problems() == []


@dataclass(frozen=True)
class Settings:
    config: str | None = None
    run_dir: str | None = None
    rate: float = 1.0


@dataclass(frozen=True)
class Recipe:
    settings: Settings

    def directory(self) -> RunDirectory:
        return RunDirectory(asdict(self.settings), given=self.settings.run_dir, name="recipe")


def ends(monkeypatch: pytest.MonkeyPatch, main: Any, *flags: str) -> int:
    monkeypatch.setattr(sys, "argv", ["recipe.py", *flags])
    try:
        launch(Recipe, main, description="A recipe.\n\nMore of it.")
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.mark.parametrize(("error", "code"), [(UserError("--rate 3: too much."), 2), (Diverged("step 3: loss nan."), 3)])
@pytest.mark.parametrize("claimed", [True, False])
def test_a_recipe_ends_with_the_code_of_its_error_and_one_message(monkeypatch, capsys, error, code, claimed):
    def main(config: Recipe, mine: RunDirectory) -> None:
        if claimed:
            mine.claim()
        raise error

    assert ends(monkeypatch, main, "--run-dir", "mine") == code
    assert capsys.readouterr().err == f"error: {error}\n"
    assert directory(Path("mine")).status().items() >= {"exit_code": code, "message": str(error)}.items()


def test_a_recipe_that_ends_well_returns(monkeypatch, capsys):
    seen = []
    assert ends(monkeypatch, lambda config, mine: seen.append((config.settings.rate, mine.path)), "--rate", "2.5") == 0
    assert seen[0][0] == 2.5
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("claimed", [True, False])
def test_a_bug_keeps_its_traceback_and_is_left_in_an_own_directory_only(monkeypatch, claimed):
    def main(config: Recipe, mine: RunDirectory) -> None:
        if claimed:
            mine.claim()
        raise ZeroDivisionError("by zero")

    with pytest.raises(ZeroDivisionError):
        ends(monkeypatch, main, "--run-dir", "mine")
    status = directory(Path("mine")).status()
    assert status.get("message") == ("ZeroDivisionError: by zero" if claimed else None)
    assert status.get("exit_code") == (1 if claimed else None)


def test_of_many_processes_the_first_one_speaks(monkeypatch, capsys):
    def main(config: Recipe, mine: RunDirectory) -> None:
        raise UserError("once is enough")

    monkeypatch.setenv("RANK", "1")
    assert ends(monkeypatch, main, "--run-dir", "mine") == 2
    assert capsys.readouterr().err == ""
    assert not Path("mine").exists()


def test_a_file_of_settings_that_cannot_be_read_ends_with_2(monkeypatch, capsys):
    assert ends(monkeypatch, lambda config, mine: None, "--config", "nowhere.yaml") == 2
    assert "nowhere.yaml: there is no such file" in capsys.readouterr().err
