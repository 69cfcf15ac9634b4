"""Helpers of the recipes' tests: flags of short runs, launchers' variables, and reading what a run wrote."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SENTENCE = "the loop reads each block once and the loss is summed over every token in it before anything is divided"
WORDS = SENTENCE.split()

# A run that takes seconds: a few short steps of the bundled model on a page of text.
QUICK = ["--block-size", "32", "--global-batch-size", "8", "--microbatch-size", "2", "--steps", "6", "--log-every", "1"]
QUICK += ["--evaluate-every", "3", "--checkpoint-every", "2", "--warmup-steps", "2", "--threads", "1", "--prompts", "2"]
QUICK += ["--prompt-tokens", "8", "--max-new-tokens", "8", "--wandb-mode", "disabled"]
LIGHT = [*QUICK, "--skip-decoding", "--evaluate-every", "0"]

# What `accelerate launch --config_file launch/fsdp2.yaml` puts into the environment; test_configs.py checks it.
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}
FSDP |= {"FSDP_RESHARD_AFTER_FORWARD": "true", "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"}

# The same for launch/deepspeed_zero2.yaml.
DEEPSPEED = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}
DEEPSPEED |= {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1"}


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def tree(directory: Path) -> dict[str, bytes]:
    """Every file below a directory, by name."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def same_numbers(one: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]], relative: float) -> None:
    """Assert that two records have the same rows, numbers up to a relative difference."""
    assert [row.keys() for row in one] == [row.keys() for row in other]
    for a, b in zip(one, other, strict=True):
        for key in a:
            assert a[key] == pytest.approx(b[key], rel=relative), (a["step"], key)


def curve(directory: Path) -> list[dict[str, float]]:
    """The rows of metrics.jsonl without gradient norms, whose last digits depend on the order of summation."""
    return [{k: v for k, v in row.items() if "grad_norm" not in k} for row in read_lines(directory / "metrics.jsonl")]
