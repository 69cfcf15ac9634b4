"""The dry run: it prints the plan, and writes nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from families import tiny_model
from recipe_modules import CONFIG_CLASSES

from textgen.config import parse
from textgen.errors import UserError
from textgen.plan.check import check_evaluation, check_finetuning
from textgen.plan.dry_run import print_evaluation_plan, print_plan


@pytest.fixture
def dry_run(accelerator: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``dry_run(texts, "--steps", 3)``: what is printed for a fine-tuning run on these texts."""

    def run(texts: list[str], *flags: object) -> str:
        (tmp_path / "texts.txt").write_text("\n\n".join(texts), encoding="utf-8")
        words = ["--data", "texts.txt", "--run-dir", "run", *map(str, flags)]
        config: Any = parse(CONFIG_CLASSES["finetune"], words)
        directory = config.directory()
        print_plan(config, check_finetuning(config, directory), directory, accelerator)
        return capsys.readouterr().out

    return run


TEXTS = [f"Document {i} has a few words in it." for i in range(60)]


def test_the_block_size_is_an_estimate_or_the_largest(dry_run, monkeypatch):
    assert "16 blocks of 128 tokens (auto; an estimate)" in dry_run(TEXTS)
    monkeypatch.setattr("textgen.plan.dry_run.text_tokens", lambda *_: (None, None))  # as for a dataset of the hub
    assert "16 blocks of 256 tokens (auto; at most, since the size of the data is unknown)" in dry_run(TEXTS)


def test_it_prints_the_plan_and_writes_nothing(dry_run, tmp_path):
    printed = dry_run(TEXTS, "--block-size", 32, "--learning-rate", "3e-4", "--strategies", "greedy")
    for part in (
        "tiny-gpt2 (GPT2LMHeadModel, context 256)",
        "full, from pretrained weights",
        "texts.txt: the first ",
        "1 epoch, adamw, cosine, peak learning rate 0.0003, fp32",
        "16 blocks of 32 tokens, 4 microbatches on 1 process\n",
        "rolling perplexity; strategies greedy",
        "run (new)",
        "probe          --model tiny-gpt2: loaded, and predicts each token from those before it\n",
        "nothing was written",
    ):
        assert part in printed
    assert [path.name for path in tmp_path.iterdir()] == ["texts.txt"]


def test_it_shows_what_is_trained_on(dry_run, tmp_path):
    rows = [json.dumps({"prompt": f"{i} + 1 =", "completion": f" {i + 1}"}) for i in range(90)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    printed = dry_run(TEXTS, "--data", "rows.jsonl", "--block-size", 32, "--skip-decoding")
    assert printed.startswith("what is trained on, between [[ and ]]:\n")
    assert " + 1 =[[ 2<|endoftext|>]]\n" in printed


def test_it_loads_and_probes_every_model(dry_run, tmp_path, tokenizer):
    tiny_model("bert", vocab_size=300).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    with pytest.raises(UserError, match=r"--judge .* is not a causal language model: later tokens"):
        dry_run(TEXTS, "--block-size", 32, "--judge", "bert")
    printed = dry_run(TEXTS, "--block-size", 32, "--judge", "tiny-gpt2")
    assert "--judge tiny-gpt2: loaded, and predicts each token" in printed


def test_an_evaluations_plan_is_printed(accelerator, tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("\n\n".join(TEXTS), encoding="utf-8")
    words = ["--validation-data", "texts.txt", "--output-dir", "out", "--baseline", "tiny-gpt2"]
    config: Any = parse(CONFIG_CLASSES["evaluate"], words)
    print_evaluation_plan(config, check_evaluation(config, config.directory()), config.directory(), accelerator)
    printed = capsys.readouterr().out
    assert "probe          --baseline tiny-gpt2: loaded" in printed
    measured = "would measure tiny-gpt2 and the baseline tiny-gpt2 on 60 documents, about"
    assert measured in printed
    assert "tokens, into out (new)\nthis was a dry run, and nothing was written outside the cache" in printed


def test_it_describes_other_settings(dry_run):
    flags = ["--block-size", 32, "--steps", 7, "--microbatch-size", "auto", "--from-scratch", "--skip-decoding"]
    printed = dry_run(TEXTS, *flags)
    for part in ("7 steps", "in the largest microbatches that fit", "from random weights", "strategies skipped"):
        assert part in printed


def test_it_says_what_gets_an_adapter(dry_run):
    printed = dry_run(TEXTS, "--block-size", 32, "--steps", 1, "--skip-decoding", "--method", "lora")
    assert "\nadapters       on 16 linear layers (c_attn 4, c_proj 8, c_fc 4)\n" in printed
    assert "\nadapters " not in dry_run(TEXTS, "--block-size", 32, "--steps", 1, "--skip-decoding")


def test_it_counts_in_the_singular_and_the_plural(dry_run, accelerator, monkeypatch):
    sizes = ["--block-size", 32, "--global-batch-size", 1, "--microbatch-size", 1, "--skip-decoding"]
    printed = dry_run(TEXTS, *sizes, "--steps", 1)
    assert "1 step, adamw" in printed
    assert "1 block of 32 tokens, 1 microbatch on 1 process\n" in printed
    assert "0.5 epochs, adamw" in dry_run(TEXTS, *sizes, "--epochs", 0.5)
    monkeypatch.setattr(type(accelerator), "num_processes", 2)
    printed = dry_run(TEXTS, "--block-size", 32, "--skip-decoding")
    assert "16 blocks of 32 tokens, 4 microbatches, 2 on each of 2 processes\n" in printed


def test_it_recognizes_a_run_to_resume(dry_run, tmp_path):
    words = ["--data", "texts.txt", "--run-dir", "run", "--block-size", "32"]
    parse(CONFIG_CLASSES["finetune"], words).directory().create()
    assert "run (to be resumed)" in dry_run(TEXTS, "--block-size", 32)


def test_it_prints_the_plan_of_a_finished_run_too(dry_run):
    words = ["--data", "texts.txt", "--run-dir", "run", "--block-size", "32"]
    directory = parse(CONFIG_CLASSES["finetune"], words).directory()
    directory.create()
    directory.finish({}, step=1)
    printed = dry_run(TEXTS, "--block-size", 32)
    assert "run (already complete, so nothing would be done; " in printed
    assert "1 epoch, adamw" in printed


def test_it_finds_data_that_cannot_fill_a_block(dry_run):
    with pytest.raises(UserError, match=r"--block-size 256: the training text of .* has only"):
        dry_run([f"Text {i}." for i in range(40)], "--block-size", 256, "--skip-decoding")
