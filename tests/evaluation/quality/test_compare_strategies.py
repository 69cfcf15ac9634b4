"""The comparison of decoding strategies: prompts, continuations and figures, on however many processes."""

import json
import math
import os
import random
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from textgen.data.document import Document
from textgen.errors import UserError
from textgen.evaluation.decoding import generate
from textgen.evaluation.decoding.generate import plan_batches
from textgen.evaluation.decoding.prompts import Prompt, select_prompts
from textgen.evaluation.decoding.strategies import STRATEGIES
from textgen.evaluation.decoding.strategy_parser import parse_strategies
from textgen.evaluation.decoding.token_loop import DecodedTokens
from textgen.evaluation.decoding.truncation import is_truncation
from textgen.evaluation.quality.compare_strategies import compare
from textgen.evaluation.quality.judge import Judge
from textgen.evaluation.quality.mauve import features
from textgen.evaluation.quality.text_metrics import TEXT_METRICS
from textgen.evaluation.quality.truncation_coverage import FIGURES, diagnose

SENTENCES = [
    "It was the best of times, it was the worst of times, it was the age of wisdom.",
    "Call me Ishmael. Some years ago, never mind how long precisely, I thought I would sail about a little.",
    "Happy families are all alike; every unhappy family is unhappy in its own way.",
    "In my younger and more vulnerable years my father gave me some advice that I've been turning over.",
    "The sky above the port was the colour of television, tuned to a dead channel.",
]
NEW = 12
CPU = torch.device("cpu")


def build_tokenizer(**special: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<mark>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


TOKENIZER = build_tokenizer(eos_token="<|endoftext|>", additional_special_tokens=["<mark>"])
EOS = TOKENIZER.eos_token_id


def build_model(seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    sizes = {"vocab_size": 320, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**sizes, tie_word_embeddings=False, bos_token_id=EOS, eos_token_id=EOS)).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(15)  # or all tokens are as good as equally probable
    return model


def document(number: int, text: str) -> Document:
    return Document(f"plays.txt#{number}", "plays.txt", text)


def build_prompts() -> list[Prompt]:
    """Of two lengths, mixed, and with a reference that ends early."""
    ids = [TOKENIZER(sentence)["input_ids"] for sentence in SENTENCES * 2]
    prompts = []
    for number, tokens in enumerate(ids):
        length = 8 if number % 3 else 5
        reference = tuple(tokens[length : length + (NEW if number else 4)])
        prompts.append(Prompt(f"plays.txt#{number}", tuple(tokens[:length]), f"prompt {number}", reference))
    return prompts


def run(model: PreTrainedModel, tokenizer: Any = TOKENIZER, names: str = "all", **other: Any) -> tuple[list, list]:
    settings = {"prompts": build_prompts(), "max_new_tokens": NEW, "samples": 1, "seed": 0} | other
    prompts, strategies = settings.pop("prompts"), parse_strategies(names, amateur=True)
    amateur = build_model(seed=1)
    return compare(Accelerator(cpu=True), model, tokenizer, prompts, strategies, amateur=amateur, **settings)


@pytest.fixture
def model() -> PreTrainedModel:
    return build_model()


# --- which prompts --------------------------------------------------------------------------------------------------


def pick(texts: list[str], **other: int) -> list[Prompt]:
    settings = {"prompts": 2, "prompt_tokens": 8, "max_new_tokens": 10} | other
    return select_prompts([document(number, text) for number, text in enumerate(texts)], TOKENIZER, **settings)


def test_prompts_are_the_beginnings_of_the_first_documents_that_are_long_enough() -> None:
    texts = ["", "too short", SENTENCES[1], SENTENCES[0], SENTENCES[2]]
    prompts = pick(texts)
    assert [prompt.id for prompt in prompts] == ["plays.txt#2", "plays.txt#3"]
    for prompt, text in zip(prompts, texts[2:], strict=False):
        tokens = TOKENIZER(text)["input_ids"]
        assert prompt.token_ids == tuple(tokens[:8])
        assert prompt.reference_ids == tuple(tokens[8:18])
        assert text.startswith(prompt.text)
        assert prompt.text


@pytest.mark.parametrize(("tokens", "expected"), [(13, (8, 5)), (12, (6, 6)), (2, (1, 1)), (1, None), (40, (8, 10))])
def test_how_long_a_document_must_be(tokens: int, expected: tuple[int, int] | None) -> None:
    text = TOKENIZER.decode(TOKENIZER("".join(SENTENCES))["input_ids"][:tokens])
    assert len(TOKENIZER(text)["input_ids"]) == tokens
    if expected is None:
        with pytest.raises(UserError):
            pick([text])
        return
    (prompt,) = pick([text])
    assert (len(prompt.token_ids), len(prompt.reference_ids)) == expected


def test_short_documents_fill_up_with_their_first_half_only_when_needed() -> None:
    short = "A short one."
    tokens = TOKENIZER(short)["input_ids"]
    assert 2 < len(tokens) < 13
    prompts = pick([short, SENTENCES[0], "x", short], prompts=3)
    assert [prompt.id for prompt in prompts] == ["plays.txt#1", "plays.txt#0", "plays.txt#3"]
    assert prompts[1].token_ids == tuple(tokens[: len(tokens) // 2])
    assert prompts[1].reference_ids == tuple(tokens[len(tokens) // 2 :])
    assert [prompt.id for prompt in pick([short, SENTENCES[0], SENTENCES[1]])] == ["plays.txt#1", "plays.txt#2"]


@pytest.mark.parametrize("texts", [[], [""], ["a", "", "b"]])
def test_no_document_to_continue_is_the_users_to_mend(texts: list[str]) -> None:
    with pytest.raises(UserError, match="--skip-decoding"):
        pick(texts)


def test_a_long_document_is_not_tokenised_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    call = PreTrainedTokenizerFast.__call__

    def count(self: Any, text: str, **other: Any) -> Any:
        read.append(len(text))
        return call(self, text, **other)

    monkeypatch.setattr(PreTrainedTokenizerFast, "__call__", count)
    text = " ".join(SENTENCES * 10_000)
    (prompt,) = pick([text], prompts=1)
    assert len(prompt.token_ids) == 8
    assert sum(read) < 10_000


# --- which continuations --------------------------------------------------------------------------------------------


def test_batches_hold_prompts_of_one_length_and_every_one_once() -> None:
    prompts = build_prompts() * 2
    batches = plan_batches(prompts)
    assert all(len({len(prompts[number].token_ids) for number in batch}) == 1 for batch in batches)
    assert [len(batch) for batch in batches] == [8, 8, 4]
    assert sorted(number for batch in batches for number in batch) == list(range(20))


def test_what_samples_gives_as_many_continuations_as_asked_for_and_the_rest_one(model: PreTrainedModel) -> None:
    rows, continuations = run(model, samples=2)
    prompts = build_prompts()
    assert [row["strategy"] for row in rows] == [*STRATEGIES, "human"]
    wanted = [
        (name, prompt.id, prompt.text, sample)
        for name in [*STRATEGIES, "human"]
        for prompt in prompts
        for sample in range(2 if name in STRATEGIES and STRATEGIES[name].is_stochastic else 1)
    ]
    assert [(c.strategy, c.prompt_id, c.prompt, c.sample) for c in continuations] == wanted
    for row in rows:
        mine = [c for c in continuations if c.strategy == row["strategy"]]
        assert row["continuations"] == len(mine)
        assert row["length"] == pytest.approx(sum(len(c.token_ids) for c in mine) / len(mine))
    samples = [c.token_ids for c in continuations if c.strategy == "top_p"]
    assert all(first != second for first, second in zip(samples[::2], samples[1::2], strict=True))


def test_a_continuation_does_not_depend_on_the_other_prompts_and_strategies(model: PreTrainedModel) -> None:
    _, everything = run(model, samples=2)
    prompts = build_prompts()
    _, some = run(model, names="eta,beam,contrastive", prompts=prompts[4:1:-1])
    assert set(some) <= set(everything)
    _, other_seed = run(model, names="eta", seed=1)
    assert not {c for c in other_seed if c.strategy == "eta"} & set(everything)


def test_text_stops_before_the_end_of_text_and_shows_no_special_token(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    hello, mark = TOKENIZER("the times")["input_ids"], TOKENIZER("<mark>")["input_ids"]
    decoded = [[*hello, *mark, EOS, *hello], [EOS], hello * 3, [*hello, EOS]]
    width = max(map(len, decoded))
    assert width == 3 * len(hello)  # so that the third one fills all that there is
    monkeypatch.setattr(generate, "decode_batch", lambda *_, **__: [DecodedTokens(tokens, 1.0) for tokens in decoded])
    prompts = [replace(build_prompts()[1], id=str(number)) for number in range(4)]
    (row, _), continuations = run(model, names="greedy", prompts=prompts, max_new_tokens=width)
    assert [c.token_ids for c in continuations[:4]] == [(*hello, *mark), (), tuple(hello * 3), tuple(hello)]
    assert [c.text for c in continuations[:4]] == ["the times", "", "the times" * 3, "the times"]
    assert row["end_of_text_rate"] == 3 / 4
    assert row["length"] == (len(hello) * 5 + len(mark)) / 4


def test_the_human_row_is_the_reference_and_has_no_speed(model: PreTrainedModel) -> None:
    rows, continuations = run(model, names="greedy")
    human = [c for c in continuations if c.strategy == "human"]
    assert [c.token_ids for c in human] == [prompt.reference_ids for prompt in build_prompts()]
    assert SENTENCES[1].count(human[1].text) == 1
    assert rows[-1]["settings"] == {}
    assert rows[-1]["tokens_per_second"] is rows[-1]["tokens_per_second_interval"] is None
    assert rows[-1]["end_of_text_rate"] == 0.1


# --- which figures --------------------------------------------------------------------------------------------------


def test_every_metric_comes_with_an_interval_and_is_json(model: PreTrainedModel) -> None:
    rows, _ = run(model)
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
def test_nll_is_the_models_own_for_each_token_alone(model: PreTrainedModel) -> None:
    rows, continuations = run(model, names="top_p,beam")
    prompts = {prompt.id: prompt for prompt in build_prompts()}
    for row in rows:
        total, count = 0.0, 0
        for continuation in (c for c in continuations if c.strategy == row["strategy"]):
            ids = list(prompts[continuation.prompt_id].token_ids)
            for token in continuation.token_ids:
                total -= float(model(torch.tensor([ids])).logits[0, -1].double().log_softmax(dim=-1)[token])
                count += 1
                ids.append(token)
        assert row["nll"] == pytest.approx(total / count, rel=1e-5)


def test_variants_of_a_strategy_are_rows_of_their_own(model: PreTrainedModel) -> None:
    rows, continuations = run(model, names="top_p[0.2,0.9],top_p")
    found = {row["strategy"]: (row["family"], row["settings"]) for row in rows}
    assert found == {
        "top_p[0.2]": ("top_p", {"top_p": 0.2}),
        "top_p[0.9]": ("top_p", {"top_p": 0.9}),
        "top_p": ("top_p", {"top_p": 0.95}),
        "human": ("human", {}),
    }
    assert [c.strategy for c in continuations[::10]] == list(found)
    assert rows[0]["nll"] < rows[1]["nll"]


def test_speed_has_an_interval_only_from_two_batches_on(model: PreTrainedModel) -> None:
    prompts = build_prompts()
    one, _ = run(model, names="greedy,top_p", prompts=prompts[1:3])
    two, _ = run(model, names="greedy,top_p", prompts=prompts[:3])
    assert one[0]["tokens_per_second"] > 0
    assert one[1]["tokens_per_second"] > 0
    assert one[0]["tokens_per_second_interval"] is None
    assert two[0]["tokens_per_second_interval"][0] > 0


def test_empty_continuations_are_figures_too(model: PreTrainedModel) -> None:
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.transformer.ln_f.bias.fill_(1)
        model.lm_head.weight[EOS] = 100
    rows, continuations = run(model)
    made = [c for c in continuations if c.strategy != "human"]
    assert {(c.text, c.token_ids) for c in made} == {("", ())}
    assert all(row["nll"] == row["length"] == 0 and row["end_of_text_rate"] == 1 for row in rows[:-1])
    assert rows[-1]["nll"] > 100
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


# --- which models ---------------------------------------------------------------------------------------------------


def test_without_an_end_of_text_no_continuation_stops_early(model: PreTrainedModel) -> None:
    rows, continuations = run(model, tokenizer=build_tokenizer())
    assert {len(c.token_ids) for c in continuations if c.strategy != "human"} == {NEW}
    assert all(row["end_of_text_rate"] == 0 for row in rows[:-1])


def test_a_vocabulary_larger_than_the_tokenizers_is_no_obstacle() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=9000, n_positions=64, n_embd=8, n_layer=1, n_head=1))
    _, continuations = run(model, names="temperature")
    assert any(max(c.token_ids) >= len(TOKENIZER) for c in continuations)


def test_models_of_another_kind_and_with_adapters(model: PreTrainedModel) -> None:
    torch.manual_seed(1)
    sizes = {"vocab_size": 320, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    llama = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, max_position_embeddings=32))
    adapted = get_peft_model(
        build_model(),
        LoraConfig(r=2, target_modules=["c_attn", "lm_head"], fan_in_fan_out=True, init_lora_weights=False),
    )
    unchanged = get_peft_model(build_model(), LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    plain = run(model)[1]
    assert run(unchanged)[1] == plain  # a fresh adapter does nothing
    for other in (llama, adapted):
        rows, continuations = run(other)
        assert len(rows) == len(STRATEGIES) + 1
        assert continuations != plain
        assert [c for c in continuations if c.strategy == "human"] == [c for c in plain if c.strategy == "human"]


def test_every_module_is_left_in_the_mode_it_was_in(model: PreTrainedModel) -> None:
    expected = run(model, names="greedy,top_k")[1]
    model.train()
    model.transformer.h[0].eval()
    before = [module.training for module in model.modules()]
    assert run(model, names="greedy,top_k")[1] == expected  # and without dropout
    assert [module.training for module in model.modules()] == before
    model(torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()


def test_a_prompt_that_does_not_fit_with_its_continuation_is_our_bug(model: PreTrainedModel) -> None:
    with pytest.raises(AssertionError):
        run(model, names="greedy", max_new_tokens=64 - 7)
    run(model, names="greedy", max_new_tokens=64 - 8, prompts=build_prompts()[1:2])


def test_progress_hears_what_is_being_decoded(model: PreTrainedModel) -> None:
    heard: list[str] = []
    run(model, names="top_p,greedy", progress=heard.append)
    assert heard == ["10 prompts, continued by: top_p, greedy"]
    heard.clear()
    run(model, names="top_p,greedy", prompts=build_prompts() * 2, progress=heard.append)
    assert heard == [f"20 prompts, continued by: top_p, greedy (batch {number} of 3)" for number in (1, 2, 3)]


# --- however many processes -----------------------------------------------------------------------------------------


def without_speed(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if "per_second" not in name} for row in rows]


def test_two_processes_get_what_one_gets(model: PreTrainedModel, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([*launch, __file__, tmp_path], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"{rank}-of-2.json").read_text()) for rank in (0, 1)]
    assert ranks[0] == ranks[1]
    rows, continuations = run(model, samples=2, judge=build_judge())
    assert ranks[0]["continuations"] == json.loads(json.dumps([asdict(c) for c in continuations]))
    for two, one in zip(without_speed(ranks[0]["rows"]), without_speed(rows), strict=True):
        assert two.keys() == one.keys()
        for name in two:  # one process may use more threads, which moves the last bits of the logits
            exact = one[name] is None or isinstance(one[name], str | dict)
            assert two[name] == (one[name] if exact else pytest.approx(one[name], rel=1e-5)), name
    for found, other in zip(ranks[0]["seen"], seen_by(model), strict=True):
        assert np.array(found) == pytest.approx(np.array(other), rel=1e-5)


def build_judge() -> Judge:
    return Judge("judge", build_model(seed=2), TOKENIZER, context=64)


def seen_by(model: PreTrainedModel) -> list[list]:
    """What diagnostics and MAUVE's features make of the human continuations."""
    accelerator, prompts = Accelerator(cpu=True), build_prompts()
    rows = diagnose(accelerator, model, prompts, parse_strategies("top_p,min_p,top_h"), seed=0)
    texts = [[*prompt.token_ids, *prompt.reference_ids] for prompt in prompts]
    return [[[row[figure] for figure in FIGURES] for row in rows], features(accelerator, model, texts).tolist()]


def write_down(directory: Path) -> None:
    """What each of several processes does: the comparison, and its result in a file of the process's own."""
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    random.seed(accelerator.process_index)  # nothing may come from the process's own generators
    rows, continuations = run(build_model(), samples=2, judge=build_judge())
    result = {
        "seen": seen_by(build_model()),
        "rows": rows,
        "continuations": [asdict(continuation) for continuation in continuations],
    }
    (directory / f"{accelerator.process_index}-of-2.json").write_text(json.dumps(result))
    accelerator.end_training()


if __name__ == "__main__":
    write_down(Path(sys.argv[1]))
