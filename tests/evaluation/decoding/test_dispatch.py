"""Decoding: the draws follow the distribution, depend on their key alone, and no setting of the checkpoint leaks in."""

import logging
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from textgen.evaluation.decoding import dispatch
from textgen.evaluation.decoding.dispatch import (
    NoiseKey,
    Request,
    before_end_of_text,
    decode,
    decode_batch,
    gumbel_noise,
)
from textgen.evaluation.decoding.gumbel import gumbel_rows
from textgen.evaluation.decoding.strategies import STRATEGIES, Strategy

EOS = 0
CPU = torch.device("cpu")
PLAIN_SAMPLING = Strategy("temperature", {"temperature": 1.0}, True, "the model's own distribution", "")


def build(seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    sizes = {"vocab_size": 97, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**sizes, tie_word_embeddings=False, bos_token_id=EOS, eos_token_id=EOS)).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # or all tokens are as good as equally probable
    return model


@pytest.fixture
def model() -> PreTrainedModel:
    return build(0)


AMATEUR = build(1)


@pytest.fixture
def transformers_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What transformers logs, which it does not pass on to the root logger by itself."""
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def keys(rows: int, seed: int = 0, sample: int = 0) -> list[NoiseKey]:
    return [NoiseKey(seed, f"document {row}", sample) for row in range(rows)]


def prompts(rows: int, length: int = 5) -> torch.Tensor:
    return torch.randint(1, 97, (rows, length), generator=torch.Generator().manual_seed(1))


def run(model: PreTrainedModel, name: str, given: torch.Tensor, row_keys: list[NoiseKey], **other: int | None):
    settings = {"max_new_tokens": 12, "eos_token_id": None} | other
    return decode(model, STRATEGIES[name], given, row_keys, amateur=AMATEUR, **settings)


# --- the noise ------------------------------------------------------------------------------------------------------


def test_20000_draws_follow_the_distribution() -> None:
    probabilities = torch.randn(40, generator=torch.Generator().manual_seed(0)).mul(0.5).softmax(dim=0)
    draws = 20_000
    scores = probabilities.log() + gumbel_rows(keys(draws), 3, 40, CPU)
    frequencies = scores.argmax(dim=1).bincount(minlength=40) / draws
    assert probabilities.max() < 0.08  # so that 0.005 is at least 2.6 standard deviations of every frequency
    assert (frequencies - probabilities).abs().max() < 0.005
    chi_squared = (draws * (frequencies - probabilities) ** 2 / probabilities).sum()
    assert chi_squared < 72.1  # 0.999 quantile with 39 degrees of freedom


def test_the_positions_of_one_row_draw_independently() -> None:
    probabilities = np.array([0.6, 0.3, 0.1])
    key = NoiseKey(3, "a", 0)
    draws = np.array([int((gumbel_noise(key, t, 3) + torch.tensor(probabilities).log()).argmax()) for t in range(6000)])
    pairs = np.bincount(3 * draws[:-1] + draws[1:], minlength=9).reshape(3, 3) / (len(draws) - 1)
    assert np.abs(pairs - np.outer(probabilities, probabilities)).max() < 0.02


def test_noise_is_a_function_of_every_part_of_its_key() -> None:
    noise = gumbel_noise(NoiseKey(1, "a", 2), 3, 50)
    assert torch.equal(noise, gumbel_noise(NoiseKey(1, "a", 2), 3, 50))
    for other in [
        gumbel_noise(NoiseKey(9, "a", 2), 3, 50),
        gumbel_noise(NoiseKey(1, "b", 2), 3, 50),
        gumbel_noise(NoiseKey(1, "a", 9), 3, 50),
        gumbel_noise(NoiseKey(1, "a", 2), 9, 50),
        gumbel_noise(NoiseKey(1 + 2**32, "a", 2), 3, 50),
        gumbel_noise(NoiseKey(1, "a', 2", 2), 3, 50),
    ]:
        assert not torch.isclose(noise, other).any()


def test_noise_is_the_same_on_every_machine_and_in_every_version() -> None:
    expected = torch.tensor([0.938483, 0.872127, 0.814158, 0.606503])
    assert torch.allclose(gumbel_noise(NoiseKey(0, "plays.txt#12", 1), 7, 4), expected, atol=1e-6)


def test_rows_with_one_key_share_their_noise() -> None:
    noise = gumbel_rows([*keys(2), *keys(1)], 3, 30, CPU)
    assert torch.equal(noise, torch.stack([gumbel_noise(key, 3, 30) for key in [*keys(2), *keys(1)]]))


# --- every strategy -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_a_row_alone_is_the_row_in_a_batch(model: PreTrainedModel, name: str) -> None:
    given = prompts(5)
    together = run(model, name, given, keys(5))
    assert together.shape == (5, 12)
    for row in (0, 3):
        alone = run(model, name, given[row : row + 1], keys(5)[row : row + 1])
        assert alone.tolist() == together[row : row + 1].tolist()


@pytest.mark.parametrize("name", [name for name, strategy in STRATEGIES.items() if strategy.is_stochastic])
def test_what_samples_depends_on_the_seed_and_the_sample(model: PreTrainedModel, name: str) -> None:
    given = prompts(4)
    first = run(model, name, given, keys(4))
    assert torch.equal(first, run(model, name, given, keys(4)))
    assert not torch.equal(first, run(model, name, given, keys(4, seed=1)))
    assert not torch.equal(first, run(model, name, given, keys(4, sample=1)))


@pytest.mark.parametrize("name", [name for name, strategy in STRATEGIES.items() if not strategy.is_stochastic])
def test_what_does_not_sample_ignores_the_keys(model: PreTrainedModel, name: str) -> None:
    assert torch.equal(run(model, name, prompts(4), keys(4)), run(model, name, prompts(4), keys(4, seed=1)))


def test_first_tokens_follow_the_models_distribution(model: PreTrainedModel) -> None:
    prompt = prompts(1)
    expected = model(prompt).logits[0, -1].softmax(dim=-1)
    drawn = decode(
        model, PLAIN_SAMPLING, prompt.expand(3000, -1), keys(3000), max_new_tokens=1, eos_token_id=None
    ).squeeze(1)
    frequencies = drawn.bincount(minlength=97) / 3000
    assert expected.max() < 0.9
    assert (frequencies - expected).abs().max() < 0.04


def test_the_noise_makes_strategies_agree_where_they_keep_the_same_tokens(model: PreTrainedModel) -> None:
    everything = Strategy("top_p", {"top_p": 1.0}, True, "", "", main_setting="top_p")
    most = Strategy("min_p", {"min_p": 0.0}, True, "", "", main_setting="min_p")
    given = prompts(4)
    results = [
        decode(model, strategy, given, keys(4), max_new_tokens=12, eos_token_id=None)
        for strategy in (PLAIN_SAMPLING, everything, most)
    ]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_greedy_takes_the_most_probable_token_and_the_penalty_counts_the_prompt(model: PreTrainedModel) -> None:
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
def test_the_tokens_are_those_of_generate(
    model: PreTrainedModel, name: str, settings: dict[str, float], eos_token_id: int | None
) -> None:
    given = prompts(8)
    config = GenerationConfig(max_new_tokens=12, eos_token_id=eos_token_id, pad_token_id=5, **settings)
    model.generation_config = GenerationConfig()
    expected = model.generate(given, attention_mask=torch.ones_like(given), generation_config=config)[:, 5:]
    assert torch.equal(run(model, name, given, keys(8), eos_token_id=eos_token_id), expected)


def test_beam_finds_a_text_at_least_as_probable_as_greedy(model: PreTrainedModel) -> None:
    given = prompts(6)

    def log_probability(continuation: torch.Tensor) -> torch.Tensor:
        logits = model(torch.cat([given, continuation], dim=1)).logits[:, 4:-1].log_softmax(dim=-1)
        return logits.gather(2, continuation[..., None]).sum(dim=(1, 2))

    greedy, beam = run(model, "greedy", given, keys(6)), run(model, "beam", given, keys(6))
    assert (log_probability(beam) >= log_probability(greedy) - 1e-4).all()
    assert not torch.equal(greedy, beam)


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_rows_stop_at_the_end_of_text_and_only_where_there_is_one(model: PreTrainedModel, name: str) -> None:
    given = prompts(6)
    whole = run(model, name, given, keys(6))
    eos = int(whole[2, 4])
    stopped = run(model, name, given, keys(6), eos_token_id=eos)
    assert whole.shape == (6, 12)
    if "beam" in name:  # an early end is a text of its own, and competes with the longer ones
        assert all(set(row[row.index(eos) :]) == {eos} for row in stopped.tolist() if eos in row)
        return
    for row, long in zip(stopped.tolist(), whole.tolist(), strict=True):
        assert before_end_of_text(row, eos) == before_end_of_text(long, eos)
        assert eos not in row or set(row[row.index(eos) :]) == {eos}
    assert len(before_end_of_text(stopped[2].tolist(), eos)) <= 4


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_nothing_leaks_from_the_checkpoints_generation_config(
    model: PreTrainedModel, name: str, adapted: bool, transformers_log: pytest.LogCaptureFixture
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


def test_all_strategies_together_give_what_each_gives_alone(model: PreTrainedModel) -> None:
    given, options = prompts(3), {"max_new_tokens": 10, "eos_token_id": 7, "amateur": AMATEUR}
    rows = [
        Request(prompt, strategy, NoiseKey(0, f"document {prompt}", sample))
        for prompt in (2, 0, 1)
        for sample in (0, 1)
        for strategy in STRATEGIES.values()
    ]
    together = decode_batch(model, given, rows, **options)
    for strategy in STRATEGIES.values():
        for sample in (0, 1):
            alone = decode(model, strategy, given, keys(3, sample=sample), **options).tolist()
            for row, found in zip(rows, together, strict=True):
                if row.strategy is strategy and row.key.sample == sample:
                    assert before_end_of_text(found.tokens, 7) == before_end_of_text(alone[row.prompt], 7)
                    assert found.seconds > 0


@pytest.mark.parametrize("limit", ["_MAX_ROWS", "_MAX_CACHE_BYTES"])
def test_nothing_depends_on_how_many_rows_are_decoded_at_once(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    given = prompts(3)
    rows = [Request(p, s, NoiseKey(0, str(p), 0)) for s in STRATEGIES.values() for p in range(3)]
    options = {"max_new_tokens": 6, "eos_token_id": None, "amateur": AMATEUR}
    expected = [row.tokens for row in decode_batch(model, given, rows, **options)]
    monkeypatch.setattr(dispatch, limit, 2)
    assert [row.tokens for row in decode_batch(model, given, rows, **options)] == expected


def test_the_prompts_are_read_once_for_all_strategies(model: PreTrainedModel) -> None:
    lengths = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    token_wise = [s for s in STRATEGIES.values() if s.decoder == "tokens"]
    rows = [Request(p, s, NoiseKey(0, str(p), 0)) for p in range(3) for s in token_wise]
    decode_batch(model, prompts(3), rows, max_new_tokens=6, eos_token_id=None)
    assert lengths == [(3, 5)] + [(3 * len(token_wise), 1)] * 5


def test_rows_that_have_ended_are_dropped(model: PreTrainedModel) -> None:
    widths = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    whole = run(model, "greedy", prompts(6), keys(6))
    widths.clear()
    run(model, "greedy", prompts(6), keys(6), eos_token_id=int(whole[2, 4]))
    assert widths[0] == 6
    assert widths[-1] < 6
    assert widths == sorted(widths, reverse=True)


def test_before_end_of_text() -> None:
    assert before_end_of_text([5, 6, 0, 7, 0], 0) == (5, 6)
    assert before_end_of_text([0], 0) == ()
    assert before_end_of_text([5, 0], None) == (5, 0)
    assert before_end_of_text([], 0) == ()
