"""Strategies as settings of ``generate``: transformers keeps the same tokens, and the rest of the file stays."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from textgen.evaluation.decoding.generation_config import generation_settings, with_generation_settings
from textgen.evaluation.decoding.strategies import STRATEGIES
from textgen.evaluation.decoding.strategy_parser import parse_strategies
from textgen.evaluation.decoding.truncation import is_truncation, truncate

WITHOUT = {"diverse_beam", "top_n_sigma", "top_h", "p_less", "mirostat", "contrastive", "contrastive_decoding", "dola"}
WITHOUT |= {"prompt_lookup", "speculative"}
BEFORE = {"_from_model_config": True, "eos_token_id": 7, "max_new_tokens": 99, "temperature": 0.1, "num_beams": 3}


def written(strategy: str, directory: Path) -> dict[str, Any]:
    """A file with the settings of a strategy, as transformers reads it, with its defaults."""
    (parsed,) = parse_strategies(strategy)
    settings = generation_settings(parsed)
    assert settings is not None
    content = with_generation_settings(BEFORE, settings)
    (directory / "generation_config.json").write_text(json.dumps(content))
    loaded = GenerationConfig.from_pretrained(directory)
    loaded.validate(strict=True)
    loaded.update(**loaded._get_default_generation_params(), defaults_only=True)
    return loaded


def test_some_strategies_have_no_such_settings():
    assert {name for name, one in STRATEGIES.items() if generation_settings(one) is None} == WITHOUT


@pytest.mark.parametrize("name", sorted(STRATEGIES.keys() - WITHOUT))
def test_special_tokens_and_lengths_stay_and_other_decoding_settings_go(tmp_path, name):
    loaded = written(name, tmp_path)
    assert (loaded.eos_token_id, loaded.max_new_tokens) == (7, 99)
    assert loaded.do_sample == STRATEGIES[name].is_stochastic
    assert loaded.temperature == STRATEGIES[name].settings.get("temperature", 1.0)
    assert loaded.num_beams == STRATEGIES[name].settings.get("num_beams", 1)
    content = json.loads((tmp_path / "generation_config.json").read_text())
    assert list(content) == sorted(content)
    assert "_from_model_config" not in content
    assert with_generation_settings(content, generation_settings(STRATEGIES[name])) == content


@pytest.mark.parametrize(
    "strategy",
    ["temperature", "top_k", "top_k[3]", "top_p", "top_p[0.5]", "typical[0.7]", "epsilon[0.02]", "eta[0.05]", "min_p"],
)
def test_transformers_keeps_the_tokens_that_the_strategy_keeps(tmp_path, tiny_gpt2, strategy):
    (parsed,) = parse_strategies(strategy)
    assert is_truncation(parsed)
    model, config = tiny_gpt2(0), written(strategy, tmp_path)
    random = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(40, 120, generator=random)
    model._prepare_special_tokens(config, kwargs_has_attention_mask=True, device="cpu")
    processors = model._get_logits_processor(config, input_ids_seq_length=4, device="cpu", model_kwargs={})
    ids = torch.zeros((40, 4), dtype=torch.long)
    theirs = processors(ids, logits.clone()).log_softmax(dim=-1)
    own, kept = truncate(parsed, logits.log_softmax(dim=-1))
    ours = own.masked_fill(~kept, -torch.inf).log_softmax(dim=-1)
    assert torch.equal(theirs > -torch.inf, kept)
    assert torch.allclose(theirs, ours, atol=1e-5)
    assert strategy == "temperature" or not kept.all()


@pytest.mark.parametrize("name", ["greedy", "beam", "repetition_penalty", "no_repeat_ngram"])
def test_a_loaded_model_decodes_like_the_strategy(tmp_path, tiny_gpt2, tokenizer, accelerator, name):
    from textgen.evaluation.decoding.dispatch import decode
    from textgen.evaluation.decoding.gumbel import NoiseKey

    model = tiny_gpt2(3).eval()
    model.generation_config = written(name, tmp_path)
    model.generation_config.update(max_new_tokens=8, eos_token_id=None, pad_token_id=0)
    given = torch.arange(1, 13).reshape(2, 6)
    (parsed,) = parse_strategies(name)
    keys = [NoiseKey(0, str(row), 0) for row in range(2)]
    expected = decode(model, parsed, given, keys, max_new_tokens=8, eos_token_id=None)
    found = model.generate(given, attention_mask=torch.ones_like(given))[:, 6:]
    assert torch.equal(found, expected)
