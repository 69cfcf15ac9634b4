"""A killed evaluation resumes from the cache with bitwise identical results, and never uses outdated records."""

import copy
import json

import pytest
import torch

from textgen.data.document import Document
from textgen.errors import UserError
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.perplexity import score_cache, score_windows
from textgen.evaluation.perplexity.measure_perplexity import score_pass
from textgen.evaluation.perplexity.score_cache import ScoreCache, evaluation_key, look_up
from textgen.evaluation.perplexity.windows import ALONE, WindowSettings, rolling_token_windows

CONTEXT = 32
TEXTS = [" ".join(f"word{(number + length) % 7}" for number in range(length)) for length in (40, 3, 90, 20, 21, 22)]
DOCUMENTS = [Document(f"test#{number}", "test", text) for number, text in enumerate([*TEXTS, TEXTS[1]])]


class Killed(Exception):
    pass


@pytest.fixture
def model(tiny_gpt2):
    return tiny_gpt2(1, initializer_range=0.3)


@pytest.fixture
def evaluate(accelerator, tokenizer, tmp_path, monkeypatch):
    """``evaluate(model, documents, …)``: the result, and the number of rows that the model had to read for it."""
    whole = score_windows._score_batch

    def run(
        model,
        documents=DOCUMENTS,
        *,
        convention="rolling",
        context=CONTEXT,
        batch_tokens=2 * CONTEXT,
        killed_after=None,
        where="cache",
    ):
        rows: list[int] = []

        def counted(model, head, batch, device):
            if killed_after is not None and len(rows) >= killed_after:
                raise Killed
            rows.append(len(batch))
            return whole(model, head, batch, device)

        monkeypatch.setattr(score_windows, "_score_batch", counted)
        loaded = LoadedModel(accelerator, model, tokenizer, context)
        settings = WindowSettings.resolve(convention, context)
        cache = ScoreCache(tmp_path / where, 0) if where else None
        found = score_pass(loaded, documents, settings, batch_tokens=batch_tokens, cache=cache)
        return found, sum(rows)

    return run


def lines(directory):
    return (directory / "process-0.jsonl").read_bytes().split(b"\n")


@pytest.mark.parametrize("convention", ["rolling", "strided"])
def test_a_killed_evaluation_resumes_with_identical_results(evaluate, model, convention):
    whole, rows = evaluate(model, convention=convention, where="whole")
    alone, _ = evaluate(model, convention=convention, where=None)
    assert alone.document_scores == whole.document_scores
    for killed_after in (1, 2):
        with pytest.raises(Killed):
            evaluate(model, convention=convention, killed_after=killed_after)
    resumed, rest = evaluate(model, convention=convention)
    assert resumed.document_scores == whole.document_scores
    assert resumed.sums == whole.sums
    assert resumed.hardest == whole.hardest
    assert 0 < rest < rows
    again, nothing = evaluate(model, convention=convention)
    assert (again.sums, again.hardest, nothing) == (whole.sums, whole.hardest, 0)


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_line_that_was_cut_off_is_skipped_and_corrupts_no_other(evaluate, model, cut, tmp_path):
    whole, rows = evaluate(model)
    path = tmp_path / "cache" / "process-0.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    resumed, rest = evaluate(model)
    assert resumed.hardest == whole.hardest
    # Only the batch with the lost record is recomputed; losing just the line break loses nothing.
    assert rest == 0 if cut == 1 else 0 < rest <= rows // 2
    again, nothing = evaluate(model)
    assert (again.sums, again.hardest, nothing) == (whole.sums, whole.hardest, 0)


def test_a_damaged_record_is_ignored(evaluate, model, tmp_path):
    whole, _ = evaluate(model)
    path = tmp_path / "cache" / "process-0.jsonl"
    row = json.loads(lines(tmp_path / "cache")[0])
    row["tallies"][0]["nll"] += 1
    others = lines(tmp_path / "cache")[1:]
    path.write_bytes(b"\n".join([json.dumps(row).encode(), b"\xff\xfe", b"[]", b"3", *others]))
    resumed, rest = evaluate(model)
    assert resumed.hardest == whole.hardest
    assert rest == 2, "the batch of the damaged record is scored as a whole"


def test_only_a_changed_document_is_scored_again(evaluate, model, tokenizer):
    _, rows = evaluate(model, batch_tokens=1)  # one window per batch, so that rows are windows
    changed = [*DOCUMENTS]
    changed[3] = Document("test#3", "test", "! " + DOCUMENTS[3].text)
    resumed, rest = evaluate(model, changed, batch_tokens=1)
    assert rest == len(rolling_token_windows(tokenizer, changed[3:4], CONTEXT))
    assert 1 < rest < rows
    fresh, _ = evaluate(model, changed, batch_tokens=1, where=None)
    assert resumed.document_scores == fresh.document_scores


def test_strided_reuses_scores_before_a_changed_document(evaluate, model):
    _, rows = evaluate(model, convention="strided", batch_tokens=1)
    changed = [*DOCUMENTS]
    changed[3] = Document("test#3", "test", "Another text. " + DOCUMENTS[3].text)
    resumed, rest = evaluate(model, changed, convention="strided", batch_tokens=1)
    assert 0 < rest < rows
    fresh, _ = evaluate(model, changed, convention="strided", batch_tokens=1, where=None)
    assert resumed.document_scores == fresh.document_scores


def change_weight(model):
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight[0, 0] += 1e-3


def change_buffer(model):
    model.transformer.h[1].register_buffer("scale", torch.ones(1))


def change_heads(model):  # the same weights, interpreted differently
    model.config.n_head = 4


def change_activation(model):
    model.transformer.h[0].mlp.act = torch.nn.ReLU()


@pytest.mark.parametrize("change", [change_weight, change_buffer, change_heads, change_activation])
def test_records_of_another_model_are_not_used(evaluate, model, change):
    _, rows = evaluate(model)
    other = copy.deepcopy(model)
    change(other)
    resumed, again = evaluate(other)
    assert again == rows
    fresh, _ = evaluate(other, where=None)
    assert resumed.document_scores == fresh.document_scores
    assert evaluate(model)[1] == 0  # the first model's records are still there


@pytest.mark.parametrize("settings", [{"convention": "strided"}, {"context": 16}])
def test_records_of_other_settings_are_not_used(evaluate, model, settings):
    evaluate(model)
    cached, rows = evaluate(model, **settings)
    fresh, needed = evaluate(model, **settings, where=None)
    assert rows == needed
    assert cached.document_scores == fresh.document_scores


def test_the_key_depends_on_an_adapter_and_its_scale(model):
    from peft import LoraConfig, get_peft_model

    def key(scale):
        torch.manual_seed(0)
        settings = LoraConfig(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True, lora_alpha=scale)
        return evaluation_key(get_peft_model(copy.deepcopy(model), settings), {})

    assert key(8) == key(8) != key(16)
    assert evaluation_key(model, {}) not in (key(8), key(16))


def test_the_key_depends_on_settings_and_software_versions(model, monkeypatch):
    before = evaluation_key(model, {"stride": 1})
    assert evaluation_key(copy.deepcopy(model), {"stride": 1}) == before
    assert evaluation_key(model, {"stride": 2}) != before
    monkeypatch.setattr(score_cache, "version", lambda package: "another")
    assert evaluation_key(model, {"stride": 1}) != before


def test_identical_windows_have_different_keys(tokenizer, tmp_path):
    windows = rolling_token_windows(tokenizer, DOCUMENTS, CONTEXT)
    found, other = (look_up(ALONE, ScoreCache(tmp_path, 0), name, windows) for name in ("evaluation", "another"))
    keys = [found.key(index, windows[index]) for index in range(len(windows))]
    assert len(set(keys)) == len(windows)
    assert len({key.split("-")[0] for key in keys}) < len(windows)  # two documents are identical
    assert other.key(0, windows[0]) != keys[0]
    assert not found.known.any()


def test_records_of_any_number_of_processes_are_found(evaluate, model, tmp_path):
    whole, _ = evaluate(model)
    written = lines(tmp_path / "cache")
    (tmp_path / "cache/process-0.jsonl").write_bytes(b"\n".join(written[:3]))
    (tmp_path / "cache/process-5.jsonl").write_bytes(b"\n".join(written[3:]))
    resumed, rest = evaluate(model)
    assert (resumed.sums, resumed.hardest, rest) == (whole.sums, whole.hardest, 0)


def test_scores_that_are_not_finite_are_not_cached(tmp_path, model, evaluate):
    torch.nn.init.constant_(model.transformer.ln_f.weight, float("nan"))
    with pytest.raises(UserError, match="not finite"):
        evaluate(model)
    assert not (tmp_path / "cache/process-0.jsonl").exists()


@pytest.mark.parametrize("line", [b"", b"[]", b"3", b'"x"', b"null", b"\xff", b"[" * 100_000, b'{"check": "0"}'])
def test_a_line_that_is_no_record_is_skipped(tmp_path, line):
    (tmp_path / "process-0.jsonl").write_bytes(line + b"\n")
    assert ScoreCache(tmp_path, 0).read() == {}
