"""Every family decodes as without a cache, with whatever its cache can do."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from families import FAMILIES, VOCABULARY, tiny_model

from textgen.evaluation.decoding.dispatch import decode
from textgen.evaluation.decoding.gumbel import NoiseKey
from textgen.evaluation.decoding.prefix import cache_support as module
from textgen.evaluation.decoding.prefix.cache_support import (
    cache_appends,
    cache_rewinds,
    read_prompts,
    report_limits,
    rewindable,
)
from textgen.evaluation.decoding.prefix.prefix_cache import PrefixCache
from textgen.evaluation.decoding.prefix.recomputed_prefix import RecomputedPrefix
from textgen.evaluation.decoding.strategy_parser import parse_strategies

NEW = 6
PROMPTS = torch.tensor([[7, 8, 9, 7, 8, 9, 7], [5, 41, 17, 33, 2, 50, 29]])  # prompt lookup finds drafts in the first
STRATEGIES = ("greedy", "beam", "contrastive", "dola", "prompt_lookup")
WITH_AMATEUR = ("contrastive_decoding", "speculative")

# Families whose cache gives other logits than an uncached pass, or none at all.
WITHOUT_CACHE = {"openai-gpt", "rwkv", "recurrent_gemma", "xlnet", "xlstm", "minimax", "bamba"}
# Families whose cache can be continued, but not taken back.
WITHOUT_REWINDING = {"mamba", "mamba2", "falcon_mamba", "jamba", "falcon_h1", "qwen3_next", "olmo_hybrid", "zamba"}
CLOSE = {
    "zamba2",
    "nemotron_h",
    "granitemoehybrid",
}  # their cached steps are off by about the bound, on some machines more


def run(strategy: str, model: Any, amateur: Any = None) -> list[list[int]]:
    (parsed,) = parse_strategies(strategy, amateur=True)
    keys = [NoiseKey(0, str(row), 0) for row in range(len(PROMPTS))]
    found = decode(model, parsed, PROMPTS, keys, max_new_tokens=NEW, eos_token_id=None, amateur=amateur)
    rows: list[list[int]] = found.tolist()
    return rows


@torch.no_grad()
def greedy_without_cache(model: Any) -> list[list[int]]:
    ids = PROMPTS
    for _ in range(NEW):
        ids = torch.cat([ids, model(input_ids=ids, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
    rows: list[list[int]] = ids[:, PROMPTS.shape[1] :].tolist()
    return rows


@pytest.fixture
def without_caches(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called, it makes every model read the whole text for each token."""
    return lambda: monkeypatch.setattr(module, "cache_appends", lambda model: False)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_strategy_gives_the_tokens_of_uncached_decoding(family: str, without_caches: Callable[[], None]) -> None:
    model, amateur = tiny_model(family), tiny_model(family, seed=1)
    found = {name: run(name, model, amateur) for name in (*STRATEGIES, *WITH_AMATEUR)}
    assert found["greedy"] == found["prompt_lookup"] == greedy_without_cache(model)
    if cache_appends(model):
        without_caches()
        assert found == {name: run(name, model, amateur) for name in found}


@pytest.mark.parametrize("family", sorted({*FAMILIES} - {"xlnet", "roberta"}))  # generate changes their inputs
def test_beams_are_those_of_generate_without_a_cache(family: str) -> None:
    model: Any = tiny_model(family)
    model.generation_config = type(model.generation_config)()
    whole = model.generate(
        PROMPTS,
        attention_mask=torch.ones_like(PROMPTS),
        num_beams=4,
        max_new_tokens=NEW,
        length_penalty=0.0,
        use_cache=False,
        pad_token_id=0,
    )
    assert run("beam", model) == whole[:, PROMPTS.shape[1] :].tolist()


@pytest.mark.parametrize("family", sorted({*FAMILIES} - CLOSE))
def test_what_each_cache_can_do_is_found_out(family: str) -> None:
    model = tiny_model(family)
    assert cache_appends(model) == (family not in WITHOUT_CACHE)
    assert cache_rewinds(model) == (family not in WITHOUT_CACHE | WITHOUT_REWINDING)
    assert {*FAMILIES} > WITHOUT_CACHE | WITHOUT_REWINDING | CLOSE


def can(model: Any) -> tuple[bool, bool]:
    return cache_appends(model), cache_rewinds(model)


class _Sabotaged(PrefixCache):
    """A cache that forgets to select rows."""

    def select_rows(self, which: torch.Tensor) -> None:
        self.logits = self.logits[which]


def test_a_cache_that_mixes_up_rows_is_found_out(tiny_llama: Callable[..., Any], monkeypatch: Any) -> None:
    assert can(tiny_llama()) == (True, True)
    monkeypatch.setattr(PrefixCache, "select_rows", _Sabotaged.select_rows)
    assert can(tiny_llama()) == (False, False)


def test_a_cache_that_removes_the_wrong_number_of_tokens_is_found_out(
    tiny_llama: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PrefixCache, "rewind", lambda self, tokens: self.cache.crop(-tokens - 1))
    assert can(tiny_llama()) == (True, False)


def test_weights_that_are_not_finite_do_not_count_against_a_cache(tiny_llama: Callable[..., Any]) -> None:
    broken = tiny_llama()
    with torch.no_grad():
        broken.lm_head.weight.fill_(torch.nan)
    assert can(broken) == (True, True)


def test_a_context_too_short_to_measure_gets_no_cache(tiny_gpt2: Callable[..., Any]) -> None:
    assert can(tiny_gpt2(n_positions=8)) == (False, False)


def test_prompts_are_read_with_the_cache_that_is_right(tiny_llama: Callable[..., Any]) -> None:
    llama, mamba, rwkv = tiny_llama().eval(), tiny_model("mamba"), tiny_model("rwkv")
    with torch.no_grad():
        cached, recurrent, recomputed = (read_prompts(each, PROMPTS, new_tokens=2) for each in (llama, mamba, rwkv))
        assert isinstance(cached, PrefixCache)
        assert isinstance(recurrent, PrefixCache)
        assert isinstance(recomputed, RecomputedPrefix)
        assert rewindable(cached, PROMPTS) is cached
        assert rewindable(recomputed, PROMPTS) is recomputed
        assert isinstance(rewindable(recurrent, PROMPTS), RecomputedPrefix)
        assert rewindable(recurrent, PROMPTS).logits is recurrent.logits


def test_the_memory_of_rows_counts_keys_values_and_recurrent_states(tiny_llama: Callable[..., Any]) -> None:
    with torch.no_grad():
        attention = read_prompts(tiny_llama().eval(), PROMPTS, new_tokens=2)
        recurrent = read_prompts(tiny_model("mamba"), PROMPTS, new_tokens=2)
    assert attention.bytes_per_row(100) == 2 * attention.bytes_per_row(50) == 100 * 2 * 2 * 16 * 4  # layers, keys
    assert recurrent.bytes_per_row(100) == recurrent.bytes_per_row(50) == 2 * 48 * (8 + 4) * 4  # state and convolution


def test_limits_are_printed_once_for_each_model_and_only_if_they_matter(tiny_llama: Callable[..., Any]) -> None:
    lines: list[str] = []
    greedy, lookup = parse_strategies("greedy"), parse_strategies("greedy,prompt_lookup")
    llama, mamba, rwkv = tiny_llama().eval(), tiny_model("mamba"), tiny_model("rwkv")
    for _ in range(2):
        for name, model in {"llama": llama, "mamba": mamba, "rwkv": rwkv}.items():
            report_limits(model, name, [], lines.append)
            report_limits(model, name, greedy, lines.append)
    assert [line.split(":")[0] for line in lines] == ["rwkv (RwkvForCausalLM)"]
    assert ": decoding without a cache, " in lines[0]
    for _ in range(2):
        report_limits(mamba, "mamba", lookup, lines.append)
        report_limits(llama, "llama", lookup, lines.append)
    assert len(lines) == 2
    assert lines[1].startswith("mamba (MambaForCausalLM): ")
    assert ": prompt_lookup without a cache, which cannot take tokens back" in lines[1]


def test_the_measurement_leaves_the_model_as_it_was(tiny_gpt2: Callable[..., Any]) -> None:
    model = tiny_gpt2(resid_pdrop=0.5).train()
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    can(model)
    assert torch.equal(torch.rand(4), expected)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert PROMPTS.max() < VOCABULARY
