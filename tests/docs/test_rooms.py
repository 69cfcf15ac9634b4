"""Modules follow the layers of ``layers.py``, there are no import cycles, and parsing flags imports nothing heavy."""

import subprocess
import sys

import pytest
from layers import (
    FOUNDATION,
    OUTSIDE,
    ROOMS,
    ROOT,
    SUB_PACKAGES,
    WITHIN,
    allowed,
    between_packages,
    cycle,
    imports_of,
    inside,
    module_name,
    read_imports,
    room_of,
    sub_package_of,
    violations,
)

IMPORTS = read_imports()
TOP = ("plan", "commands", "__main__")  # above the rooms


def test_every_module_follows_the_layers() -> None:
    assert violations(IMPORTS) == []


def test_enough_was_checked() -> None:
    """Near the true numbers, so that a check that stops finding files or imports fails."""
    count = {room: sum(room_of(module) == room for module in IMPORTS) for room in (*ROOMS, *FOUNDATION, *TOP)}
    expected = {"data": 12, "model": 24, "training": 19, "evaluation": 57, "reporting": 26}
    expected |= {
        "errors": 1,
        "config": 1,
        "launch_environment": 1,
        "files": 1,
        "checksums": 1,
        "hub": 1,
        "progress": 1,
        "printable": 1,
        "redaction": 1,
        "terminal": 1,
        "run": 14,
        "plan": 8,
        "commands": 3,
    }
    assert all(0.95 * number <= count[package] for package, number in expected.items()), count
    assert sum(count.values()) + 1 == len(IMPORTS) >= 137, "textgen/__init__.py is in no package"
    assert sum(map(len, IMPORTS.values())) >= 378
    assert sum(sub_package_of(module) is not None for module in IMPORTS) >= 70
    assert sum(room_of(module) != room_of(other) for module in IMPORTS for other in IMPORTS[module]) >= 110


def test_every_package_has_rules() -> None:
    packages = {module_name(path) for path in (ROOT / "textgen").rglob("__init__.py")}
    top = {f"textgen.{name}" for name in (*ROOMS, "run", "plan", "commands")}
    assert packages == {"textgen", *top, *SUB_PACKAGES}
    modules = {path.stem for path in (ROOT / "textgen").glob("*.py")} - {"__init__"}
    assert modules - {"__main__"} | {"run"} == set(FOUNDATION)


def test_every_permission_is_used() -> None:
    """A rule is out of date if it names a module that has moved, or permits an import that does not exist."""
    unused = [
        f"{package} → {other}"
        for package, others in SUB_PACKAGES.items()
        for other in others
        if not any(inside(m, package) and inside(i, other) for m in IMPORTS for i in IMPORTS[m])
    ]
    unused += [f"{module} → {other}" for module, others in WITHIN.items() for other in set(others) - IMPORTS[module]]
    assert unused == []
    imported_modules = {other for others in SUB_PACKAGES.values() for other in others} - set(SUB_PACKAGES)
    assert imported_modules == set(WITHIN)


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        # the foundation imports no room, and its modules do not import textgen/run/
        ("textgen.errors", "textgen.data.document"),
        ("textgen.files", "textgen.reporting.jsonl"),
        ("textgen.config", "textgen.run.config"),
        ("textgen.run.main", "textgen.training.checkpoints"),
        ("textgen.run.main", "textgen.plan.check"),
        # no room imports one to its right, plan, or anything outside textgen
        ("textgen.data.corpus", "textgen.model.loss"),
        ("textgen.model.loss", "textgen.training.step"),
        ("textgen.training.step", "textgen.evaluation.batching"),
        ("textgen.evaluation.measure_model", "textgen.reporting.results"),
        ("textgen.evaluation.quality.mauve", "textgen.reporting.wording"),
        ("textgen.model.kernels.linear", "textgen.training.config"),
        ("textgen.reporting.results", "textgen.plan.check"),
        ("textgen.reporting.results", "recipes.finetune"),
        ("textgen.plan.check", "recipes.finetune"),
        ("textgen.plan.check", "textgen.commands.replay"),
        ("textgen.reporting.results", "textgen.commands.table"),
        ("textgen.commands.table", "textgen.__main__"),
        ("textgen.__main__", "textgen.reporting.results"),
        ("textgen.data.corpus", "tests.conftest"),
        # sub-packages of data
        ("textgen.data.formats.streams", "textgen.data.config"),
        ("textgen.data.sources.find", "textgen.data.split"),
        ("textgen.data.document", "textgen.data.sources.source"),
        # sub-packages of evaluation
        ("textgen.evaluation.uncertainty.bootstrap", "textgen.evaluation.batching"),
        ("textgen.evaluation.uncertainty.bootstrap", "textgen.evaluation.perplexity.summary"),
        ("textgen.evaluation.perplexity.summary", "textgen.evaluation.decoding.prompts"),
        ("textgen.evaluation.decoding.prompts", "textgen.evaluation.perplexity.windows"),
        ("textgen.evaluation.decoding.generate", "textgen.evaluation.uncertainty.bootstrap"),
        ("textgen.evaluation.decoding.generate", "textgen.evaluation.quality.judge"),
        ("textgen.evaluation.decoding.search.beam_search", "textgen.evaluation.decoding.dispatch"),
        ("textgen.evaluation.decoding.search.beam_search", "textgen.evaluation.loaded_model"),
        ("textgen.evaluation.quality.judge", "textgen.evaluation.perplexity.score_windows"),
        ("textgen.evaluation.quality.judge", "textgen.evaluation.measure_model"),
        ("textgen.evaluation.perplexity.measure_perplexity", "textgen.evaluation.measure_model"),
        # what the sub-packages import stays below them
        ("textgen.evaluation.loaded_model", "textgen.evaluation.decoding.generate"),
        ("textgen.evaluation.batching", "textgen.evaluation.measure_model"),
        ("textgen.evaluation.config", "textgen.evaluation.decoding.generate"),
        ("textgen.evaluation.config", "textgen.evaluation.perplexity.windows"),
        ("textgen.training.config", "textgen.training.distributed.processes"),
        ("textgen.model.contexts", "textgen.model.kernels.linear"),
        ("textgen.reporting.wording", "textgen.reporting.figures.curves"),
        # sub-packages of the other rooms
        ("textgen.model.kernels.linear", "textgen.model.loss"),
        ("textgen.training.distributed.exact", "textgen.training.step"),
        ("textgen.reporting.figures.curves", "textgen.reporting.wording"),
        ("textgen.reporting.tracking.mirror", "textgen.reporting.run_log"),
    ],
)
def test_the_rules_can_fail(module: str, imported: str) -> None:
    assert module in IMPORTS
    assert imported in IMPORTS or imported.split(".")[0] in OUTSIDE
    assert violations(IMPORTS | {module: IMPORTS[module] | {imported}}) == [f"{module} → {imported}"]


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("textgen.data.corpus", "textgen.errors"),
        ("textgen.training.environment", "textgen.run.allocator"),
        ("textgen.reporting.results", "textgen.evaluation.measure_model"),
        ("textgen.evaluation.measure_model", "textgen.evaluation.quality.compare_strategies"),
        ("textgen.evaluation.quality.judge", "textgen.evaluation.decoding.search.beam_search"),
        ("textgen.plan.check", "textgen.reporting.results"),
        ("textgen.commands.replay", "textgen.reporting.results"),
        ("textgen.training.step", "textgen.training.distributed.exact"),
    ],
)
def test_the_rules_permit_what_they_should(module: str, imported: str) -> None:
    assert allowed(module, imported)


def test_there_is_no_cycle_between_modules() -> None:
    assert cycle(IMPORTS) == []
    closed = IMPORTS | {"textgen.evaluation.decoding.gumbel": frozenset({"textgen.evaluation.decoding.dispatch"})}
    assert cycle(closed)[0] == cycle(closed)[-1]
    assert "textgen.evaluation.decoding.gumbel" in cycle(closed)


def test_there_is_no_cycle_between_packages() -> None:
    packages = between_packages(IMPORTS)
    assert cycle(packages) == []
    assert len(packages) >= 14
    closed = between_packages(
        IMPORTS | {"textgen.evaluation.decoding.gumbel": frozenset({"textgen.evaluation.quality.ngrams"})}
    )
    assert set(cycle(closed)) == {"textgen.evaluation.decoding", "textgen.evaluation.quality"}


def test_a_cycle_is_found() -> None:
    assert cycle({"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("b")}) == ["b", "c", "b"]
    assert cycle({"a": frozenset("a")}) == ["a", "a"]
    assert cycle({"a": frozenset("bc"), "b": frozenset("d"), "c": frozenset("d")}) == []


def test_imports_are_found_wherever_they_are() -> None:
    source = "import a.b\nfrom c import d as e\ndef f():\n    from g.h import i, j\n"
    assert list(imports_of(source)) == ["a.b", "c", "c.d", "g.h", "g.h.i", "g.h.j"]
    with pytest.raises(AssertionError, match="relative import"):
        list(imports_of("from . import a"))


@pytest.mark.parametrize("recipe", ["finetune", "evaluate", "make_tokenizer"])
def test_flags_are_parsed_without_torch(recipe: str) -> None:
    heavy = {"torch", "transformers", "accelerate", "peft", "datasets", "wandb", "mlflow", "trackio", "matplotlib"}
    program = f"import sys, recipes.{recipe}; print(*sorted({heavy!r} & sys.modules.keys()))"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
