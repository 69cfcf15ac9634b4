"""Models whose next token is not nearly uniform, random texts, and what two processes measure."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from in_two_processes import measure
from numpy.random import default_rng

from textgen.evaluation.loaded_model import LoadedModel


@pytest.fixture(scope="session")
def peaked_gpt2(tiny_gpt2) -> Callable[..., Any]:
    """``peaked_gpt2(seed)``: a random GPT-2, in evaluation mode, that prefers some tokens to others."""

    def make(seed: int = 0) -> Any:
        model = tiny_gpt2(seed, tie_word_embeddings=False).eval()
        with torch.no_grad():
            model.lm_head.weight.mul_(15)
        return model

    return make


@pytest.fixture
def loaded(accelerator, tokenizer, peaked_gpt2) -> LoadedModel:
    """A model to measure."""
    return LoadedModel(accelerator, peaked_gpt2(), tokenizer, context=64)


@pytest.fixture(scope="session")
def random_texts() -> Callable[..., list[str]]:
    """``random_texts(count, words, vocabulary, seed)``: texts of ``words`` words each, w0, w1, …"""

    def make(count: int, words: int, vocabulary: int, seed: int) -> list[str]:
        random = default_rng(seed)
        return [" ".join(f"w{word}" for word in random.integers(vocabulary, size=words)) for _ in range(count)]

    return make


@pytest.fixture(scope="session")
def one_and_two_processes(
    python, accelerator, tokenizer, peaked_gpt2, tmp_path_factory
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What one process measures, and what each of two does: see ``in_two_processes.py``."""
    directory = tmp_path_factory.mktemp("two-processes")
    models = {name: peaked_gpt2(seed) for seed, name in enumerate(("model", "amateur", "judge"))}
    for name, model in models.items():
        model.save_pretrained(directory / name)
    tokenizer.save_pretrained(directory / "tokenizer")
    script = Path(__file__).with_name("in_two_processes.py")
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    python.run([script, directory], processes=2, env=environment, check=True)
    one = measure(
        LoadedModel(accelerator, models["model"], tokenizer, 64),
        models["amateur"],
        LoadedModel(accelerator, models["judge"], tokenizer, 64),
    )
    return one, [json.loads((directory / f"{rank}.json").read_text()) for rank in (0, 1)]
