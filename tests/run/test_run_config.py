"""Settings of a run and of an evaluation's output."""

from textgen.run.config import OutputConfig, RunConfig


def test_invalid_settings_of_a_run_are_all_named(tmp_path):
    assert RunConfig().problems() == []
    wrong = RunConfig(
        evaluate_every=-1, checkpoint_every=-1, keep_checkpoints=0, log_every=0, sample_every=-1, resume=str(tmp_path)
    )
    problems = wrong.problems()
    assert [problem.split()[0] for problem in problems] == [
        "--evaluate-every", "--checkpoint-every", "--keep-checkpoints", "--log-every", "--sample-every", "--resume"
    ]  # fmt: skip
    assert "must be at least 1" in problems[3]


def test_a_run_can_resume_from_a_checkpoint(tmp_path):
    (tmp_path / "manifest.json").write_text("{}", encoding="utf-8")
    assert RunConfig(resume=str(tmp_path)).problems() == []


def test_a_run_directory_in_place_of_a_checkpoint_is_told_which_ones_it_has(tmp_path):
    (tmp_path / "manifest.json").write_text("{}", encoding="utf-8")  # that of a finished run
    for step in ("step-00000005", "step-00000010"):
        (tmp_path / "checkpoints" / step).mkdir(parents=True)
    [problem] = RunConfig(resume=str(tmp_path)).problems()
    assert "not a checkpoint but a run directory. Use one of its checkpoints, such as " in problem
    assert problem.endswith("step-00000010.")


def test_invalid_settings_of_an_evaluations_output_are_named():
    assert OutputConfig().problems() == []
    assert OutputConfig(threads=-1).problems() == ["--threads -1: must be at least 0."]
    assert OutputConfig(threads=10**9).problems() == ["--threads 1000000000: must be at most 4096."]
