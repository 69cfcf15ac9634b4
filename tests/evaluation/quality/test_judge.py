"""The judge: what it scores, in which units, and what happens to texts that are longer than it can see."""

import pytest
import torch

from textgen.evaluation.quality.judge import Judge, judge_nlls, pieces_of, sequence_of

PROMPT, TEXT = "The cat sat on", " the mat, and “the dog” sat — ever since — on the cat."


@pytest.fixture
def judge(tiny_gpt2, tokenizer):
    return Judge("judge", tiny_gpt2(3).eval(), tokenizer, context=64)


def nll_alone(judge: Judge, before: list[int], after: list[int]) -> float:
    """Token by token, with as much before it as the model sees."""
    total = 0.0
    for place, token in enumerate(after):
        with torch.no_grad():
            logits = judge.model(torch.tensor([[*before, *after[:place]][-judge.context :]])).logits[0, -1]
        total -= float(logits.double().log_softmax(-1)[token])
    return total


def test_the_nll_is_that_of_the_continuation_s_own_tokens_after_prefix_and_prompt(accelerator, judge):
    before, after = sequence_of(judge.tokenizer, PROMPT, TEXT)
    assert before == [0, *judge.tokenizer(PROMPT)["input_ids"]]
    assert judge.tokenizer.decode(after) == TEXT
    found = judge_nlls(accelerator, judge, [PROMPT, "", PROMPT], [TEXT, TEXT, ""])
    assert found[0] == pytest.approx(nll_alone(judge, before, after), rel=1e-5)
    assert found[1] == pytest.approx(nll_alone(judge, [0], after), rel=1e-5)
    assert found[2] == 0


def test_a_judge_that_is_uniform_needs_log_v_nats_a_token(accelerator, judge):
    with torch.no_grad():
        judge.model.transformer.ln_f.weight.zero_()
        judge.model.transformer.ln_f.bias.zero_()
    tokens = len(judge.tokenizer(TEXT)["input_ids"])
    (nll,) = judge_nlls(accelerator, judge, [PROMPT], [TEXT])
    assert nll == pytest.approx(tokens * torch.log(torch.tensor(300.0)).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("before", "after", "context"), [(5, 9, 64), (60, 30, 64), (3, 200, 16), (1, 16, 16), (9, 1, 4)]
)
def test_every_token_is_asked_about_once_with_as_much_before_it_as_fits(before, after, context):
    tokens = list(range(before + after))
    pieces = pieces_of(tokens[:before], tokens[before:], context)
    assert [token for piece in pieces for token in piece.continuation] == tokens[before:]
    for piece in pieces:
        whole = [*piece.prompt, *piece.continuation]
        assert whole == list(range(whole[0], whole[-1] + 1))
        assert 1 <= len(whole) - 1 <= context
        seen = piece.continuation[0] - piece.prompt[0]
        assert seen >= min(piece.continuation[0], context // 2)
    if before + after - 1 <= context:
        assert len(pieces) == 1


def test_without_a_prefix_and_prompt_the_first_token_is_given():
    assert [(piece.prompt, piece.continuation) for piece in pieces_of([], [4, 5, 6], 8)] == [([4], [5, 6])]
    assert pieces_of([], [4], 8) == []


def test_texts_longer_than_the_context_are_scored_whole(accelerator, judge):
    (nll,) = judge_nlls(accelerator, judge, [PROMPT * 4], [TEXT * 6])
    before, after = sequence_of(judge.tokenizer, PROMPT * 4, TEXT * 6)
    assert len(after) > 2 * judge.context
    assert nll == pytest.approx(nll_alone(judge, before, after), rel=0.02)
