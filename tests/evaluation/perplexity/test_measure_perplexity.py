"""Perplexity compared with an independent harness, brute force and arithmetic, and what it must not depend on."""

import copy
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from perplexity_examples import CONTEXT, DOCUMENTS, TEXTS
from simulated_processes import Group
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import log_softmax
from transformers import PreTrainedTokenizerFast

from textgen.data.document import Document
from textgen.errors import UserError
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.perplexity import measure_perplexity as measure_perplexity_module
from textgen.evaluation.perplexity import windows as windows_module
from textgen.evaluation.perplexity.document_sums import HARDEST
from textgen.evaluation.perplexity.measure_perplexity import documents_fingerprint, measure_perplexity
from textgen.evaluation.perplexity.score_cache import ScoreCache
from textgen.evaluation.perplexity.summary import perplexity_summary
from textgen.evaluation.perplexity.windows import WindowSettings


def harness_nlls(model, tokenizer) -> list[float]:
    harness = HFLM(pretrained=copy.deepcopy(model), tokenizer=tokenizer, batch_size=3, device="cpu")
    assert harness.max_length == CONTEXT
    requests = [Instance("loglikelihood_rolling", {}, (text,), number) for number, text in enumerate(TEXTS)]
    return [-value for value in harness.loglikelihood_rolling(requests, disable_tqdm=True)]


def test_rolling_agrees_with_lm_eval_on_gpt2_with_eos_as_prefix(gpt2, score, tokenizer):
    scores = score(gpt2)
    assert [one.nll for one in scores] == pytest.approx(harness_nlls(gpt2, tokenizer), rel=1e-5)
    assert max(one.tokens for one in scores) > 2 * CONTEXT


def test_rolling_agrees_with_lm_eval_on_llama_with_bos_as_prefix(tiny_llama, nlls, tokenizer_with):
    tokenizer = tokenizer_with(bos_token="<s>", eos_token="<|endoftext|>")
    llama = tiny_llama(vocab_size=len(tokenizer), max_position_embeddings=CONTEXT, initializer_range=0.3)
    assert tokenizer.bos_token_id != tokenizer.eos_token_id
    found = nlls(llama, tokenizer=tokenizer)
    assert found == pytest.approx(harness_nlls(llama, tokenizer), rel=1e-5)
    with_eos = nlls(llama, tokenizer=tokenizer_with(eos_token="<|endoftext|>"))
    assert found != pytest.approx(with_eos, rel=1e-5), "the prefix token matters"


@pytest.mark.parametrize("stride", [1, 5, 8, 16])
def test_strided_agrees_with_scoring_one_token_at_a_time(gpt2, score, tokenizer, stride):
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
            begin -= 1  # the window reads one more token, or nothing would precede its first target
        with torch.no_grad():
            logits = gpt2(torch.tensor([ids[begin:target]])).logits[0, -1]
        document = sum(start <= encoding["offset_mapping"][target][0] for start in starts) - 1
        expected[document] -= log_softmax(logits, -1)[ids[target]].item()
        tokens[document] += 1
    scores = score(gpt2, "strided", context=context, stride=stride, documents=documents)
    assert [one.tokens for one in scores] == tokens
    assert sum(tokens) == len(ids) - 1
    assert [one.nll for one in scores] == pytest.approx(expected, rel=1e-5)


def test_strided_total_agrees_with_the_transformers_guide_with_exact_counts(gpt2, score, tokenizer):
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
    scores = score(gpt2, "strided", stride=8)
    assert sum(one.tokens for one in scores) == count
    assert sum(one.nll for one in scores) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("convention", ["rolling", "strided"])
def test_a_uniform_model_has_a_perplexity_equal_to_its_vocabulary_size(tiny_gpt2, score, convention):
    uniform = tiny_gpt2(n_positions=CONTEXT)
    torch.nn.init.zeros_(uniform.lm_head.weight)
    summary = perplexity_summary(score(uniform, convention), WindowSettings.resolve(convention, CONTEXT), seed=0)
    assert summary["token_perplexity"] == pytest.approx(uniform.config.vocab_size, rel=1e-6)
    assert summary["token_perplexity_interval"] == pytest.approx([uniform.config.vocab_size] * 2, rel=1e-6)


def test_rolling_does_not_depend_on_order_or_other_documents(gpt2, score):
    def by_id(documents: list[Document]) -> dict[str, float]:
        return {one.id: one.nll for one in score(gpt2, documents=documents)}

    everything = by_id(DOCUMENTS)
    assert by_id(DOCUMENTS[::-1]) == pytest.approx(everything, rel=1e-6)
    assert by_id(DOCUMENTS[2:3]) == pytest.approx({"test#2": everything["test#2"]}, rel=1e-6)


def test_context_and_stride_matter(gpt2, nlls):
    settings = ({"context": 32}, {"context": 32, "stride": 32}, {"context": 8})
    totals = [sum(nlls(gpt2, "strided", **given)) for given in settings]
    assert len({round(total, 1) for total in totals}) == 3
    assert totals[0] == sum(nlls(gpt2, "strided", context=32, stride=16))


def test_words_and_bytes_are_those_of_the_original_text(gpt2, score):
    scores = score(gpt2)
    assert [one.id for one in scores] == [document.id for document in DOCUMENTS]
    assert [one.bytes for one in scores] == [len(text.encode()) for text in TEXTS]
    assert [one.words for one in scores] == [document.words for document in DOCUMENTS]


def test_the_very_first_token_is_scored_by_rolling_only(gpt2, score):
    single = [Document("one", "test", "x")]
    for convention, tokens in (("strided", 0), ("rolling", 1)):
        (one,) = score(gpt2, convention, documents=single)
        assert one.tokens == tokens
        assert (one.nll > 0) == (tokens > 0)


@pytest.mark.parametrize("convention", ["rolling", "strided"])
def test_no_documents_give_no_scores(gpt2, score, convention):
    assert score(gpt2, convention, documents=[]) == []


def test_a_document_in_which_no_token_begins_has_no_tokens(gpt2, score, tokenizer_with):
    tokenizer = tokenizer_with(eos_token="<|endoftext|>")
    tokenizer.add_tokens(["\n\n \n\n"])  # covers both separators and the document between them
    model = copy.deepcopy(gpt2)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    documents = [Document(text, "test", text) for text in ("one", " ", "two")]
    scores = score(model, "strided", documents=documents, tokenizer=tokenizer)
    assert (scores[1].tokens, scores[1].nll) == (0, 0.0)
    assert json.dumps(perplexity_summary(scores, WindowSettings.resolve("strided", CONTEXT), seed=0), allow_nan=False)


def test_long_texts_cause_no_warning(gpt2, score, tokenizer_with, capfd):
    for convention in ("rolling", "strided"):  # a tokenizer warns once, so each gets a new one
        score(gpt2, convention, tokenizer=tokenizer_with(eos_token="<|endoftext|>", model_max_length=CONTEXT))
    captured = capfd.readouterr()
    assert "longer than" not in captured.err + captured.out


def test_a_model_with_nan_weights_is_an_error_that_names_a_document(gpt2, score):
    model = copy.deepcopy(gpt2)
    torch.nn.init.constant_(model.transformer.ln_f.weight, math.nan)
    with pytest.raises(UserError, match="test#0"):
        score(model)


def test_the_fingerprint_depends_on_ids_and_texts():
    documents = [Document("a", "test", "one"), Document("b", "test", "two")]
    before = documents_fingerprint(documents)
    assert documents_fingerprint([Document("a", "elsewhere", "one"), documents[1]]) == before
    for changed in (Document("c", "test", "one"), Document("a", "test", "One")):
        assert documents_fingerprint([changed, documents[1]]) != before


@pytest.mark.parametrize("convention", ["rolling", "strided"])
def test_token_metrics_agree_with_scoring_one_document_at_a_time(convention, accelerator, tiny_gpt2, tokenizer):
    model = tiny_gpt2(2, initializer_range=0.5).eval()
    texts = ["The cat sat on the mat, and the dog sat on the cat. " * 4, "Call me Ishmael.", "x"]
    documents = [Document(str(n), "test", text) for n, text in enumerate(texts)]
    loaded = LoadedModel(accelerator, model, tokenizer, 32, "tiny")
    figures, scores = measure_perplexity(loaded, documents, WindowSettings.resolve(convention, 32), seed=0)
    assert figures["model"] == "tiny"
    assert sum(entry["tokens"] for entry in figures["loss_by_position"]) == figures["tokens"]
    assert sum(entry["tokens"] for entry in figures["calibration"]) == figures["tokens"]
    by_position = sum(entry["tokens"] * entry["nll"] for entry in figures["loss_by_position"])
    assert by_position == pytest.approx(figures["nll_sum"], rel=1e-9)
    right = sum(entry["tokens"] * entry["accuracy"] for entry in figures["calibration"])
    assert right == pytest.approx(figures["top_1_accuracy"] * figures["tokens"])
    assert max(entry["to"] for entry in figures["loss_by_position"]) == 32
    everything = []
    if convention == "rolling":  # the short documents, in one window each
        for score, text in list(zip(scores, texts, strict=True))[1:]:
            ids = torch.tensor([[0, *tokenizer(text, add_special_tokens=False)["input_ids"]]])
            with torch.no_grad():
                logits = model(ids).logits[0, :-1].log_softmax(-1)
            everything += [-float(logits[i, token]) for i, token in enumerate(ids[0, 1:])]
            assert score.top_1 == int((logits.argmax(-1) == ids[0, 1:]).sum())
            assert score.top_5 == int((logits.topk(5).indices == ids[0, 1:, None]).any(-1).sum())
        assert figures["hardest_tokens"][0]["nll"] >= max(everything) - 1e-5
    hardest = [token["nll"] for token in figures["hardest_tokens"]]
    assert hardest == sorted(hardest, reverse=True)
    assert len(hardest) == HARDEST
    assert json.dumps(figures, allow_nan=False)


LONG = [Document(f"long#{n}", "test", f"{n}. " + "the cat, the mat; " * (30 + n)) for n in range(64)]


@dataclass
class Measured:
    """What processes ended up with, and what they needed for it."""

    results: list[Any]
    received: Counter[int]  # bytes, by process
    tokenized: list[list[str]]  # texts, by process


@pytest.fixture
def measure_on(gpt2, tokenizer, tmp_path, monkeypatch) -> Callable[..., Measured]:
    """``measure_on(3, cache="cache")``: a measurement by three processes."""
    whole = windows_module.encode_documents

    def counting(tokenizer, documents):
        if hasattr(tokenizer, "texts"):
            tokenizer.texts += [document.text for document in documents]
        return whole(tokenizer, documents)

    monkeypatch.setattr(windows_module, "encode_documents", counting)

    def run(processes: int, convention: str = "rolling", cache: str | None = None) -> Measured:
        tokenizers = [copy.copy(tokenizer) for _ in range(processes)]
        for one in tokenizers:
            one.texts = []

        def measure(process):
            loaded = LoadedModel(process, gpt2, tokenizers[process.process_index], CONTEXT, "tiny")
            kept = ScoreCache(tmp_path / cache, process.process_index) if cache else None
            return measure_perplexity(loaded, LONG, WindowSettings.resolve(convention, CONTEXT), seed=0, cache=kept)

        group = Group(processes)
        results = group.run(measure)
        return Measured(results, group.received, [one.texts for one in tokenizers])

    return run


@pytest.mark.parametrize("convention", ["rolling", "strided"])
def test_any_number_of_processes_measures_the_same_figures(measure_on, convention):
    [one] = measure_on(1, convention).results
    for processes in (2, 4):
        assert measure_on(processes, convention).results == [one] * processes, "bitwise"


@pytest.mark.parametrize("convention", ["rolling", "strided"])
def test_an_evaluation_resumes_on_another_number_of_processes(measure_on, convention, tmp_path):
    [one] = measure_on(1, convention).results
    measure_on(3, convention, "cache")
    (tmp_path / "cache/process-1.jsonl").unlink()
    for processes in (2, 1, 4):
        assert measure_on(processes, convention, "cache").results == [one] * processes, "bitwise"


def test_a_process_tokenizes_its_share_of_the_documents(measure_on):
    assert [len(texts) for texts in measure_on(1).tokenized] == [len(LONG)]
    main, *others = measure_on(4).tokenized
    assert [len(texts) for texts in others] == [len(LONG) // 4] * 3
    assert len(LONG) // 4 <= len(main) <= len(LONG) // 4 + HARDEST, "and the documents of the hardest tokens"
    assert {text for texts in (main, *others) for text in texts} == {document.text for document in LONG}


def test_processes_exchange_sums_of_documents_and_not_scores_of_windows(measure_on, tokenizer):
    """The score of a window takes about 1,800 bytes; its tokens 66 here, and only one process gets them."""
    number = len(WindowSettings.resolve("rolling", CONTEXT).cut(tokenizer, LONG))
    assert number > 500
    for cache in (None, "cache"):
        assert max(measure_on(3, cache=cache).received.values()) < 100 * number
    resumed = measure_on(3, cache="cache").received
    assert max(resumed.values()) < 40 * number, "a hash of each window goes to the main process"


def lose_one(scores):
    return dict(list(scores.items())[1:])


@pytest.mark.parametrize(
    ("name", "tampered"),
    [
        ("score_windows", lambda whole: lambda *args, **options: lose_one(whole(*args, **options))),
        ("gather", lambda whole: lambda processes, mine: [mine, mine]),
    ],
)
def test_lost_or_duplicate_windows_are_detected(gpt2, score, monkeypatch, name, tampered):
    module = measure_perplexity_module
    monkeypatch.setattr(module, name, tampered(getattr(module, name)))
    with pytest.raises(AssertionError, match="lost or scored twice"):
        score(gpt2)


def test_unknown_tokens_are_counted(gpt2, measure_on, accelerator):
    words = Tokenizer(models.WordLevel({"<|endoftext|>": 0, "[UNK]": 1, "the": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|endoftext|>", unk_token="[UNK]")
    documents = [Document("a#0", "a", "the cat saw the dog"), Document("a#1", "a", "the the")]
    loaded = LoadedModel(accelerator, gpt2, tokenizer, CONTEXT, "tiny")
    for convention in ("rolling", "strided"):
        settings = WindowSettings.resolve(convention, CONTEXT)
        metrics, _ = measure_perplexity(loaded, documents, settings, seed=0)
        assert metrics["unknown_tokens"] == 3
    assert measure_on(2).results[0][0]["unknown_tokens"] == 0
