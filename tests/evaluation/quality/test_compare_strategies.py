"""The comparison of decoding strategies: its rows, the models it takes, and the same result on two processes."""

import json
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from in_two_processes import NEW, SENTENCES, sentence_prompts
from peft import LoraConfig, get_peft_model

from textgen.evaluation.config import EvaluationConfig
from textgen.evaluation.decoding import generate
from textgen.evaluation.decoding.strategies import STRATEGIES
from textgen.evaluation.decoding.strategy_parser import parse_strategies
from textgen.evaluation.decoding.token_loop import Decoded
from textgen.evaluation.decoding.truncation import is_truncation
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.quality.compare_strategies import compare_strategies
from textgen.evaluation.quality.text_metrics import TEXT_METRICS


@pytest.fixture
def run(peaked_gpt2) -> Callable[..., tuple[list, list]]:
    """``run(loaded, "greedy,top_p", …)``: the rows and continuations of a comparison."""
    amateur = peaked_gpt2(1)

    def compare(loaded, names="all", *, prompts=None, max_new_tokens=NEW, samples=1, echo=None):
        prompts = prompts or sentence_prompts(loaded.tokenizer)
        config = EvaluationConfig(max_new_tokens=max_new_tokens, samples=samples)
        strategies = parse_strategies(names, amateur=True)
        return compare_strategies(loaded, prompts, strategies, config, seed=0, amateur=amateur, echo=echo)[:2]

    return compare


# --- rows -----------------------------------------------------------------------------------------------------------


def test_there_is_a_row_per_strategy_and_a_human_one_with_the_counts_of_its_continuations(loaded, run):
    rows, continuations = run(loaded, samples=2)
    assert [row["strategy"] for row in rows] == [*STRATEGIES, "human"]
    assert list(dict.fromkeys(c.strategy for c in continuations)) == [*STRATEGIES, "human"]
    for row in rows:
        mine = [c for c in continuations if c.strategy == row["strategy"]]
        stochastic = row["strategy"] in STRATEGIES and STRATEGIES[row["strategy"]].is_stochastic
        assert row["continuations"] == len(mine) == (20 if stochastic else 10)
        assert row["length"] == pytest.approx(sum(len(c.token_ids) for c in mine) / len(mine))


def test_length_and_end_of_text_rate_do_not_count_the_end_of_text(loaded, run, monkeypatch):
    eos, hello = loaded.eos_token_id, loaded.tokenizer("the times")["input_ids"]
    decoded = [[*hello, eos, *hello], [eos], hello * 3, [*hello, eos]]
    width = max(map(len, decoded))
    assert width == 3 * len(hello)  # so the third continuation has the maximum length
    monkeypatch.setattr(generate, "decode_batch", lambda *_, **__: [Decoded(tokens, 1.0) for tokens in decoded])
    prompts = [replace(sentence_prompts(loaded.tokenizer)[1], id=str(number)) for number in range(4)]
    (row, _), _ = run(loaded, "greedy", prompts=prompts, max_new_tokens=width)
    assert row["end_of_text_rate"] == 3 / 4
    assert row["length"] == len(hello) * 5 / 4


def test_the_human_row_is_of_the_references_and_has_no_speed(loaded, run):
    rows, continuations = run(loaded, "greedy")
    human = [c for c in continuations if c.strategy == "human"]
    assert [c.token_ids for c in human] == [prompt.reference_ids for prompt in sentence_prompts(loaded.tokenizer)]
    assert SENTENCES[1].count(human[1].text) == 1
    assert rows[-1]["settings"] == {}
    assert rows[-1]["tokens_per_second"] is rows[-1]["tokens_per_second_interval"] is None
    assert rows[-1]["end_of_text_rate"] == 0.1


def test_every_metric_comes_with_an_interval_and_is_json(loaded, run):
    rows, _ = run(loaded)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    for row in rows:
        assert row["settings"] == (STRATEGIES[row["strategy"]].settings if row["strategy"] in STRATEGIES else {})
        assert row["family"] == row["strategy"]
        assert row["prompts"] == 10
        names = {name.removesuffix("_interval") for name in row if name.endswith("_interval")}
        assert {*TEXT_METRICS, "nll", "own_nll", "tokens_per_second", "end_of_text_rate"} <= names
        for name in names:
            assert (row[name] is None) == (row[f"{name}_interval"] is None), name
            if row[name] is not None:
                low, high = row[f"{name}_interval"]
                assert low - 1e-9 <= row[name] <= high + 1e-9, name
                assert math.isfinite(high - low)
        missing = {name for name in names if row[name] is None}
        truncates = row["strategy"] in STRATEGIES and is_truncation(STRATEGIES[row["strategy"]])
        assert missing - {"tokens_per_second"} == (set() if truncates else {"own_nll"})
        assert ("tokens_per_second" in missing) == (row["strategy"] == "human")


@torch.no_grad()
def test_nll_is_that_of_the_model_token_by_token(loaded, run):
    rows, continuations = run(loaded, "top_p,beam")
    prompts = {prompt.id: prompt for prompt in sentence_prompts(loaded.tokenizer)}
    for row in rows:
        total, count = 0.0, 0
        for continuation in (c for c in continuations if c.strategy == row["strategy"]):
            ids = list(prompts[continuation.prompt_id].token_ids)
            for token in continuation.token_ids:
                total -= float(loaded.model(torch.tensor([ids])).logits[0, -1].double().log_softmax(dim=-1)[token])
                count += 1
                ids.append(token)
        assert row["nll"] == pytest.approx(total / count, rel=1e-5)


def test_variants_of_a_strategy_have_rows_of_their_own(loaded, run):
    rows, continuations = run(loaded, "top_p[0.2,0.9],top_p")
    found = {row["strategy"]: (row["family"], row["settings"]) for row in rows}
    assert found == {
        "top_p[0.2]": ("top_p", {"top_p": 0.2}),
        "top_p[0.9]": ("top_p", {"top_p": 0.9}),
        "top_p": ("top_p", {"top_p": 0.95}),
        "human": ("human", {}),
    }
    assert [c.strategy for c in continuations[::10]] == list(found)
    assert rows[0]["nll"] < rows[1]["nll"]


def test_speed_has_an_interval_if_there_are_two_batches(loaded, run):
    prompts = sentence_prompts(loaded.tokenizer)
    one, _ = run(loaded, "greedy,top_p", prompts=prompts[1:3])
    two, _ = run(loaded, "greedy,top_p", prompts=prompts[:3])
    assert one[0]["tokens_per_second"] > 0
    assert one[1]["tokens_per_second"] > 0
    assert one[0]["tokens_per_second_interval"] is None
    assert two[0]["tokens_per_second_interval"][0] > 0


def test_empty_continuations_have_metrics_too(loaded, run):
    with torch.no_grad():
        loaded.model.lm_head.weight.zero_()
        loaded.model.transformer.ln_f.bias.fill_(1)
        loaded.model.lm_head.weight[loaded.eos_token_id] = 100
    rows, continuations = run(loaded)
    generated = [c for c in continuations if c.strategy != "human"]
    assert {(c.text, c.token_ids) for c in generated} == {("", ())}
    assert all(row["nll"] == row["length"] == 0 and row["end_of_text_rate"] == 1 for row in rows[:-1])
    assert rows[-1]["nll"] > 100
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


# --- models ---------------------------------------------------------------------------------------------------------


def test_without_an_end_of_text_token_no_continuation_stops_early(loaded, run, tokenizer_with):
    rows, continuations = run(replace(loaded, tokenizer=tokenizer_with()))
    assert {len(c.token_ids) for c in continuations if c.strategy != "human"} == {NEW}
    assert all(row["end_of_text_rate"] == 0 for row in rows[:-1])


def test_the_model_s_vocabulary_may_be_larger_than_the_tokenizer_s(loaded, run, tiny_gpt2):
    model = tiny_gpt2(vocab_size=9000, n_embd=8, n_layer=1, n_head=1)
    _, continuations = run(replace(loaded, model=model), "temperature")
    assert any(max(c.token_ids) >= len(loaded.tokenizer) for c in continuations)


def test_other_architectures_and_adapters_are_compared_too(loaded, run, peaked_gpt2, tiny_llama, accelerator):
    llama = LoadedModel(accelerator, tiny_llama(1, max_position_embeddings=32), loaded.tokenizer, context=32)
    targets = ["c_attn", "lm_head"]
    trained = LoraConfig(r=2, target_modules=targets, fan_in_fan_out=True, init_lora_weights=False)
    fresh = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    plain = run(loaded)[1]
    assert run(replace(loaded, model=get_peft_model(peaked_gpt2(), fresh)))[1] == plain  # it changes nothing yet
    for other in (llama, replace(loaded, model=get_peft_model(peaked_gpt2(), trained))):
        rows, continuations = run(other)
        assert len(rows) == len(STRATEGIES) + 1
        assert continuations != plain
        assert [c for c in continuations if c.strategy == "human"] == [c for c in plain if c.strategy == "human"]


def test_every_module_is_left_in_the_mode_it_was_in(loaded, run):
    model = loaded.model
    expected = run(loaded, "greedy,top_k")[1]
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    model.train()
    model.transformer.h[0].eval()
    before = [module.training for module in model.modules()]
    assert run(loaded, "greedy,top_k")[1] == expected  # without dropout, that is
    assert [module.training for module in model.modules()] == before
    model(torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()


def test_a_prompt_that_does_not_fit_with_its_continuation_is_a_bug(loaded, run):
    with pytest.raises(AssertionError):
        run(loaded, "greedy", max_new_tokens=64 - 7)
    run(loaded, "greedy", max_new_tokens=64 - 8, prompts=sentence_prompts(loaded.tokenizer)[1:2])


def test_progress_names_the_strategies(loaded, run):
    lines: list[str] = []
    run(loaded, "top_p,greedy", echo=lines.append)
    assert lines == ["generating continuations of 10 prompts by top_p, greedy"]


# --- processes ------------------------------------------------------------------------------------------------------


def without_speed(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if "per_second" not in name} for row in rows]


def test_two_processes_compare_as_one_does(one_and_two_processes):
    one, (two, other) = one_and_two_processes
    assert two == other
    assert two["continuations"] == one["continuations"]
    for row, expected in zip(without_speed(two["rows"]), without_speed(one["rows"]), strict=True):
        assert row.keys() == expected.keys()
        for name, value in expected.items():  # one process may use more threads, which moves the last bits of logits
            exact = value is None or isinstance(value, str | dict)
            assert row[name] == (value if exact else pytest.approx(value, rel=1e-5)), name
