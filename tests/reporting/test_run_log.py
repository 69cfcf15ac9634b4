"""The run log: what each call writes, in which order, on which process, and after a resume."""

from types import SimpleNamespace

import pytest
import torch
from recording_tracker import Tracker

from textgen.data.overlap.contamination import Contamination, SharedText
from textgen.errors import UserError
from textgen.evaluation.balance import RetainedText
from textgen.evaluation.measure_model import Measurement
from textgen.evaluation.perplexity.document_sums import DocumentScore
from textgen.evaluation.perplexity.summary import paired_difference
from textgen.files import read_json, write_json
from textgen.reporting import run_log as run_log_module
from textgen.reporting.config import TrackingConfig
from textgen.reporting.jsonl import StepRecord
from textgen.reporting.results import RETAINED
from textgen.reporting.run_log import RunLog
from textgen.reporting.tracking.mirror import Mirror
from textgen.run.directory import RunDirectory
from textgen.training.step import StepResult
from textgen.training.train_state import TrainState


@pytest.fixture
def events(monkeypatch):
    """What is written to which destination, in order."""
    events = []
    append = StepRecord.append

    def recorded(self, row):
        append(self, row)
        events.append(self.path.stem)

    monkeypatch.setattr(StepRecord, "append", recorded)
    return events


@pytest.fixture
def tracker(events, monkeypatch):
    tracker = Tracker(events)
    monkeypatch.setattr(run_log_module, "start_tracker", tracker.start)
    return tracker


@pytest.fixture
def directory(tmp_path):
    flat = {"model": "tiny-gpt2", "data": "plays", "run_dir": None, "skip_decoding": True}
    flat |= {"log_every": 1, "evaluate_every": 0, "sample_every": 3}
    return RunDirectory(flat, path=str(tmp_path / "run"), name="run")


@pytest.fixture
def lines():
    """What is printed."""
    return []


@pytest.fixture
def start(directory, events, lines):
    """Starts a run log, by default on the main process."""

    def run_log(*, main=True, total_steps=10, on_wait=lambda: None):
        def echo(line):
            events.append("console")
            lines.append(line)

        accelerator = SimpleNamespace(
            is_main_process=main, wait_for_everyone=on_wait, print=echo,
            num_processes=2, mixed_precision="no", device=torch.device("cpu"),
        )  # fmt: skip
        return RunLog(accelerator, directory, TrackingConfig(), {"train_tokens": 7}, total_steps=total_steps)

    return run_log


def fail(*args):
    raise RuntimeError("tracker")


def rows_of(directory, name):
    return StepRecord(directory.path / f"{name}.jsonl").read()


def step(targets=100, seconds=0.5):
    return StepResult(loss=3.0, grad_norm=1.0, targets=targets, seconds=seconds)


def sample(step, text="text"):
    return {"step": step, "prompt_id": "a#0", "prompt": "Once", "strategy": "greedy", "text": text}


def test_the_directory_is_claimed_before_anything_is_measured(start, directory, tracker, lines):
    waited = []
    start(on_wait=lambda: waited.append(directory.path.exists()))
    assert waited == [False, True], "all processes check the directory before one changes it"
    assert sorted(path.name for path in directory.path.iterdir()) == [
        ".lock",
        "config.yaml",
        "environment.json",
        "status.json",
    ]
    assert directory.created
    environment = read_json(directory.path / "environment.json")
    assert environment["train_tokens"] == 7
    assert environment["processes"] == 2
    assert "torch" in environment["versions"]
    assert (directory.status()["state"], directory.status()["step"]) == ("running", 0)
    assert lines == []


def test_the_tracker_is_started_for_the_directory(start, directory, tracker):
    start()
    assert tracker.started == (directory, TrackingConfig())


def test_another_process_writes_nothing(start, directory, tracker, lines, events):
    log = start(main=False)
    log.resume_from(TrainState(step=2))
    log.add_step(step())
    log.log({"step": 3, "train/loss": 3.0})
    log.log_samples([sample(3)])
    log.write_measurement("before", Measurement({"documents": 0}, [], [], [], []))
    log.write_difference("before", "after", seed=0)
    log.finish()
    assert not directory.path.exists()
    assert tracker.started is None
    assert lines == events == []


def test_a_row_goes_to_metrics_timing_console_and_tracker_in_that_order(start, directory, tracker, events, lines):
    log = start()
    log.resume_from(TrainState())
    log.add_step(step())
    row = {"step": 1, "train/loss": 3.0}
    log.log(row)
    assert events == ["metrics", "timing", "console", "tracker"]
    assert rows_of(directory, "metrics") == tracker.rows == [row]
    assert lines == ["step  1/10 · loss 3.000 · 200 tok/s · 0:04 left"]
    assert directory.status()["step"] == 1


def test_a_tracker_that_raises_loses_no_row(start, directory, tracker, lines):
    log = start()
    log.resume_from(TrainState())
    tracker.log = fail
    log.add_step(step())
    with pytest.raises(RuntimeError, match="tracker"):
        log.log({"step": 1, "train/loss": 3.0})
    assert [row["step"] for row in rows_of(directory, "metrics")] == [1]
    assert [row["step"] for row in rows_of(directory, "timing")] == [1]
    assert len(lines) == 1
    assert directory.status()["step"] == 1


def test_speed_is_targets_over_seconds_since_the_last_row(start, directory, tracker, lines):
    log = start()
    log.resume_from(TrainState(step=2))
    for targets, seconds in ((100, 0.5), (300, 1.5)):
        log.add_step(step(targets, seconds))
    log.log({"step": 4, "train/loss": 3.0})
    log.add_step(step(90, 0.1))
    log.log({"step": 5, "eval/loss": 2.5})  # a row that only evaluates
    log.add_step(step(10, 1.0))
    log.log({"step": 6, "train/loss": 2.0, "eval/loss": 2.5})
    timing = rows_of(directory, "timing")
    assert [row["step"] for row in timing] == [4, 5, 6]
    assert [row["seconds"] for row in timing] == [2.0, 0.1, 1.0]
    assert [row["tokens_per_second"] for row in timing] == [200.0, pytest.approx(900), 10.0]
    assert all(row["peak_memory_bytes"] > 0 for row in timing)
    assert lines == [
        "step  4/10 · loss 3.000 · 200 tok/s · 0:06 left",  # a second per step: the rows are two steps apart
        "step  5/10 · eval loss 2.500 · 900 tok/s · 0:00 left",
        "step  6/10 · loss 2.000 · eval loss 2.500 · 10 tok/s · 0:04 left",
    ]


def test_long_steps_are_printed_but_not_logged(start, directory, tracker, lines, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(run_log_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    log = start()
    log.resume_from(TrainState(step=2))
    for clock.now in (9, 11, 40, 42):  # the first line after 10 seconds, the next ones 30 seconds apart
        log.add_step(step(100, 10.0))
    assert lines == [
        "step  4/10 · loss 3.000 · 10 tok/s · 1:00 left",
        "step  6/10 · loss 3.000 · 10 tok/s · 0:40 left",
    ]
    log.log({"step": 7, "train/loss": 3.0})
    assert [row["step"] for row in rows_of(directory, "metrics")] == [7]
    assert len(lines) == 3


def write_six_steps(log):
    log.resume_from(TrainState())
    log.log_samples([sample(0)])
    for number in range(1, 7):
        log.add_step(step())
        log.log({"step": number, "train/loss": 1 / number})
        if number % 3 == 0:
            log.log_samples([sample(number)])


def test_resuming_drops_later_rows_and_gives_the_tracker_the_earlier_ones(start, directory, tracker):
    write_six_steps(start())
    tracker.forget()
    log = start()
    assert directory.status()["step"] == 6, "until it is known where training resumes"
    log.resume_from(TrainState(step=4))
    assert [row["step"] for row in rows_of(directory, "metrics")] == [1, 2, 3, 4]
    assert [row["step"] for row in rows_of(directory, "timing")] == [1, 2, 3, 4]
    assert [row["step"] for row in rows_of(directory, "samples")] == [0, 3]
    assert [row["step"] for row in tracker.rows] == [1, 2, 3, 4]
    assert [row["step"] for row in tracker.samples] == [0, 3]
    assert (directory.status()["state"], directory.status()["step"]) == ("running", 4)


def test_a_run_that_goes_on_loses_what_it_had_only_since_it_ended(start, directory, tracker):
    log = start(total_steps=4)
    log.resume_from(TrainState())
    for number in range(1, 5):
        log.add_step(step())
        log.log({"step": number, "train/loss": 1 / number} | ({"eval/loss": 1.0} if number == 4 else {}))
    log.log_samples([sample(3), sample(4)])
    tracker.forget()
    start(total_steps=4).resume_from(TrainState(step=4))
    assert [row.keys() for row in tracker.rows][-1] == {"step", "train/loss", "eval/loss"}
    tracker.forget()
    start(total_steps=9).resume_from(TrainState(step=4))
    assert rows_of(directory, "metrics")[-1] == tracker.rows[-1] == {"step": 4, "train/loss": 0.25}
    assert [row["step"] for row in tracker.samples] == [3]
    assert directory.written_environment()["tracking_id"] == directory.tracking_id()


@pytest.mark.parametrize("left", [None, b"", b'{"step": 1, "train/loss": 1.0}\n{"step'])
def test_a_run_whose_metrics_lost_rows_is_not_continued(start, directory, tracker, left):
    write_six_steps(start())
    metrics = directory.path / "metrics.jsonl"
    metrics.unlink() if left is None else metrics.write_bytes(left)
    first_lost = 2 if left else 1
    with pytest.raises(UserError, match=rf"rows are missing, such as that of step {first_lost}\."):
        start().resume_from(TrainState(step=4))
    start().resume_from(TrainState())  # from the beginning, all rows come again


def test_a_run_without_a_checkpoint_drops_every_row(start, directory, tracker):
    write_six_steps(start())
    tracker.forget()
    start().resume_from(TrainState())
    for name in ("metrics", "timing", "samples"):
        assert rows_of(directory, name) == []
    assert tracker.rows == tracker.samples == []


def test_a_resumed_tracker_gets_only_the_rows_that_it_lacks(start, directory, tracker, monkeypatch, tmp_path):
    write_six_steps(start())
    rows, samples = [], []
    session = SimpleNamespace(logged_step=2, sampled_step=0, log=rows.append, log_samples=samples.extend, end=print)
    mirror = Mirror("X", lambda: session, tmp_path, lambda line: None)
    monkeypatch.setattr(run_log_module, "start_tracker", lambda *args: mirror)
    start().resume_from(TrainState(step=4))
    mirror._end({"state": "done"}, timeout=30)
    assert [row["step"] for row in rows] == [3, 4]
    assert all(row["system/peak_memory_bytes"] > 0 for row in rows)
    assert [row["step"] for row in samples] == [3]


def test_samples_are_recorded_before_the_tracker_gets_them(start, directory, tracker, events):
    log = start()
    log.log_samples([sample(0, "a"), sample(0, "b")])
    assert [row["text"] for row in rows_of(directory, "samples")] == ["a", "b"]
    assert tracker.samples == rows_of(directory, "samples")
    tracker.log_samples = fail
    with pytest.raises(RuntimeError, match="tracker"):
        log.log_samples([sample(5, "c")])
    assert [row["text"] for row in rows_of(directory, "samples")] == ["a", "b", "c"]


def write_measurements(log, perplexity, **bits):
    for moment, value in bits.items():
        scores = [DocumentScore(f"a#{n}", value * (20 + n), 10, 8, 40) for n in range(12)]
        log.write_measurement(moment, Measurement(perplexity(value), scores, [], [], []))


def test_finishing_writes_difference_report_and_card_ends_the_tracker_and_marks_done(
    start, directory, tracker, events, lines, perplexity, capsys
):
    log = start()
    write_measurements(log, perplexity, before=2.0, after=1.5)
    assert all(log.results.has(moment) for moment in ("before", "after"))

    def at_finish(run_dir):
        assert run_dir == directory.path
        assert {"report.html", "README.md"} <= {path.name for path in run_dir.iterdir()}
        assert directory.status()["state"] == "running"

    tracker.at_finish = at_finish
    log.write_difference("before", "after", seed=3)
    log.finish()
    expected = paired_difference(log.results.scores("before"), log.results.scores("after"), seed=3)
    assert log.results.perplexity()["difference"] == expected
    assert events == ["console", "tracker finished"]
    assert lines == [f"report: {directory.path / 'report.html'}"]
    assert "2.000" in capsys.readouterr().out
    done = directory.status()
    assert (done["state"], done["exit_code"], done["step"]) == ("done", 0, 10)
    assert directory.is_complete()


@pytest.mark.parametrize("main", [True, False])
def test_no_process_leaves_before_the_others_are_done(start, directory, tracker, perplexity, main):
    states = []
    log = start(main=main, on_wait=lambda: states.append(directory.status().get("state")))
    write_measurements(log, perplexity, model=2.0)
    log.finish()
    assert len(states) == 3, "twice at the start"
    assert states[-1] == ("done" if main else None)


def test_differences_are_also_of_clean_documents_and_of_retained_text(start, tracker, perplexity):
    log = start()
    contamination = Contamination(13, 90, 12, (SharedText("a#3", 20, 15, "t#0", "", 15),))
    for moment, value in (("before", 2.0), ("after", 1.5)):
        scores = [DocumentScore(f"a#{n}", value * (20 + n), 10, 8, 40) for n in range(12)]
        general = [DocumentScore(f"g#{n}", 9 - value * n, 10, 8, 40) for n in range(3)]
        retained = RetainedText(perplexity(1.0, documents=3), general)
        log.write_measurement(moment, Measurement(perplexity(value), scores, [], [], [], retained, contamination))
    log.write_difference("before", "after", seed=3)
    found = log.results.perplexity()
    before, after = ([s for s in log.results.scores(moment) if s.id != "a#3"] for moment in ("before", "after"))
    assert found["difference"]["uncontaminated"] == paired_difference(before, after, seed=3)
    retained = [log.results.scores(moment, RETAINED) for moment in ("before", "after")]
    assert found["retained"]["difference"] == paired_difference(*retained, seed=3)


def test_one_model_alone_has_no_difference(start, directory, tracker, perplexity):
    log = start(total_steps=0)
    write_measurements(log, perplexity, model=2.0)
    log.finish()
    assert "difference" not in log.results.perplexity()
    assert (directory.path / "report.html").exists()
    assert (directory.status()["state"], directory.status()["step"]) == ("done", 0)


def test_results_that_were_damaged_during_the_run_are_written_again(start, directory, tracker, perplexity):
    log = start()
    write_measurements(log, perplexity, before=2.0, after=1.5)
    (directory.path / "evaluation" / "perplexity.json").write_text("{")
    log.write_difference("before", "after", seed=3)
    (directory.path / "evaluation" / "perplexity.json").write_text("{")
    log.finish()
    assert directory.is_complete(), "what was damaged during the run is written again"


def test_a_run_whose_model_was_damaged_is_not_marked_as_done(start, directory, tracker, perplexity):
    log = start()
    write_measurements(log, perplexity, before=2.0, after=1.5)
    weights = directory.path / "model" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"12345678")
    log.seal_model(weights.parent)
    weights.write_bytes(b"12345679")
    with pytest.raises(UserError, match=r"model/model\.safetensors: damaged since it was written"):
        log.finish()
    assert directory.status()["state"] == "running"


@pytest.fixture
def recommending(start, directory, tracker, perplexity, recommended):
    """Makes a run log with a model, and a measurement that recommends a nucleus."""

    def make(entry=None, *, main=True, **settings):
        directory.settings.update({"recommend": True} | settings)
        log = start(main=main)
        model = directory.path / "model"
        content = {"_from_model_config": True, "eos_token_id": 0, "temperature": 0.3, "transformers_version": "5"}
        write_json(model / "generation_config.json", content)
        write_json(model / "config.json", {})
        log.seal_model(model)
        entry = recommended() if entry is None else entry
        scores = [DocumentScore("a#0", 20.0, 10, 8, 40)]
        log.write_measurement("after", Measurement(perplexity(1.5), scores, [], [], [], recommendation=entry))
        return log, model / "generation_config.json"

    return make


def test_a_confirmed_recommendation_is_written_into_the_model_and_is_part_of_it(recommending, directory):
    log, path = recommending()
    log.apply_recommendation("after")
    expected = {"do_sample": True, "eos_token_id": 0, "top_k": 0, "top_p": 0.95, "transformers_version": "5"}
    assert read_json(path) == expected
    assert log.results.recommendation()["after"]["written_to"] == "model/generation_config.json"
    before = path.read_bytes(), (log.results.directory / "recommendation.json").read_bytes()
    log.apply_recommendation("after")
    assert (path.read_bytes(), (log.results.directory / "recommendation.json").read_bytes()) == before
    log.finish()
    assert directory.is_complete()
    path.write_bytes(path.read_bytes().replace(b"0.95", b"0.15"))
    again = RunDirectory(directory.settings, path=str(directory.path), name="run")
    assert again.damage() == ["model/generation_config.json"]


@pytest.mark.parametrize(
    ("changes", "settings"),
    [({"confirmed": False}, {}), ({"generation_config": None}, {}), ({}, {"recommend": False}), ({}, {"main": False})],
)
def test_otherwise_the_model_stays_as_it_is(recommending, recommended, changes, settings):
    log, path = recommending(recommended(**changes), **settings)
    before = path.read_bytes()
    log.apply_recommendation("after")
    assert path.read_bytes() == before
    assert "written_to" not in log.results.recommendation().get("after", {})


def test_without_decoding_or_into_an_adapter_nothing_is_written(recommending, directory):
    log, path = recommending({})
    log.apply_recommendation("after")
    assert "top_p" not in read_json(path)
    log, path = recommending()
    path.unlink()
    log.seal_model(path.parent)
    log.apply_recommendation("after")
    assert not path.exists()


def test_a_model_that_was_damaged_in_the_meantime_gets_no_recommendation(recommending):
    log, path = recommending()
    path.write_bytes(path.read_bytes().replace(b"0.3", b"0.9"))
    with pytest.raises(UserError, match=r"generation_config\.json: damaged since it was written"):
        log.apply_recommendation("after")
    assert "top_p" not in read_json(path)
