"""The corpora of a mixture's parts: split together, cached apart, and used like one corpus."""

import json
from pathlib import Path
from typing import Any

import pytest
from cached import TEXTS, entries

from textgen.data import build_entries as entries_module
from textgen.data.blocks import GlobalBatches
from textgen.data.config import DataConfig
from textgen.data.corpus import Corpus, load_corpus, load_held_out, preview_corpus
from textgen.data.mixed_corpus import MixedCorpus, describe_parts, load_training_data, part_facts
from textgen.data.readers import training_documents
from textgen.errors import UserError

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def mixture(tmp_path: Path) -> Any:
    """Writes two parts, and returns settings: ``mixture(3, 1, validation_fraction=0.2)``."""

    def write(one: float, other: float, *, texts: Any = (TEXTS[:50], TEXTS[50:]), **settings: Any) -> DataConfig:
        for name, part in zip("ab", texts, strict=True):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "texts.txt").write_text("\n\n".join(part), encoding="utf-8")
        data = f"{tmp_path / 'a'}:{one},{tmp_path / 'b/texts.txt'}:{other}"
        return DataConfig(data=data, **({"block_size": 16} | settings))

    return write


def load(config: DataConfig, tokenizer: Any) -> MixedCorpus:
    corpus = load_training_data(config, tokenizer)
    assert isinstance(corpus, MixedCorpus)
    return corpus


def test_the_parts_are_split_like_all_of_their_text_in_one_file(mixture, config, tokenizer):
    mixed, one = load(mixture(3, 1), tokenizer), load_corpus(config(), tokenizer)
    assert mixed.documents == one.documents
    assert mixed.token_count == one.token_count + 1  # each part begins with an end-of-text token
    assert [d.text for d in mixed.validation] == [d.text for d in one.validation]
    assert list(mixed.validation) == list(load_held_out(mixture(1, 1)))
    assert len({d.id for d in mixed.validation}) == len(mixed.validation)
    assert len(list(training_documents(mixture(3, 1)))) == one.documents
    assert mixed.longer_than(8) == one.longer_than(8) > 0
    assert mixed.length_counts(20).tolist() == one.length_counts(20).tolist()
    assert "hold one document out" in preview_corpus(mixture(3, 1), tokenizer)


def test_the_documents_of_a_mixtures_steps_have_the_ids_of_their_texts(mixture, tokenizer):
    mixed = load(mixture(1, 1), tokenizer)
    by_id = {document.id: document.text for document in training_documents(mixture(1, 1))}
    batches = GlobalBatches(mixed.stream, block_size=10_000, global_batch_size=1, microbatch_size=1, seed=0,
                            packing="none")  # fmt: skip
    for step in range(1, 30):
        [id] = mixed.document_ids(batches.documents(step))
        [span] = batches.spans[batches.indices(step)]
        assert tokenizer.decode(mixed.stream.block(span, span[1] - span[0])[0][1:-1]) == by_id[id]
    seen = [mixed.document_ids(batches.documents(step))[0] for step in range(1, batches.steps_per_epoch + 1)]
    assert {id.rpartition("#")[0] for id in seen} == {corpus.names[0] for corpus in mixed.corpora}
    assert len({corpus.names[0] for corpus in mixed.corpora}) == 2


def test_equal_texts_of_two_parts_stay_together_however_small_a_part_is(mixture, tokenizer):
    # Alone, the small part would hold one of its two documents out.
    small = [text for text in TEXTS if text not in [d.text for d in load_held_out(mixture(1, 1))]][:2]
    mixed = load(mixture(1, 1, texts=(TEXTS, small)), tokenizer)
    assert [corpus.documents for corpus in mixed.corpora][1] == 2
    held_out = {document.text for document in mixed.validation}
    assert held_out
    assert not held_out & {d.text for d in training_documents(mixture(1, 1, texts=(TEXTS, small)))}


def test_other_weights_do_not_tokenize_again(mixture, tokenizer, monkeypatch):
    first = load(mixture(3, 1), tokenizer)
    assert len(entries()) == 2
    monkeypatch.setattr(entries_module, "_build", None)  # building again would fail
    second = load(mixture(1, 8), tokenizer)
    assert first.fingerprint == second.fingerprint, "weights are settings"
    assert first.stream.counts == (750, 250)
    assert second.stream.counts == (111, 889)


def test_with_validation_data_all_of_every_part_is_trained_on(mixture, tokenizer, tmp_path):
    (tmp_path / "held-out.txt").write_text("one\n\ntwo", encoding="utf-8")
    mixed = load(mixture(1, 1, validation_data=str(tmp_path / "held-out.txt")), tokenizer)
    assert [corpus.documents for corpus in mixed.corpora] == [50, 30]
    assert [document.text for document in mixed.validation] == ["one", "two"]


@pytest.mark.parametrize("packing", ["joined", "isolated", "none"])
def test_batches_train_on_all_targets_of_every_part(mixture, tokenizer, packing):
    mixed = load(mixture(1, 1), tokenizer)
    counts = mixed.block_counts
    batches = GlobalBatches(
        mixed.stream, block_size=16, global_batch_size=4, microbatch_size=2, seed=0, packing=packing,
        block_counts=counts,
    )  # fmt: skip
    every = sum(batches.stream.targets(span) for span in batches.spans)
    assert every == mixed.facts()["train_targets"] == sum(c.facts()["train_targets"] for c in mixed.corpora)


def test_the_record_of_each_part(mixture, tokenizer, config):
    mixed = load(mixture(3, 1), tokenizer)
    facts = part_facts(mixed, [0.5, 1.25])
    first, second = facts["parts"]
    assert (first["weight"], second["weight"]) == (0.75, 0.25)
    assert first["documents"] + second["documents"] == mixed.facts()["train_documents"] == mixed.documents
    assert first["tokens"] + second["tokens"] == mixed.token_count
    lines = list(describe_parts(facts))
    assert lines[0].startswith("   75.0% ")
    assert lines[1].endswith(f"b/texts.txt: {second['documents']} documents, {second['tokens']:,} tokens, 1.25 epochs")
    alone = load_training_data(config(), tokenizer)
    assert isinstance(alone, Corpus)
    assert part_facts(alone, [1.0]) == {}
    assert alone.facts().keys() == mixed.facts().keys()


def test_examples_of_a_task_can_be_mixed_with_texts(tmp_path, tokenizer):
    rows = [{"prompt": f"Question {i}? ", "completion": f"answer {i}"} for i in range(40)]
    (tmp_path / "task.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "texts.txt").write_text("\n\n".join(TEXTS), encoding="utf-8")
    mixed = load(DataConfig(data=f"{tmp_path}/texts.txt:1,{tmp_path}/task.jsonl:1"), tokenizer)
    assert mixed.counts.examples == mixed.corpora[1].documents > 0
    assert mixed.counts.context > 0
    assert mixed.facts()["train_examples"] == mixed.counts.examples


@pytest.mark.parametrize(
    ("texts", "settings", "message"),
    [
        ((TEXTS[:6], TEXTS[6:12]), {"block_size": 9999}, "--block-size 9999: .* fewer than one block"),
        ((["a"] * 9, ["a"]), {}, "2 problems:\n- --data .*/a: this part of the mixture has no training text"),
    ],
)
def test_too_little_text_is_refused(mixture, tokenizer, texts, settings, message):
    with pytest.raises(UserError, match=message):
        load_training_data(mixture(1, 1, texts=texts, **settings), tokenizer)
