"""A killed evaluation goes on where it stopped, to the same bits, and never from what no longer holds."""

import copy
import json

import pytest
import torch

from textgen.data.document import Document
from textgen.evaluation.perplexity import score_cache as module
from textgen.evaluation.perplexity import score_windows
from textgen.evaluation.perplexity.score_cache import Records, evaluation_key, passage_keys
from textgen.evaluation.perplexity.summary import score
from textgen.evaluation.perplexity.windows import rolling_passages

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
    """``evaluate(model, documents, …)``: what it returns, and the rows that the model had to read for it."""
    whole = score_windows._score_batch

    def run(model, documents=DOCUMENTS, *, convention="rolling", killed_after=None, where="records", **settings):
        rows: list[int] = []

        def counted(model, head, batch, device):
            if killed_after is not None and len(rows) >= killed_after:
                raise Killed
            rows.append(len(batch))
            return whole(model, head, batch, device)

        monkeypatch.setattr(score_windows, "_score_batch", counted)
        settings = {"context": CONTEXT, "batch_tokens": 2 * CONTEXT, "convention": convention} | settings
        kept = Records(tmp_path / where, 0) if where else None
        found = score(accelerator, model, tokenizer, documents, **settings, records=kept)
        return found, sum(rows)

    return run


def lines(directory):
    return (directory / "process-0.jsonl").read_bytes().split(b"\n")


@pytest.mark.parametrize("convention", ["rolling", "strided"])
def test_a_killed_evaluation_goes_on_to_the_same_bits(evaluate, model, convention, tmp_path):
    whole, rows = evaluate(model, convention=convention, where="whole")
    alone, _ = evaluate(model, convention=convention, where=None)
    assert alone.documents == whole.documents
    for killed_after in (1, 2):
        with pytest.raises(Killed):
            evaluate(model, convention=convention, killed_after=killed_after)
    resumed, rest = evaluate(model, convention=convention)
    assert resumed.documents == whole.documents
    assert resumed.tallies == whole.tallies
    assert resumed.scores == whole.scores
    assert 0 < rest < rows
    again, nothing = evaluate(model, convention=convention)
    assert (again.scores, nothing) == (whole.scores, 0)


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_line_that_was_cut_off_is_passed_over_and_spoils_no_other(evaluate, model, cut, tmp_path):
    whole, rows = evaluate(model)
    path = tmp_path / "records" / "process-0.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    resumed, rest = evaluate(model)
    assert resumed.scores == whole.scores
    # The batch in which a record was lost; a line break alone is no loss.
    assert rest == 0 if cut == 1 else 0 < rest <= rows // 2
    again, nothing = evaluate(model)
    assert (again.scores, nothing) == (whole.scores, 0)


def test_a_damaged_record_is_not_believed(evaluate, model, tmp_path):
    whole, _ = evaluate(model)
    path = tmp_path / "records" / "process-0.jsonl"
    row = json.loads(lines(tmp_path / "records")[0])
    row["tallies"][0]["nll"] += 1
    others = lines(tmp_path / "records")[1:]
    path.write_bytes(b"\n".join([json.dumps(row).encode(), b"\xff\xfe", b"[]", b"3", *others]))
    resumed, rest = evaluate(model)
    assert resumed.scores == whole.scores
    assert rest > 0


def test_a_changed_document_is_scored_again_and_no_other(evaluate, model, tokenizer):
    _, rows = evaluate(model, batch_tokens=1)  # every window by itself, so that rows are windows
    changed = [*DOCUMENTS]
    changed[3] = Document("test#3", "test", "! " + DOCUMENTS[3].text)
    resumed, rest = evaluate(model, changed, batch_tokens=1)
    assert rest == len(rolling_passages(tokenizer, changed[3:4], CONTEXT))
    assert 1 < rest < rows
    fresh, _ = evaluate(model, changed, batch_tokens=1, where=None)
    assert resumed.documents == fresh.documents


def test_strided_keeps_what_comes_before_the_change(evaluate, model):
    _, rows = evaluate(model, convention="strided", batch_tokens=1)
    changed = [*DOCUMENTS]
    changed[3] = Document("test#3", "test", "Another text. " + DOCUMENTS[3].text)
    resumed, rest = evaluate(model, changed, convention="strided", batch_tokens=1)
    assert 0 < rest < rows
    fresh, _ = evaluate(model, changed, convention="strided", batch_tokens=1, where=None)
    assert resumed.documents == fresh.documents


def change_weight(model):
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight[0, 0] += 1e-3


def change_buffer(model):
    model.transformer.h[1].register_buffer("scale", torch.ones(1))


def change_heads(model):  # the same weights, which mean something else
    model.config.n_head = 4


def change_activation(model):
    model.transformer.h[0].mlp.act = torch.nn.ReLU()


@pytest.mark.parametrize("change", [change_weight, change_buffer, change_heads, change_activation])
def test_nothing_of_another_model_is_used(evaluate, model, change):
    _, rows = evaluate(model)
    other = copy.deepcopy(model)
    change(other)
    resumed, again = evaluate(other)
    assert again == rows
    fresh, _ = evaluate(other, where=None)
    assert resumed.documents == fresh.documents
    assert evaluate(model)[1] == 0  # those of the first are still there


@pytest.mark.parametrize("settings", [{"convention": "strided"}, {"context": 16}])
def test_nothing_of_other_settings_is_used(evaluate, model, settings):
    evaluate(model)
    kept, rows = evaluate(model, **settings)
    fresh, needed = evaluate(model, **settings, where=None)
    assert rows == needed
    assert kept.documents == fresh.documents


def test_an_adapter_and_its_scale_are_part_of_the_model(model):
    from peft import LoraConfig, get_peft_model

    def key(scale):
        torch.manual_seed(0)
        settings = LoraConfig(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True, lora_alpha=scale)
        return evaluation_key(get_peft_model(copy.deepcopy(model), settings), {})

    assert key(8) == key(8) != key(16)
    assert evaluation_key(model, {}) not in (key(8), key(16))


def test_versions_of_the_software_are_part_of_the_key(model, monkeypatch):
    before = evaluation_key(model, {"stride": 1})
    assert evaluation_key(copy.deepcopy(model), {"stride": 1}) == before
    assert evaluation_key(model, {"stride": 2}) != before
    monkeypatch.setattr(module, "version", lambda package: "another")
    assert evaluation_key(model, {"stride": 1}) != before


def test_equal_windows_have_keys_of_their_own(tokenizer):
    passages = rolling_passages(tokenizer, DOCUMENTS, CONTEXT)
    keys = passage_keys("evaluation", passages)
    assert len(set(keys)) == len(passages)
    assert len({key.split("-")[0] for key in keys}) < len(passages)  # two documents are the same
    assert passage_keys("another", passages)[0] != keys[0]


def test_records_of_any_number_of_processes_are_found(evaluate, model, tmp_path):
    whole, _ = evaluate(model)
    written = lines(tmp_path / "records")
    (tmp_path / "records/process-0.jsonl").write_bytes(b"\n".join(written[:3]))
    (tmp_path / "records/process-5.jsonl").write_bytes(b"\n".join(written[3:]))
    resumed, rest = evaluate(model)
    assert (resumed.scores, rest) == (whole.scores, 0)


def test_what_is_not_finite_is_not_recorded(tmp_path, model, evaluate):
    from textgen.errors import UserError

    torch.nn.init.constant_(model.transformer.ln_f.weight, float("nan"))
    with pytest.raises(UserError, match="not finite"):
        evaluate(model)
    assert not (tmp_path / "records/process-0.jsonl").exists()
