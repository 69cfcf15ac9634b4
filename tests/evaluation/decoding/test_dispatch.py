"""Decoding by every strategy: independent of batching, seeded by keys, unaffected by ``generation_config``."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig

from textgen.evaluation.decoding import dispatch
from textgen.evaluation.decoding.dispatch import before_end_of_text, decode, decode_batch
from textgen.evaluation.decoding.gumbel import NoiseKey
from textgen.evaluation.decoding.prefix.cache_support import cache_appends
from textgen.evaluation.decoding.strategies import STRATEGIES, Strategy
from textgen.evaluation.decoding.token_loop import Request

EOS = 0
PLAIN_SAMPLING = Strategy("temperature", {"temperature": 1.0}, True, "the model's own distribution", "")
Run = Callable[..., torch.Tensor]


@pytest.fixture
def model(tiny_gpt2: Callable[..., Any], sharpen: Callable[..., Any]) -> Any:
    return sharpen(tiny_gpt2(0, vocab_size=97, tie_word_embeddings=False))


@pytest.fixture(scope="session")
def amateur(tiny_gpt2: Callable[..., Any], sharpen: Callable[..., Any]) -> Any:
    return sharpen(tiny_gpt2(1, vocab_size=97, tie_word_embeddings=False))


@pytest.fixture
def run(amateur: Any) -> Run:
    """``run(model, strategy name, prompts, keys, …)``: 12 new tokens for each prompt, without an end of text."""

    def call(model: Any, name: str, given: torch.Tensor, row_keys: list[NoiseKey], **other: int | None) -> torch.Tensor:
        settings: dict[str, Any] = {"max_new_tokens": 12, "eos_token_id": None} | other
        return decode(model, STRATEGIES[name], given, row_keys, amateur=amateur, **settings)

    return call


@pytest.fixture
def transformers_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Log messages of transformers, which do not propagate to the root logger by default."""
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def keys(rows: int, seed: int = 0, sample: int = 0) -> list[NoiseKey]:
    return [NoiseKey(seed, f"document {row}", sample) for row in range(rows)]


def prompts(rows: int, length: int = 5) -> torch.Tensor:
    return torch.randint(1, 97, (rows, length), generator=torch.Generator().manual_seed(1))


# --- batching and randomness ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_a_row_is_the_same_alone_and_in_a_batch(model: Any, run: Run, name: str) -> None:
    given = prompts(5)
    together = run(model, name, given, keys(5))
    assert together.shape == (5, 12)
    for row in (0, 3):
        alone = run(model, name, given[row : row + 1], keys(5)[row : row + 1])
        assert alone.tolist() == together[row : row + 1].tolist()


@pytest.mark.parametrize("name", [name for name, strategy in STRATEGIES.items() if strategy.is_stochastic])
def test_stochastic_strategies_depend_on_the_seed_and_the_sample(model: Any, run: Run, name: str) -> None:
    given = prompts(4)
    first = run(model, name, given, keys(4))
    assert torch.equal(first, run(model, name, given, keys(4)))
    assert not torch.equal(first, run(model, name, given, keys(4, seed=1)))
    assert not torch.equal(first, run(model, name, given, keys(4, sample=1)))


@pytest.mark.parametrize("name", [name for name, strategy in STRATEGIES.items() if not strategy.is_stochastic])
def test_deterministic_strategies_ignore_the_keys(model: Any, run: Run, name: str) -> None:
    assert torch.equal(run(model, name, prompts(4), keys(4)), run(model, name, prompts(4), keys(4, seed=1)))


def test_first_tokens_follow_the_models_distribution(model: Any) -> None:
    prompt = prompts(1)
    expected = model(prompt).logits[0, -1].softmax(dim=-1)
    drawn = decode(
        model, PLAIN_SAMPLING, prompt.expand(3000, -1), keys(3000), max_new_tokens=1, eos_token_id=None
    ).squeeze(1)
    frequencies = drawn.bincount(minlength=97) / 3000
    assert expected.max() < 0.9
    assert (frequencies - expected).abs().max() < 0.04


def test_strategies_that_keep_the_same_tokens_draw_the_same_tokens(model: Any) -> None:
    everything = Strategy("top_p", {"top_p": 1.0}, True, "", "", main_setting="top_p")
    most = Strategy("min_p", {"min_p": 0.0}, True, "", "", main_setting="min_p")
    given = prompts(4)
    results = [
        decode(model, strategy, given, keys(4), max_new_tokens=12, eos_token_id=None)
        for strategy in (PLAIN_SAMPLING, everything, most)
    ]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


# --- compared with definitions and transformers ---------------------------------------------------------------------


def test_greedy_takes_the_most_probable_token_and_the_penalty_includes_the_prompt(model: Any, run: Run) -> None:
    prompt = prompts(1)
    ids = prompt
    for _ in range(6):
        ids = torch.cat([ids, model(ids).logits[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    assert torch.equal(run(model, "greedy", prompt, keys(1), max_new_tokens=6), ids[:, 5:])

    ids = prompt
    for _ in range(6):
        logits = model(ids).logits[:, -1].clone()
        for token in set(ids[0].tolist()):
            logits[0, token] = logits[0, token] / 1.2 if logits[0, token] > 0 else logits[0, token] * 1.2
        ids = torch.cat([ids, logits.argmax(dim=-1, keepdim=True)], dim=1)
    assert torch.equal(run(model, "repetition_penalty", prompt, keys(1), max_new_tokens=6), ids[:, 5:])


@pytest.mark.parametrize("eos_token_id", [None, 5])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("greedy", {}),
        ("beam", {"num_beams": 4, "length_penalty": 0.0}),
        ("repetition_penalty", {"repetition_penalty": 1.2}),
        ("no_repeat_ngram", {"no_repeat_ngram_size": 3}),
    ],
)
def test_tokens_equal_those_of_generate(
    model: Any, run: Run, name: str, settings: dict[str, Any], eos_token_id: int | None
) -> None:
    given = prompts(8)
    config = GenerationConfig(max_new_tokens=12, eos_token_id=eos_token_id, pad_token_id=5, **settings)
    model.generation_config = GenerationConfig()
    expected = model.generate(given, attention_mask=torch.ones_like(given), generation_config=config)[:, 5:]
    assert torch.equal(run(model, name, given, keys(8), eos_token_id=eos_token_id), expected)


def test_beam_search_finds_a_text_at_least_as_probable_as_greedy(model: Any, run: Run) -> None:
    given = prompts(6)

    def log_probability(continuation: torch.Tensor) -> torch.Tensor:
        logits = model(torch.cat([given, continuation], dim=1)).logits[:, 4:-1].log_softmax(dim=-1)
        return logits.gather(2, continuation[..., None]).sum(dim=(1, 2))

    greedy, beam = run(model, "greedy", given, keys(6)), run(model, "beam", given, keys(6))
    assert (log_probability(beam) >= log_probability(greedy) - 1e-4).all()
    assert not torch.equal(greedy, beam)


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_the_checkpoints_generation_config_has_no_effect(
    model: Any, run: Run, name: str, adapted: bool, transformers_log: pytest.LogCaptureFixture
) -> None:
    expected = run(model, name, prompts(3), keys(3), eos_token_id=EOS)
    if adapted:
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)).eval()
    loaded = GenerationConfig(
        do_sample=True,
        top_k=1,
        temperature=0.01,
        repetition_penalty=9.0,
        no_repeat_ngram_size=1,
        max_length=7,
        min_length=6,
        suppress_tokens=[int(expected[0, 0])],
        bad_words_ids=[[int(expected[1, 0])]],
        eos_token_id=[int(expected[0, 1]), int(expected[1, 1])],
        num_beams=2,
        num_return_sequences=2,
    )
    inner = model.get_base_model() if adapted else model
    inner.generation_config = loaded
    transformers_log.clear()
    assert torch.equal(run(model, name, prompts(3), keys(3), eos_token_id=EOS), expected)
    assert not transformers_log.records
    assert inner.generation_config is loaded


# --- end of text ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_rows_stop_at_the_end_of_text_if_there_is_one(model: Any, run: Run, name: str) -> None:
    given = prompts(6)
    whole = run(model, name, given, keys(6))
    eos = int(whole[2, 4])
    stopped = run(model, name, given, keys(6), eos_token_id=eos)
    assert whole.shape == (6, 12)
    if "beam" in name:  # a text that ends early competes with longer ones, so the result may be another
        assert all(set(row[row.index(eos) :]) == {eos} for row in stopped.tolist() if eos in row)
        return
    for row, long in zip(stopped.tolist(), whole.tolist(), strict=True):
        assert before_end_of_text(row, eos) == before_end_of_text(long, eos)
        assert eos not in row or set(row[row.index(eos) :]) == {eos}
    assert len(before_end_of_text(stopped[2].tolist(), eos)) <= 4


def test_before_end_of_text() -> None:
    assert before_end_of_text([5, 6, 0, 7, 0], 0) == (5, 6)
    assert before_end_of_text([0], 0) == ()
    assert before_end_of_text([5, 0], None) == (5, 0)
    assert before_end_of_text([], 0) == ()


# --- strategies together --------------------------------------------------------------------------------------------


def test_all_strategies_together_give_the_same_tokens_as_each_alone(model: Any, amateur: Any) -> None:
    given, options = prompts(3), {"max_new_tokens": 10, "eos_token_id": 7, "amateur": amateur}
    requests = [
        Request(prompt, strategy, NoiseKey(0, f"document {prompt}", sample))
        for prompt in (2, 0, 1)
        for sample in (0, 1)
        for strategy in STRATEGIES.values()
    ]
    together = decode_batch(model, given, requests, **options)
    for strategy in STRATEGIES.values():
        for sample in (0, 1):
            alone = decode(model, strategy, given, keys(3, sample=sample), **options).tolist()
            for request, found in zip(requests, together, strict=True):
                if request.strategy is strategy and request.key.sample == sample:
                    assert before_end_of_text(found.tokens, 7) == before_end_of_text(alone[request.prompt], 7)
                    assert found.seconds > 0


@pytest.mark.parametrize("limit", ["_MAX_ROWS", "_MAX_CACHE_BYTES"])
def test_tokens_do_not_depend_on_the_number_of_rows_decoded_together(
    model: Any, amateur: Any, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    given = prompts(3)
    requests = [Request(p, s, NoiseKey(0, str(p), 0)) for s in STRATEGIES.values() for p in range(3)]
    options = {"max_new_tokens": 6, "eos_token_id": None, "amateur": amateur}
    expected = [row.tokens for row in decode_batch(model, given, requests, **options)]
    monkeypatch.setattr(dispatch, limit, 2)
    assert [row.tokens for row in decode_batch(model, given, requests, **options)] == expected


def test_all_strategies_share_one_prefill(model: Any) -> None:
    shapes = []
    assert cache_appends(model)  # measured now and not while passes are counted
    model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    token_by_token = [s for s in STRATEGIES.values() if s.decoder == "tokens"]
    requests = [Request(p, s, NoiseKey(0, str(p), 0)) for p in range(3) for s in token_by_token]
    decode_batch(model, prompts(3), requests, max_new_tokens=6, eos_token_id=None)
    assert shapes == [(3, 5)] + [(3 * len(token_by_token), 1)] * 5
