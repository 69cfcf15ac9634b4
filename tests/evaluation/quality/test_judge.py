"""The judge: what it scores, in which units, and how it scores texts that are longer than its context."""

import pytest
import torch

from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.quality.judge import cut_spans, judge_nlls, split_ids

PROMPT, TEXT = "The cat sat on", " the mat, and “the dog” sat — ever since — on the cat."


@pytest.fixture
def judge(accelerator, tiny_gpt2, tokenizer):
    return LoadedModel(accelerator, tiny_gpt2(3).eval(), tokenizer, context=64)


def nll_alone(judge: LoadedModel, before: list[int], after: list[int]) -> float:
    """By brute force: token by token, each after as many of the tokens before it as fit into the context."""
    total = 0.0
    for place, token in enumerate(after):
        with torch.no_grad():
            logits = judge.model(torch.tensor([[*before, *after[:place]][-judge.context :]])).logits[0, -1]
        total -= float(logits.double().log_softmax(-1)[token])
    return total


def test_the_nll_is_that_of_the_continuation_s_tokens_after_prefix_and_prompt(judge):
    before, after = split_ids(judge.tokenizer, PROMPT, TEXT)
    assert before == [0, *judge.tokenizer(PROMPT)["input_ids"]]
    assert judge.tokenizer.decode(after) == TEXT
    found = judge_nlls(judge, [PROMPT, "", PROMPT], [TEXT, TEXT, ""])
    assert found[0] == pytest.approx(nll_alone(judge, before, after), rel=1e-5)
    assert found[1] == pytest.approx(nll_alone(judge, [0], after), rel=1e-5)
    assert found[2] == 0


def test_a_uniform_judge_needs_log_v_nats_per_token(judge):
    with torch.no_grad():
        judge.model.transformer.ln_f.weight.zero_()
        judge.model.transformer.ln_f.bias.zero_()
    tokens = len(judge.tokenizer(TEXT)["input_ids"])
    (nll,) = judge_nlls(judge, [PROMPT], [TEXT])
    assert nll == pytest.approx(tokens * torch.log(torch.tensor(300.0)).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("before", "after", "context"), [(5, 9, 64), (60, 30, 64), (3, 200, 16), (1, 16, 16), (9, 1, 4)]
)
def test_every_token_is_scored_once_after_at_least_half_a_context(before, after, context):
    tokens = list(range(before + after))
    spans = cut_spans(tokens[:before], tokens[before:], context)
    assert [token for span in spans for token in span.target_ids] == tokens[before:]
    for span in spans:
        whole = [*span.context_ids, *span.target_ids]
        assert whole == list(range(whole[0], whole[-1] + 1))
        assert 1 <= len(whole) - 1 <= context
        seen = span.target_ids[0] - span.context_ids[0]
        assert seen >= min(span.target_ids[0], context // 2)
    if before + after - 1 <= context:
        assert len(spans) == 1


def test_without_a_prefix_and_prompt_the_first_token_is_not_scored():
    assert [(span.context_ids, span.target_ids) for span in cut_spans([], [4, 5, 6], 8)] == [([4], [5, 6])]
    assert cut_spans([], [4], 8) == []


def test_texts_longer_than_the_context_are_scored_whole(judge):
    (nll,) = judge_nlls(judge, [PROMPT * 4], [TEXT * 6])
    before, after = split_ids(judge.tokenizer, PROMPT * 4, TEXT * 6)
    assert len(after) > 2 * judge.context
    assert nll == pytest.approx(nll_alone(judge, before, after), rel=0.02)


def test_two_processes_judge_as_one_does(one_and_two_processes):
    one, (two, other) = one_and_two_processes
    assert two["judge"] == other["judge"] == pytest.approx(one["judge"], rel=1e-5)
    assert len(two["judge"]) == 5
