"""For any documents and many architectures: batches, processes and padding do not change scores."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from simulated_processes import Group
from transformers import AutoConfig, AutoModelForCausalLM

from textgen.data.document import Document
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.perplexity.measure_perplexity import score_pass
from textgen.evaluation.perplexity.windows import WindowSettings
from textgen.model.token_scores import scoring_head

CONTEXT = 24
SMALL = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
HEADS = {"num_key_value_heads": 1, "intermediate_size": 48, "max_position_embeddings": CONTEXT}
ENDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
# Learned positions, rotary positions, positions counted from the mask, ALiBi, capped logits.
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


def score_on(processes, model, tokenizer, documents, settings, batch_tokens):
    """The results of each of several processes."""

    def score(process):
        loaded = LoadedModel(process, model, tokenizer, CONTEXT)
        return score_pass(loaded, documents, settings, batch_tokens=batch_tokens)

    return Group(processes).run(score)


@settings(max_examples=25, derandomize=True)
@given(texts, st.integers(1, 200), st.integers(1, 4), st.sampled_from(["rolling", "strided"]), st.data())
def test_batches_processes_and_padding_do_not_matter(
    models, tokenizer, texts, batch_tokens, processes, convention, data
):
    model = models[data.draw(st.sampled_from(["gpt2", "llama"]))]
    documents = [Document(str(number), "test", text) for number, text in enumerate(texts)]
    settings = WindowSettings.resolve(convention, CONTEXT)
    [alone] = score_on(1, model, tokenizer, documents, settings, batch_tokens=1)
    together, *others = score_on(processes, model, tokenizer, documents, settings, batch_tokens)
    [one] = score_on(1, model, tokenizer, documents, settings, batch_tokens)
    assert together.document_scores == one.document_scores  # bitwise
    assert together.sums == one.sums
    assert together.hardest == one.hardest
    assert all(other.document_scores == one.document_scores for other in others)
    for a, b in zip(alone.document_scores, together.document_scores, strict=True):
        assert b.nll == pytest.approx(a.nll, rel=1e-6)
        assert (b.id, b.tokens, b.words, b.bytes) == (a.id, a.tokens, a.words, a.bytes)
    total = sum(document.nll for document in alone.document_scores)
    assert sum(document.nll for document in together.document_scores) == pytest.approx(total, rel=1e-6)


DOCUMENTS = [Document(str(n), "test", "the cat, the mat; " * n + "café" * (n % 3)) for n in (1, 2, 5, 9, 3)]


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("convention", ["rolling", "strided"])
def test_padding_does_not_matter_in_any_architecture(name, convention, models, nlls):
    alone, batched = (
        nlls(models[name], convention, context=CONTEXT, documents=DOCUMENTS, batch_tokens=batch_tokens)
        for batch_tokens in (1, 400)
    )
    assert batched == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_any_architecture_agrees_with_lm_eval(name, models, nlls, tokenizer):
    model = copy.deepcopy(models[name])
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2, device="cpu", max_length=CONTEXT)
    requests = [Instance("loglikelihood_rolling", {}, (doc.text,), n) for n, doc in enumerate(DOCUMENTS)]
    expected = [-value for value in harness.loglikelihood_rolling(requests, disable_tqdm=True)]
    assert nlls(models[name], context=CONTEXT, documents=DOCUMENTS) == pytest.approx(expected, rel=1e-4)


def test_only_the_head_with_capped_logits_cannot_run_separately(models):
    assert [name for name, model in models.items() if scoring_head(model) is None] == ["gemma2"]
