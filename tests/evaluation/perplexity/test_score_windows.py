"""Scoring windows in batches: padding, processes, model modes, heads that cannot run separately."""

import copy
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from perplexity_examples import CONTEXT, DOCUMENTS, TEXTS

from textgen.data.document import Document
from textgen.evaluation.perplexity import score_windows
from textgen.evaluation.perplexity.score_windows import window_batches
from textgen.evaluation.perplexity.token_windows import Window


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 100))
def test_batches_contain_every_window_once_within_the_limit(sizes, batch_tokens):
    windows = [Window(0, size, size + 1) for size in sizes]
    batches = window_batches(windows, batch_tokens)
    assert sorted(index for batch in batches for index in batch) == list(range(len(sizes)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(sizes[index] for index in batch) <= batch_tokens
    assert [sizes[batch[0]] for batch in batches] == sorted((sizes[batch[0]] for batch in batches), reverse=True)


def test_batches_are_filled_up():
    windows = [Window(0, 1, 9)] * 12
    assert [len(batch) for batch in window_batches(windows, 32)] == [4, 4, 4]


@pytest.mark.parametrize("convention", ["rolling", "strided"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_batch_size_and_padding_do_not_matter(nlls, convention, name, request):
    model = request.getfixturevalue(name)
    alone = nlls(model, convention, batch_tokens=1)
    for batch_tokens in (100, 4096):
        assert nlls(model, convention, batch_tokens=batch_tokens) == pytest.approx(alone, rel=1e-6)


def test_dropout_is_off_and_the_mode_of_every_module_is_restored(gpt2, nlls):
    model = copy.deepcopy(gpt2).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    model.transformer.h[0].eval()
    modes = [module.training for module in model.modules()]
    assert nlls(model) == nlls(model) == nlls(gpt2)
    assert modes == [module.training for module in model.modules()]
    assert set(modes) == {True, False}, "there is a mixture to restore"


def test_modes_are_restored_after_an_error(gpt2, score, monkeypatch):
    model = copy.deepcopy(gpt2).train()
    monkeypatch.setattr(score_windows, "_score_batch", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        score(model)
    assert all(module.training for module in model.modules())


def test_scoring_draws_no_random_numbers_and_leaves_no_gradient(gpt2, score):
    state = torch.get_rng_state()
    score(gpt2)
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in gpt2.parameters())


@pytest.mark.parametrize("kind", ["adapter", "head not separate", "no logits_to_keep", "bfloat16"])
def test_other_kinds_of_models_score_the_same(gpt2, nlls, kind):
    model = copy.deepcopy(gpt2)
    expected = nlls(model, "strided")
    tolerance = 1e-6
    if kind == "adapter":  # its B matrix is initialized to zeros
        model = get_peft_model(model, LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True))
    elif kind == "bfloat16":
        model, tolerance = model.bfloat16(), 0.03
    else:  # the head can only be run as part of the whole model
        model.get_output_embeddings = lambda: None
        if kind == "no logits_to_keep":
            model._supports_logits_to_keep = lambda: False
    assert nlls(model, "strided") == pytest.approx(expected, rel=tolerance)


def test_a_head_that_cannot_run_separately_runs_from_the_first_scored_position_on(gpt2, score):
    positions = []
    model = copy.deepcopy(gpt2)
    model.get_output_embeddings = lambda: None
    model.lm_head.register_forward_hook(lambda _module, inputs, _output: positions.append(inputs[0].shape[1]))
    score(model, "strided", stride=4, batch_tokens=CONTEXT, documents=DOCUMENTS[:3])
    assert set(positions[1:]) <= {1, 2, 3, 4}
    assert len(positions) > 2
    assert positions[0] == CONTEXT - 1  # the first window scores all of its tokens but one


def test_the_number_of_logits_in_memory_is_bounded(gpt2, nlls, monkeypatch):
    rows = []
    model = copy.deepcopy(gpt2)
    model.get_output_embeddings = lambda: None
    model.register_forward_pre_hook(lambda _m, _a, given: rows.append(given["input_ids"].shape[0]), with_kwargs=True)
    documents = [*DOCUMENTS, *(Document(f"short#{number}", "test", "x") for number in range(3))]
    whole = nlls(model, documents=documents)
    assert max(rows) > 2
    rows.clear()
    monkeypatch.setattr(score_windows, "_MAX_LOGITS", 2 * CONTEXT * model.config.vocab_size)
    parts = nlls(model, documents=documents)
    assert max(rows) * CONTEXT > 2 * CONTEXT  # short windows still share a batch
    assert rows[0] == 2
    assert parts == pytest.approx(whole, rel=1e-6)


def test_two_processes_get_the_same_scores_as_one(gpt2, score, tokenizer, python, tmp_path):
    gpt2.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS))
    script = Path(__file__).with_name("score_in_process.py")
    python.run([script, tmp_path], processes=2, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=120, check=True)
    for convention in ("rolling", "strided"):
        one = score(gpt2, convention, batch_tokens=3 * CONTEXT)
        ranks = [json.loads((tmp_path / f"{convention}-{rank}-of-2.json").read_text()) for rank in (0, 1)]
        assert ranks[0] == ranks[1]
        assert ranks[0]["tokens"] == [score.tokens for score in one]
        assert ranks[0]["nll"] == pytest.approx([score.nll for score in one], rel=1e-6)
