"""Whatever the documents: batches, processes and padding change nothing; and so for models of many kinds."""

import copy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoConfig, AutoModelForCausalLM

from textgen.data.document import Document
from textgen.evaluation.perplexity import score_windows
from textgen.evaluation.perplexity.summary import score
from textgen.model.token_scores import scoring_head

CONTEXT = 24
SMALL = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
HEADS = {"num_key_value_heads": 1, "intermediate_size": 48, "max_position_embeddings": CONTEXT}
ENDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
# Learned positions; rotary ones; those of the mask's own counting; a slope in place of positions; capped logits.
ARCHITECTURES = {
    "gpt2": {"vocab_size": 300, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT},
    "llama": SMALL | HEADS,
    "gpt_neox": SMALL | {"intermediate_size": 48, "max_position_embeddings": CONTEXT},
    "opt": SMALL | {"ffn_dim": 48, "max_position_embeddings": CONTEXT, "word_embed_proj_dim": 32},
    "bloom": {"vocab_size": 300, "hidden_size": 32, "n_layer": 2, "n_head": 2},
    "gemma2": SMALL | HEADS | {"head_dim": 16, "final_logit_softcapping": 5.0, "sliding_window": CONTEXT},
}
texts = st.lists(st.text("ab cdéñ\n☃", min_size=1, max_size=90), min_size=1, max_size=7)


def make(name):
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **ARCHITECTURES[name], **ENDS, initializer_range=0.2)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="module")
def models():
    return {name: make(name) for name in ARCHITECTURES}


class Waiting(Exception):
    pass


def score_on(processes, model, tokenizer, documents, **given):
    """The scores that processes end up with, one after the other in place of at once."""
    sent = []

    def gather(mine):
        sent.extend(mine)
        raise Waiting

    alone = {"device": torch.device("cpu"), "unwrap_model": lambda model: model, "is_main_process": True}
    before = score_windows.gather_object
    try:
        for rank in range(processes):
            process = SimpleNamespace(process_index=rank, num_processes=processes, **alone)
            score_windows.gather_object = gather
            with pytest.raises(Waiting):
                score(process, model, tokenizer, documents, **given)
        score_windows.gather_object = lambda mine: sent
        return score(process, model, tokenizer, documents, **given)
    finally:
        score_windows.gather_object = before


@settings(max_examples=25, derandomize=True)
@given(texts, st.integers(1, 200), st.integers(1, 4), st.sampled_from(["rolling", "strided"]), st.data())
def test_batches_processes_and_padding_change_nothing(models, tokenizer, texts, batch_tokens, processes, way, data):
    model = models[data.draw(st.sampled_from(["gpt2", "llama"]))]
    documents = [Document(str(number), "test", text) for number, text in enumerate(texts)]
    given = {"convention": way, "context": CONTEXT}
    alone = score_on(1, model, tokenizer, documents, batch_tokens=1, **given)
    together = score_on(processes, model, tokenizer, documents, batch_tokens=batch_tokens, **given)
    one = score_on(1, model, tokenizer, documents, batch_tokens=batch_tokens, **given)
    assert together.documents == one.documents  # to the last bit
    assert together.tallies == one.tallies
    assert together.scores == one.scores
    for a, b in zip(alone.documents, together.documents, strict=True):
        assert b.nll == pytest.approx(a.nll, rel=1e-6)
        assert (b.id, b.tokens, b.words, b.bytes) == (a.id, a.tokens, a.words, a.bytes)
    total = sum(document.nll for document in alone.documents)
    assert sum(document.nll for document in together.documents) == pytest.approx(total, rel=1e-6)


DOCUMENTS = [Document(str(n), "test", "the cat, the mat; " * n + "café" * (n % 3)) for n in (1, 2, 5, 9, 3)]


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("convention", ["rolling", "strided"])
def test_padding_changes_nothing_in_any_architecture(name, convention, models, accelerator, tokenizer):
    given = {"convention": convention, "context": CONTEXT}
    alone = score(accelerator, models[name], tokenizer, DOCUMENTS, batch_tokens=1, **given)
    batched = score(accelerator, models[name], tokenizer, DOCUMENTS, batch_tokens=400, **given)
    expected = [document.nll for document in alone.documents]
    assert [document.nll for document in batched.documents] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_any_architecture_agrees_with_the_harness(name, models, accelerator, tokenizer):
    scored = score(accelerator, models[name], tokenizer, DOCUMENTS, convention="rolling", context=CONTEXT)
    model = copy.deepcopy(models[name])
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2, device="cpu", max_length=CONTEXT)
    requests = [Instance("loglikelihood_rolling", {}, (doc.text,), n) for n, doc in enumerate(DOCUMENTS)]
    expected = [-value for value in harness.loglikelihood_rolling(requests, disable_tqdm=True)]
    assert [document.nll for document in scored.documents] == pytest.approx(expected, rel=1e-4)


def test_all_heads_but_the_capped_one_are_run_by_themselves(models):
    assert [name for name, model in models.items() if scoring_head(model) is None] == ["gemma2"]
