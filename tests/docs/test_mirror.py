"""Tests mirror the code: tests/A/test_B.py is about textgen/A/B.py, and every module has such a file."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = sorted(path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py"))
MODULES = sorted(
    path.relative_to(ROOT / "textgen") for path in (ROOT / "textgen").rglob("*.py") if path.name != "__init__.py"
)
ELSEWHERE = ("docs", "recipes", "benchmarks")  # folders of tests that are not about textgen/

# Test files that are about no single module.
OF_SEVERAL_MODULES = {
    "training/distributed/test_many_processes.py",  # whole runs on 1, 2 and 4 processes
}

# Modules that no test file is named after: where they are tested.
TESTED_ELSEWHERE = {
    "commands/checkup/finding.py": "tests/commands/test_doctor.py",
    "evaluation/perplexity/token_windows.py": "tests/evaluation/perplexity/test_windows.py",
    "reporting/config.py": "tests/reporting/tracking/test_tracker.py",
    "reporting/publish.py": "tests/reporting/test_run_log.py",
    "reporting/tracking/wandb_results.py": "tests/reporting/tracking/test_wandb_session.py",
    "reporting/tracking/wandb_run.py": "tests/reporting/tracking/test_wandb_session.py",
    "training/checkpoint_reader.py": "tests/training/test_checkpoints.py",
    "training/distributed/deepspeed_zero.py": "tests/recipes/test_engine.py",
}


def names(module: Path) -> tuple[str, ...]:
    """What a test file of a module may be called. The names of test files differ, hence the package in the second."""
    return module.stem, f"{module.parent.name}_{module.stem}", f"{module.stem}_properties"


def modules_of(test: Path) -> set[str]:
    """The modules that a test file is named after."""
    name = test.stem.removeprefix("test_")
    return {module.as_posix() for module in MODULES if module.parent == test.parent and name in names(module)}


def test_every_test_file_is_named_after_one_module() -> None:
    found = {test.as_posix(): len(modules_of(test)) for test in TESTS if test.parts[0] not in ELSEWHERE}
    assert {test for test, modules in found.items() if modules != 1} == OF_SEVERAL_MODULES


def test_every_module_has_a_test_file() -> None:
    tested = set().union(*map(modules_of, TESTS))
    assert {module.as_posix() for module in MODULES} - tested == set(TESTED_ELSEWHERE)
    missing = [place for place in TESTED_ELSEWHERE.values() if not (ROOT / place).is_file()]
    assert not missing


def test_no_two_test_files_have_the_same_name() -> None:
    """pytest would refuse to import the second one."""
    assert len({test.name for test in TESTS}) == len(TESTS)


def test_a_name_is_a_modules_own() -> None:
    assert modules_of(Path("training/test_step.py")) == {"training/step.py"}
    assert modules_of(Path("training/test_training_config.py")) == {"training/config.py"}
    assert modules_of(Path("evaluation/perplexity/test_score_windows_properties.py")) == {
        "evaluation/perplexity/score_windows.py"
    }
    assert modules_of(Path("training/test_steps.py")) == modules_of(Path("model/test_step.py")) == set()
