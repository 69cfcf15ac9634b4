"""Perplexity against an independent harness, brute force and arithmetic; and everything it must not depend on."""

import copy
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import log_softmax
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from textgen.data.document import Document
from textgen.errors import UserError
from textgen.evaluation.perplexity import score_windows
from textgen.evaluation.perplexity.summary import (
    DocumentScore,
    resolve_stride,
    score_documents,
    summarise,
)

VOCABULARY = 400
CONTEXT = 32
TEXTS = [
    "The cat sat on the mat, and the dog sat on the cat.",
    "x",
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, "
    "it was the epoch of belief, it was the epoch of incredulity, it was the season of Light — naïve, isn't it?",
    "  Leading space, and a trailing one ",
    "Call me Ishmael.\n\nSome years ago,\nnever mind how long precisely.",
] + [" ".join(f"word{number % 7}" for number in range(length)) for length in (3, 40, 90)]
DOCUMENTS = [Document(f"test#{number}", "test", text) for number, text in enumerate(TEXTS)]


def make_tokenizer(**special: str) -> PreTrainedTokenizerFast:
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>", "<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=trained, model_max_length=CONTEXT, **special)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Matrices this small are done before a second thread has woken up."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer(eos_token="<|endoftext|>")


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


@pytest.fixture(scope="module")
def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    sizes = {"n_positions": CONTEXT, "n_embd": 32, "n_layer": 2, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, initializer_range=0.3, **sizes))


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            max_position_embeddings=CONTEXT,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            initializer_range=0.3,
        )
    )


@pytest.fixture(scope="module")
def uniform() -> GPT2LMHeadModel:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=32, n_layer=1, n_head=2))
    torch.nn.init.zeros_(model.lm_head.weight)
    return model


def nlls(scores: list[DocumentScore]) -> list[float]:
    return [score.nll for score in scores]


def harness_nlls(model, tokenizer) -> list[float]:
    harness = HFLM(pretrained=copy.deepcopy(model), tokenizer=tokenizer, batch_size=3, device="cpu")
    assert harness.max_length == CONTEXT
    requests = [Instance("loglikelihood_rolling", {}, (text,), number) for number, text in enumerate(TEXTS)]
    return [-value for value in harness.loglikelihood_rolling(requests, disable_tqdm=True)]


def test_rolling_agrees_with_the_harness_on_gpt2_with_eos_as_prefix(accelerator, gpt2, tokenizer):
    scores = score_documents(accelerator, gpt2, tokenizer, DOCUMENTS, convention="rolling", context=CONTEXT)
    assert nlls(scores) == pytest.approx(harness_nlls(gpt2, tokenizer), rel=1e-5)
    assert max(score.tokens for score in scores) > 2 * CONTEXT


def test_rolling_agrees_with_the_harness_on_llama_with_bos_as_prefix(accelerator, llama):
    tokenizer = make_tokenizer(bos_token="<s>", eos_token="<|endoftext|>")
    scores = score_documents(accelerator, llama, tokenizer, DOCUMENTS, convention="rolling", context=CONTEXT)
    assert nlls(scores) == pytest.approx(harness_nlls(llama, tokenizer), rel=1e-5)


@pytest.mark.parametrize("stride", [1, 5, 8, 16])
def test_strided_agrees_with_scoring_one_token_at_a_time(accelerator, gpt2, tokenizer, stride):
    context, documents = 16, [DOCUMENTS[number] for number in (0, 1, 3, 4, 5)]
    text = "\n\n".join(document.text for document in documents)
    encoding = tokenizer(text, add_special_tokens=False, verbose=False, return_offsets_mapping=True)
    ids = encoding["input_ids"]
    starts = [0]  # of the documents in the text
    for document in documents[:-1]:
        starts.append(starts[-1] + len(document.text) + 2)
    expected, tokens = [0.0] * len(documents), [0] * len(documents)
    gpt2.eval()
    for target in range(1, len(ids)):
        begin = max(0, math.ceil((target + 1 - context) / stride)) * stride  # of the first window that reaches it
        if stride == context and begin:
            begin -= 1  # the window reads one token more, or its first target would have nothing before it
        with torch.no_grad():
            logits = gpt2(torch.tensor([ids[begin:target]])).logits[0, -1]
        document = sum(start <= encoding["offset_mapping"][target][0] for start in starts) - 1
        expected[document] -= log_softmax(logits, -1)[ids[target]].item()
        tokens[document] += 1
    scores = score_documents(
        accelerator, gpt2, tokenizer, documents, convention="strided", context=context, stride=stride
    )
    assert [score.tokens for score in scores] == tokens
    assert sum(tokens) == len(ids) - 1
    assert nlls(scores) == pytest.approx(expected, rel=1e-5)


def test_strided_total_agrees_with_the_guide_counted_exactly(accelerator, gpt2, tokenizer):
    ids = torch.tensor([tokenizer("\n\n".join(TEXTS), add_special_tokens=False, verbose=False)["input_ids"]])
    total, count, previous_end = 0.0, 0, 0
    gpt2.eval()
    for begin in range(0, ids.size(1), 8):
        end = min(begin + CONTEXT, ids.size(1))
        labels = ids[:, begin:end].clone()
        labels[:, : -(end - previous_end)] = -100
        targets = (labels[:, 1:] != -100).sum().item()
        with torch.no_grad():
            total += gpt2(ids[:, begin:end], labels=labels).loss.item() * targets
        count, previous_end = count + targets, end
        if end == ids.size(1):
            break
    scores = score_documents(accelerator, gpt2, tokenizer, DOCUMENTS, convention="strided", context=CONTEXT, stride=8)
    assert sum(score.tokens for score in scores) == count
    assert sum(nlls(scores)) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("convention", ["rolling", "strided"])
def test_uniform_model_has_the_vocabulary_as_its_perplexity(accelerator, uniform, tokenizer, convention):
    scores = score_documents(accelerator, uniform, tokenizer, DOCUMENTS, convention=convention, context=CONTEXT)
    summary = summarise(scores, convention=convention, stride=resolve_stride(convention, None, CONTEXT), seed=0)
    assert summary["token_perplexity"] == pytest.approx(VOCABULARY, rel=1e-6)
    assert summary["token_perplexity_interval"] == pytest.approx([VOCABULARY] * 2, rel=1e-6)


@pytest.mark.parametrize("convention", ["rolling", "strided"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_batch_size_and_padding_do_not_matter(accelerator, tokenizer, convention, name, request):
    model = request.getfixturevalue(name)

    def scores(batch_tokens: int) -> list[float]:
        return nlls(
            score_documents(
                accelerator,
                model,
                tokenizer,
                DOCUMENTS,
                convention=convention,
                context=CONTEXT,
                batch_tokens=batch_tokens,
            )
        )

    alone = scores(1)
    for batch_tokens in (100, 4096):
        assert scores(batch_tokens) == pytest.approx(alone, rel=1e-6)


def test_order_and_company_of_documents_do_not_matter_to_rolling(accelerator, gpt2, tokenizer):
    def scores(documents: list[Document]) -> dict[str, float]:
        scored = score_documents(accelerator, gpt2, tokenizer, documents, convention="rolling", context=CONTEXT)
        return {score.id: score.nll for score in scored}

    everything = scores(DOCUMENTS)
    assert scores(DOCUMENTS[::-1]) == pytest.approx(everything, rel=1e-6)
    assert scores(DOCUMENTS[2:3]) == pytest.approx({"test#2": everything["test#2"]}, rel=1e-6)


def test_context_and_stride_do_matter(accelerator, gpt2, tokenizer):
    totals = [
        sum(nlls(score_documents(accelerator, gpt2, tokenizer, DOCUMENTS, convention="strided", **settings)))
        for settings in ({"context": 32}, {"context": 32, "stride": 32}, {"context": 8})
    ]
    assert len({round(total, 1) for total in totals}) == 3
    assert totals[0] == sum(
        nlls(score_documents(accelerator, gpt2, tokenizer, DOCUMENTS, convention="strided", context=32, stride=16))
    )


def test_words_and_bytes_are_of_the_original_text(accelerator, gpt2, tokenizer):
    scores = score_documents(accelerator, gpt2, tokenizer, DOCUMENTS, convention="rolling", context=CONTEXT)
    assert [score.id for score in scores] == [document.id for document in DOCUMENTS]
    assert [score.bytes for score in scores] == [len(text.encode()) for text in TEXTS]
    assert [score.words for score in scores] == [document.words for document in DOCUMENTS]


def test_dropout_is_off_while_scoring_and_modes_are_restored_one_by_one(accelerator, gpt2, tokenizer):
    model = copy.deepcopy(gpt2).train()
    model.transformer.h[0].eval()
    modes = [module.training for module in model.modules()]
    first, second = (
        nlls(score_documents(accelerator, model, tokenizer, DOCUMENTS, convention="rolling", context=CONTEXT))
        for _ in range(2)
    )
    assert first == second
    assert modes == [module.training for module in model.modules()]
    assert set(modes) == {True, False}, "there is a mixture to restore"


def test_modes_are_restored_after_an_error(accelerator, gpt2, tokenizer, monkeypatch):
    model = copy.deepcopy(gpt2).train()
    monkeypatch.setattr(score_windows, "_score_batch", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        score_documents(accelerator, model, tokenizer, DOCUMENTS, convention="rolling", context=CONTEXT)
    assert all(module.training for module in model.modules())


def test_scoring_draws_no_random_numbers_and_leaves_no_gradient(accelerator, gpt2, tokenizer):
    state = torch.get_rng_state()
    score_documents(accelerator, gpt2, tokenizer, DOCUMENTS, convention="rolling", context=CONTEXT)
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in gpt2.parameters())


@pytest.mark.parametrize("kind", ["adapter", "head of its own kind", "keeps no logits", "bfloat16"])
def test_adapters_and_other_models_score_alike(accelerator, gpt2, tokenizer, kind):
    model = copy.deepcopy(gpt2)
    expected = nlls(score_documents(accelerator, model, tokenizer, DOCUMENTS, convention="strided", context=CONTEXT))
    tolerance = 1e-6
    if kind == "adapter":  # whose B starts as zeros
        model = get_peft_model(model, LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True))
    elif kind == "bfloat16":
        model, tolerance = model.bfloat16(), 0.03
    else:  # the head can be run with all of the model only
        model.get_output_embeddings = lambda: None
        if kind == "keeps no logits":
            model._supports_logits_to_keep = lambda: False
    scores = score_documents(accelerator, model, tokenizer, DOCUMENTS, convention="strided", context=CONTEXT)
    assert nlls(scores) == pytest.approx(expected, rel=tolerance)


def test_a_head_that_cannot_be_run_by_itself_runs_from_the_first_scored_position_on(accelerator, gpt2, tokenizer):
    positions = []
    model = copy.deepcopy(gpt2)
    model.get_output_embeddings = lambda: None
    model.lm_head.register_forward_hook(lambda _module, inputs, _output: positions.append(inputs[0].shape[1]))
    settings = {"convention": "strided", "context": CONTEXT, "stride": 4, "batch_tokens": CONTEXT}
    score_documents(accelerator, model, tokenizer, DOCUMENTS[:3], **settings)
    assert set(positions[1:]) <= {1, 2, 3, 4}
    assert len(positions) > 2
    assert positions[0] == CONTEXT - 1  # the first window, which scores all that it can


def test_a_batch_of_logits_that_must_be_held_is_bounded(accelerator, gpt2, tokenizer, monkeypatch):
    rows = []
    model = copy.deepcopy(gpt2)
    model.get_output_embeddings = lambda: None
    model.register_forward_pre_hook(lambda _m, _a, given: rows.append(given["input_ids"].shape[0]), with_kwargs=True)
    settings = {"convention": "rolling", "context": CONTEXT}
    whole = score_documents(accelerator, model, tokenizer, DOCUMENTS, **settings)
    assert max(rows) > 2
    rows.clear()
    monkeypatch.setattr(score_windows, "_LOGITS_AT_ONCE", 2 * CONTEXT * VOCABULARY)
    parts = score_documents(accelerator, model, tokenizer, DOCUMENTS, **settings)
    assert max(row for row in rows) * CONTEXT > 2 * CONTEXT  # short ones still share a batch
    assert rows[0] == 2
    assert nlls(parts) == pytest.approx(nlls(whole), rel=1e-6)


def test_a_document_may_hold_no_beginning_of_a_token(accelerator, gpt2):
    tokenizer = make_tokenizer(eos_token="<|endoftext|>")
    tokenizer.add_tokens(["\n\n \n\n"])  # swallows the separators and the document between them
    tokenizer_vocabulary = len(tokenizer)
    model = copy.deepcopy(gpt2)
    model.resize_token_embeddings(tokenizer_vocabulary, mean_resizing=False)
    documents = [Document(text, "test", text) for text in ("one", " ", "two")]
    scores = score_documents(accelerator, model, tokenizer, documents, convention="strided", context=CONTEXT)
    assert (scores[1].tokens, scores[1].nll) == (0, 0.0)
    assert json.dumps(summarise(scores, convention="strided", stride=16, seed=0), allow_nan=False)


def test_long_texts_are_not_warned_about(accelerator, gpt2, capfd):
    tokenizer = make_tokenizer(eos_token="<|endoftext|>")
    for convention in ("rolling", "strided"):
        score_documents(accelerator, gpt2, tokenizer, DOCUMENTS, convention=convention, context=CONTEXT)
    captured = capfd.readouterr()
    assert "longer than" not in captured.err + captured.out


@pytest.mark.parametrize(
    ("convention", "stride", "message"),
    [
        ("rolling", 8, "--stride 8"),
        ("strided", 0, "--stride 0"),
        ("strided", 33, "1 to 32"),
        ("evaluate", None, "rolling or strided"),
    ],
)
def test_settings_that_cannot_be_are_the_users_to_mend(accelerator, gpt2, tokenizer, convention, stride, message):
    with pytest.raises(UserError, match=message):
        score_documents(accelerator, gpt2, tokenizer, DOCUMENTS, convention=convention, context=CONTEXT, stride=stride)


def test_resolve_stride():
    assert resolve_stride("rolling", None, 1024) is None
    assert resolve_stride("strided", None, 1024) == 512
    assert resolve_stride("strided", None, 1) == 1
    assert resolve_stride("strided", 7, 1024) == 7


def test_rolling_needs_a_prefix_token(accelerator, gpt2):
    with pytest.raises(UserError, match="neither a BOS nor an EOS"):
        score_documents(accelerator, gpt2, make_tokenizer(), DOCUMENTS, convention="rolling", context=CONTEXT)


def test_strided_needs_a_tokenizer_that_knows_its_offsets(accelerator, gpt2):
    slow = SimpleNamespace(is_fast=False)
    with pytest.raises(UserError, match="not a fast one"):
        score_documents(accelerator, gpt2, slow, DOCUMENTS, convention="strided", context=CONTEXT)


def test_a_model_gone_to_nan_is_not_given_a_perplexity(accelerator, gpt2, tokenizer):
    model = copy.deepcopy(gpt2)
    torch.nn.init.constant_(model.transformer.ln_f.weight, math.nan)
    with pytest.raises(UserError, match="test#0"):
        score_documents(accelerator, model, tokenizer, DOCUMENTS, convention="rolling", context=CONTEXT)


@pytest.mark.parametrize("tampered", [lambda rows: rows[1:], lambda rows: [*rows, rows[0]]])
def test_windows_that_are_lost_or_doubled_on_the_way_are_noticed(accelerator, gpt2, tokenizer, monkeypatch, tampered):
    monkeypatch.setattr(score_windows, "gather_object", tampered)
    with pytest.raises(AssertionError, match="lost or came back twice"):
        score_documents(accelerator, gpt2, tokenizer, DOCUMENTS, convention="rolling", context=CONTEXT)


def test_two_processes_get_the_same_scores_as_one(accelerator, gpt2, tokenizer, tmp_path):
    gpt2.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS))
    script = Path(__file__).with_name("score_in_process.py")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    run = subprocess.run([*launch, script, tmp_path], env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    for convention in ("rolling", "strided"):
        settings = {"convention": convention, "context": CONTEXT, "batch_tokens": 3 * CONTEXT}
        one = score_documents(accelerator, gpt2, tokenizer, DOCUMENTS, **settings)
        ranks = [json.loads((tmp_path / f"{convention}-{rank}-of-2.json").read_text()) for rank in (0, 1)]
        assert ranks[0] == ranks[1]
        assert ranks[0]["tokens"] == [score.tokens for score in one]
        assert ranks[0]["nll"] == pytest.approx(nlls(one), rel=1e-6)


def test_the_very_first_token_is_not_scored_by_strided_and_is_by_rolling(accelerator, gpt2, tokenizer):
    single = [Document("one", "test", "x")]
    for convention, tokens in (("strided", 0), ("rolling", 1)):
        (score,) = score_documents(accelerator, gpt2, tokenizer, single, convention=convention, context=CONTEXT)
        assert score.tokens == tokens
        assert (score.nll > 0) == (tokens > 0)


@pytest.mark.parametrize("convention", ["rolling", "strided"])
def test_no_documents_are_no_scores(accelerator, gpt2, tokenizer, convention):
    assert score_documents(accelerator, gpt2, tokenizer, [], convention=convention, context=CONTEXT) == []
