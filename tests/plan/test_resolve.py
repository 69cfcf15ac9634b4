"""Settings that are auto get numbers, which the run directory records and a resumed run keeps."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from recipe_modules import CONFIG_CLASSES

from textgen.config import parse
from textgen.data.config import DataConfig
from textgen.data.corpus import load_corpus
from textgen.data.tokens.build import Counts
from textgen.errors import UserError
from textgen.model.locate import find_model
from textgen.plan.resolve import model_learning_rate, resolve_blocks, resolve_schedule
from textgen.run.directory import RunDirectory
from textgen.training.checkpoint_manifest import write_manifest

TEXTS = SimpleNamespace(token_count=10**6, counts=Counts())
Resolved = tuple[Any, RunDirectory, list[str]]


@pytest.fixture
def resolved(tmp_path: Any, tiny_gpt2: Any) -> Callable[..., Resolved]:
    """``resolved("--method", "lora")``: the settings of a run of 200 steps, its created directory, what was printed."""

    def resolve(*flags: str, corpus: Any = TEXTS, model: Any = None) -> Resolved:
        config: Any = parse(CONFIG_CLASSES["finetune"], ["--run-dir", str(tmp_path / "run"), *flags])
        directory, printed = config.directory(), []
        directory.check()
        found = find_model(config.model)
        trainable = SimpleNamespace(found=found, model=model)
        config = resolve_blocks(config, directory, trainable, corpus, printed.append)
        config = resolve_schedule(config, directory, found, 200, printed.append)
        directory.create()
        return config, directory, printed

    return resolve


def test_numbers_are_printed_and_recorded(resolved):
    config, directory, printed = resolved()
    assert (config.data.block_size, config.training.learning_rate, config.training.warmup_steps) == (256, 1e-3, 20)
    assert printed == ["--block-size auto: 256", "--learning-rate auto: 0.001", "--warmup-steps auto: 20"]
    written = yaml.safe_load((directory.path / "config.yaml").read_text())
    assert (written["block_size"], written["learning_rate"], written["warmup_steps"]) == (256, 1e-3, 20)


@pytest.mark.parametrize(
    ("flags", "rate"), [(["--method", "lora"], 5e-3), (["--method", "qlora"], 5e-3), (["--from-scratch"], 2.5e-3)]
)
def test_the_learning_rate_depends_on_what_is_trained(resolved, flags, rate):
    assert resolved(*flags)[0].training.learning_rate == rate


def test_given_numbers_stay(resolved):
    config, _, printed = resolved("--block-size", "32", "--learning-rate", "0.5", "--warmup-steps", "0")
    assert (config.data.block_size, config.training.learning_rate, config.training.warmup_steps) == (32, 0.5, 0)
    assert printed == []


def test_the_same_command_and_the_recorded_settings_are_the_same_run(resolved):
    _, directory, _ = resolved()
    again = resolved()[1]
    recorded = resolved("--config", str(directory.path / "config.yaml"))[1]
    assert directory.fingerprint == again.fingerprint == recorded.fingerprint


def test_a_run_with_another_number_is_not_continued(resolved):
    resolved("--learning-rate", "0.5")
    with pytest.raises(UserError, match=r"learning_rate: 0.5 \(existing\) vs 0.001 \(requested\)"):
        resolved()


def test_examples_are_whole_and_have_blocks_of_their_own(resolved, tokenizer, tiny_gpt2, tmp_path):
    rows = [{"prompt": f"{i} + 1? ", "completion": "x" * 150} for i in range(60)]
    rows.append({"prompt": "2 + 2? ", "completion": ""})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    corpus = load_corpus(DataConfig(data=str(tmp_path / "rows.jsonl")), tokenizer)
    config, directory, printed = resolved(corpus=corpus, model=tiny_gpt2())
    assert config.data.packing == directory.settings["packing"] == "none"
    assert config.data.block_size == 256
    assert "--packing auto: none, so that examples are whole and do not see each other" in printed
    assert any(line.startswith("1 row is left out, with nothing to train on; the first is") for line in printed)


def test_texts_are_joined(resolved):
    assert resolved()[0].data.packing == "joined"


def test_a_model_of_unknown_size_needs_a_learning_rate():
    config: Any = parse(CONFIG_CLASSES["finetune"], ["--model", "org/own-code"])
    with pytest.raises(UserError, match="--learning-rate auto: how many parameters org/own-code has"):
        model_learning_rate(config, SimpleNamespace(parameters=0))


def test_epochs_too_must_leave_steps_to_train_after_a_checkpoint_of_another_run(resolved, tmp_path):
    checkpoint = tmp_path / "other/checkpoints/step-00000200"
    checkpoint.mkdir(parents=True)
    write_manifest(checkpoint, step=200, files={}, fingerprints={})
    with pytest.raises(UserError, match=r"--epochs 2\.0: --resume .* after step 200, so of 200 steps none is left"):
        resolved("--epochs", "2", "--resume", str(checkpoint))
