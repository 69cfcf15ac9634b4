"""Continuations of all prompts by all strategies: their order, number and texts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from textgen.evaluation import batching
from textgen.evaluation.decoding import generate
from textgen.evaluation.decoding.generate import (
    Continuation,
    StrategyOutput,
    generate_continuations,
    human_output,
    prompt_batches,
)
from textgen.evaluation.decoding.prompts import Prompt
from textgen.evaluation.decoding.strategies import HUMAN, STRATEGIES
from textgen.evaluation.decoding.strategy_parser import parse_strategies
from textgen.evaluation.decoding.token_loop import Decoded
from textgen.evaluation.loaded_model import LoadedModel

SENTENCES = [
    "It was the best of times, it was the worst of times, it was the age of wisdom.",
    "Call me Ishmael. Some years ago, never mind how long precisely, I thought I would sail about a little.",
    "Happy families are all alike; every unhappy family is unhappy in its own way.",
    "In my younger and more vulnerable years my father gave me some advice that I've been turning over.",
    "The sky above the port was the colour of television, tuned to a dead channel.",
]
NEW = 12
Generate = Callable[..., list[StrategyOutput]]


@pytest.fixture
def loaded(accelerator: Any, tokenizer: Any, tiny_gpt2: Callable[..., Any], sharpen: Callable[..., Any]) -> LoadedModel:
    model = sharpen(tiny_gpt2(0, tie_word_embeddings=False), by=15)
    return LoadedModel(accelerator, model, tokenizer, context=64)


@pytest.fixture
def prompts(tokenizer: Any) -> list[Prompt]:
    """Of two lengths, mixed; the first has a shorter reference."""
    found = []
    for number, sentence in enumerate(SENTENCES * 2):
        tokens, length = tokenizer(sentence)["input_ids"], 8 if number % 3 else 5
        reference = tuple(tokens[length : length + (NEW if number else 4)])
        found.append(Prompt(f"plays.txt#{number}", tuple(tokens[:length]), f"prompt {number}", reference))
    return found


@pytest.fixture
def run(prompts: list[Prompt], tiny_gpt2: Callable[..., Any], sharpen: Callable[..., Any]) -> Generate:
    """``run(loaded, names, …)``: the output of these strategies, of one sample per prompt unless specified."""
    amateur = sharpen(tiny_gpt2(1, tie_word_embeddings=False), by=15)

    def call(loaded: LoadedModel, names: str = "all", **other: Any) -> list[StrategyOutput]:
        settings = {"prompts": prompts, "max_new_tokens": NEW, "samples_per_prompt": 1, "seed": 0} | other
        given, strategies = settings.pop("prompts"), parse_strategies(names, amateur=True)
        return generate_continuations(loaded, given, strategies, amateur=amateur, **settings)

    return call


def all_of(outputs: list[StrategyOutput]) -> set[Continuation]:
    return {continuation for output in outputs for continuation in output.continuations}


def test_batches_contain_prompts_of_one_length_and_each_prompt_once(prompts: list[Prompt]) -> None:
    prompts = prompts * 2
    batches = prompt_batches(prompts)
    assert all(len({len(prompts[number].token_ids) for number in batch}) == 1 for batch in batches)
    assert [len(batch) for batch in batches] == [8, 8, 4]
    assert sorted(number for batch in batches for number in batch) == list(range(20))


def test_stochastic_strategies_give_several_samples_and_the_others_one(
    loaded: LoadedModel, prompts: list[Prompt], run: Generate
) -> None:
    outputs = run(loaded, samples_per_prompt=2)
    assert [output.name for output in outputs] == list(STRATEGIES)
    for output in outputs:
        samples = 2 if output.strategy.is_stochastic else 1
        assert output.prompts == [prompt for prompt in prompts for _ in range(samples)]
        assert [(c.strategy, c.prompt_id, c.prompt, c.sample) for c in output.continuations] == [
            (output.name, prompt.id, prompt.text, sample) for prompt in prompts for sample in range(samples)
        ]
        assert output.prompt_ids == [c.prompt_id for c in output.continuations]
        assert output.token_counts == [len(c.token_ids) for c in output.continuations]
        assert output.texts == [c.text for c in output.continuations]
        assert len(output.batch_tokens) == len(output.batch_seconds) == len(prompt_batches(prompts))
        assert sum(output.batch_tokens) >= sum(output.token_counts)  # ends of text are counted too
        assert all(seconds > 0 for seconds in output.batch_seconds)
    drawn = [c.token_ids for output in outputs for c in output.continuations if output.name == "top_p"]
    assert all(first != second for first, second in zip(drawn[::2], drawn[1::2], strict=True))


def test_a_continuation_does_not_depend_on_the_other_prompts_and_strategies(
    loaded: LoadedModel, prompts: list[Prompt], run: Generate
) -> None:
    everything = all_of(run(loaded, samples_per_prompt=2))
    some = all_of(run(loaded, "eta,beam,contrastive", prompts=prompts[4:1:-1]))
    assert len(some) == 9
    assert some <= everything
    assert not all_of(run(loaded, "eta", seed=1)) & everything


def test_continuations_are_in_the_order_of_the_prompts_even_if_one_occurs_twice(
    loaded: LoadedModel, prompts: list[Prompt], run: Generate
) -> None:
    given = [prompts[1], prompts[0], prompts[1], prompts[3]]
    (output,) = run(loaded, "top_p", prompts=given, samples_per_prompt=2)
    assert output.prompts == [prompt for prompt in given for _ in range(2)]
    assert [(c.prompt_id, c.sample) for c in output.continuations] == [(p.id, s) for p in given for s in range(2)]
    assert output.continuations[:2] == output.continuations[4:6]


def test_text_stops_before_the_end_of_text_and_excludes_special_tokens(
    loaded: LoadedModel,
    prompts: list[Prompt],
    run: Generate,
    tokenizer_with: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = tokenizer_with(eos_token="<|endoftext|>", additional_special_tokens=["<mark>"])
    eos, mark, hello = tokenizer.eos_token_id, tokenizer("<mark>")["input_ids"], tokenizer("the times")["input_ids"]
    assert len(mark) == 1
    decoded = [[*hello, *mark, eos, *hello], [eos], hello * 3, [*hello, eos]]
    assert max(map(len, decoded)) == 3 * len(hello)  # so that the third one has the maximum length
    monkeypatch.setattr(generate, "decode_batch", lambda *_, **__: [Decoded(tokens, 1.0) for tokens in decoded])
    given = [replace(prompts[1], id=str(number)) for number in range(4)]
    (output,) = run(replace(loaded, tokenizer=tokenizer), "greedy", prompts=given, max_new_tokens=3 * len(hello))
    assert [c.token_ids for c in output.continuations] == [(*hello, *mark), (), tuple(hello * 3), tuple(hello)]
    assert output.texts == ["the times", "", "the times" * 3, "the times"]
    assert output.batch_tokens == [sum(map(len, decoded))]
    assert output.batch_seconds == [4.0]


def test_without_an_end_of_text_all_continuations_have_the_maximum_length(
    loaded: LoadedModel, run: Generate, tokenizer_with: Callable[..., Any]
) -> None:
    outputs = run(replace(loaded, tokenizer=tokenizer_with()))
    assert {count for output in outputs for count in output.token_counts} == {NEW}


def test_the_human_output_is_the_reference(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    output = human_output(loaded, prompts, NEW)
    assert (output.strategy, output.name, output.prompts) == (HUMAN, "human", prompts)
    assert [c.token_ids for c in output.continuations] == [prompt.reference_ids for prompt in prompts]
    assert SENTENCES[1].count(output.texts[1]) == 1
    assert {(c.strategy, c.sample) for c in output.continuations} == {("human", 0)}
    assert not output.batch_tokens
    assert human_output(loaded, prompts, 3).token_counts == [3] * 10
    ended = [replace(prompts[1], reference_ids=(7, loaded.eos_token_id, 8))]
    assert human_output(loaded, ended, NEW).token_counts == [1]


def test_progress_names_the_strategies_and_counts_continuations(
    loaded: LoadedModel, prompts: list[Prompt], run: Generate, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[str, float, str]] = []
    done: list[float] = []

    @contextmanager
    def progress(work: str, *, total: float, unit: str) -> Iterator[Callable[[float], None]]:
        shown.append((work, total, unit))
        yield done.append

    monkeypatch.setattr(batching, "progress", progress)
    lines: list[str] = []
    run(loaded, "top_p,greedy", prompts=prompts * 2, samples_per_prompt=2, echo=lines.append)
    assert lines == ["generating continuations of 20 prompts by top_p, greedy"]
    assert shown == [("decoding", 20 * (2 + 1), "continuations")]
    assert sum(done) == 60
    assert len(done) >= 3, "at least once for each batch of prompts"
