"""The tokenized corpus, and its cache that all processes share."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cached import TEXTS, entries
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from textgen.data import build_entries as entries_module
from textgen.data import corpus as corpus_module
from textgen.data.blocks import GlobalBatches, count_blocks
from textgen.data.cache import cache_directory
from textgen.data.corpus import Corpus, load_corpus, load_held_out, preview_corpus
from textgen.data.document import Document
from textgen.data.readers import training_documents
from textgen.data.split import is_held_out, split_hash
from textgen.errors import UserError

pytestmark = pytest.mark.usefixtures("own_cache")


def train_texts(corpus: Corpus, tokenizer: Any) -> list[str]:
    """The training documents, decoded from the token ids."""
    ends = [*(corpus.offsets[1:] - 1), len(corpus.tokens) - 1]
    return [tokenizer.decode(corpus.tokens[a:b]) for a, b in zip(corpus.offsets, ends, strict=True)]


def held_out_texts(corpus: Corpus) -> list[str]:
    return [document.text for document in corpus.validation]


def test_tokens_are_the_documents_with_end_of_text_before_between_and_after_them(config, tokenizer):
    corpus = load_corpus(config(), tokenizer)
    train = [text for text in TEXTS if text not in held_out_texts(corpus)]
    expected = [0]
    for text in train:
        expected += [*tokenizer.encode(text), 0]
    assert corpus.tokens.tolist() == expected
    assert (corpus.tokens[corpus.offsets - 1] == 0).all()
    assert train_texts(corpus, tokenizer) == train


@pytest.mark.parametrize("marks", [{}, {"bos_token": "<mark>"}])
def test_documents_are_counted_by_length_with_the_special_tokens_around_them(config, tokenizer_with, marks):
    marked = tokenizer_with(eos_token="<|endoftext|>", **marks)
    corpus = load_corpus(config(), marked)
    held_out = held_out_texts(corpus)
    lengths = [len(marked.encode(t, add_special_tokens=False)) + 2 for t in TEXTS if t not in held_out]
    limit = sorted(lengths)[len(lengths) // 2]
    longer = sum(length > limit for length in lengths)
    assert corpus.length_counts(limit).tolist() == [*(lengths.count(n) for n in range(limit + 1)), longer]
    assert corpus.longer_than(limit) == longer > 0
    blocks = GlobalBatches(
        corpus.stream, block_size=limit, global_batch_size=1, microbatch_size=1, seed=0, packing="none"
    ).blocks  # fmt: skip
    assert blocks >= len(lengths) + longer, "those that are longer are cut"


def test_documents_are_between_begin_and_end_of_text_and_have_blocks_of_their_own(config, tokenizer_with):
    marked = tokenizer_with(eos_token="<|endoftext|>", bos_token="<mark>")
    corpus = load_corpus(config(), marked)
    assert not corpus.stream.shared_mark
    batches = GlobalBatches(
        corpus.stream, block_size=10_000, global_batch_size=1, microbatch_size=1, seed=0, packing="none"
    )  # fmt: skip
    assert batches.blocks == len(corpus.offsets)
    for start, end in batches.spans:
        before, *document, after = corpus.tokens[start:end].tolist()
        assert (before, after) == (marked.bos_token_id, 0)
        assert marked.bos_token_id not in document
        assert 0 not in document


@pytest.mark.parametrize("packing", ["joined", "none"])
@pytest.mark.parametrize("marks", [{}, {"bos_token": "<mark>"}])
def test_the_documents_of_a_step_are_those_whose_tokens_it_predicts(config, tokenizer_with, packing, marks):
    corpus = load_corpus(config(), tokenizer_with(eos_token="<|endoftext|>", **marks))
    by_id = {document.id: document.text for document in training_documents(config())}
    assert corpus.document_ids([(0, number) for number in range(corpus.documents)]) == list(by_id)
    batches = GlobalBatches(
        corpus.stream, block_size=9, global_batch_size=3, microbatch_size=1, seed=1, packing=packing
    )  # fmt: skip
    owner = np.searchsorted(corpus.offsets, np.arange(len(corpus.tokens)), side="right") - 1
    for step in range(1, batches.steps_per_epoch + 1):
        expected: list[str] = []
        for start, end in batches.spans[batches.indices(step)]:
            expected += [list(by_id)[number] for number in owner[start + 1 : end]]
        found = corpus.document_ids(batches.documents(step))
        assert found == list(dict.fromkeys(expected))


def test_each_document_is_on_one_side_and_about_the_fraction_is_held_out(config, tokenizer):
    corpus = load_corpus(config(validation_fraction=0.25), tokenizer)
    train, held_out = train_texts(corpus, tokenizer), held_out_texts(corpus)
    assert not set(train) & set(held_out)
    assert sorted(train + held_out) == sorted(TEXTS)
    assert (len(held_out), len(TEXTS)) == (20, 80)
    assert list(corpus.validation) == list(load_held_out(config(validation_fraction=0.25)))
    assert train == [document.text for document in training_documents(config(validation_fraction=0.25))]


def test_copies_of_a_document_do_not_leak_across_the_split(config, tokenizer):
    copies = [text.replace(" ", "\n") for text in TEXTS]
    corpus = load_corpus(config(TEXTS + copies + TEXTS), tokenizer)
    normalized = [
        {" ".join(text.split()) for text in side} for side in (train_texts(corpus, tokenizer), held_out_texts(corpus))
    ]
    assert not normalized[0] & normalized[1]
    assert len(corpus.offsets) + len(corpus.validation) == 3 * len(TEXTS)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(30)), more=st.integers(0, 20))
def test_adding_and_reordering_documents_moves_none_across_the_split(config, tokenizer, order, more):
    before = load_corpus(config(TEXTS[:30], validation_fraction=0.3), tokenizer)
    after = load_corpus(config([TEXTS[i] for i in order] + TEXTS[30 : 30 + more], validation_fraction=0.3), tokenizer)
    assert set(held_out_texts(after)) & set(TEXTS[:30]) == set(held_out_texts(before))


def test_with_validation_data_all_of_the_data_is_trained_on(config, tokenizer, tmp_path):
    (tmp_path / "held-out.txt").write_text("one\n\ntwo", encoding="utf-8")
    corpus = load_corpus(config(validation_data=str(tmp_path / "held-out.txt")), tokenizer)
    assert list(corpus.validation) == [
        Document(f"held-out.txt#{i}", "held-out.txt", t) for i, t in enumerate(("one", "two"))
    ]
    assert train_texts(corpus, tokenizer) == TEXTS


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize(("largest", "dtype"), [((1 << 16) - 1, np.uint16), (1 << 16, np.uint32)])
def test_ids_are_stored_in_two_bytes_if_the_largest_fits(config, largest, dtype, gaps):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<|endoftext|>": 0, "last": largest} | {f"w{i}": i for i in range(1, 60 if gaps else largest)}
    words_tokenizer = Tokenizer(models.WordLevel(words, unk_token="<|endoftext|>"))
    words_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words_tokenizer, eos_token="<|endoftext|>")
    corpus = load_corpus(config([f"last w{i} last" for i in range(1, 60)]), tokenizer)
    assert corpus.tokens.dtype == dtype
    assert corpus.tokens[1] == largest


def test_a_second_call_uses_the_cache(config, tokenizer, monkeypatch):
    first = load_corpus(config(), tokenizer)
    monkeypatch.setattr(entries_module, "read_rows", None)  # reading again would fail
    second = load_corpus(config(block_size=32), tokenizer)
    assert np.array_equal(first.tokens, second.tokens)
    assert np.array_equal(first.offsets, second.offsets)
    assert list(first.validation) == list(second.validation)
    assert first.fingerprint == second.fingerprint
    assert len(entries()) == 1


def test_a_tokenizer_without_a_fast_backend_works(config):
    tokenizer = ByT5Tokenizer()
    corpus = load_corpus(config(), tokenizer)
    assert corpus.tokens[0] == tokenizer.eos_token_id == 1


def test_what_happens_to_the_cache_after_it_was_opened_changes_nothing(config, tokenizer):
    corpus = load_corpus(config(), tokenizer)
    before = [corpus.tokens[:].tolist(), corpus.offsets.tolist(), list(corpus.validation)]
    files = [path for path in corpus.entry.parents[1].rglob("*") if path.suffix in (".bin", ".jsonl")]
    assert len(files) >= 8
    for path in files:
        path.write_bytes(b"")
    assert [corpus.tokens[:].tolist(), corpus.offsets.tolist(), list(corpus.validation)] == before


def test_blocks_are_counted_once(config, tokenizer, monkeypatch):
    corpus = load_corpus(config(), tokenizer)
    (counts,) = corpus.block_counts(8)
    assert counts.tolist() == count_blocks(len(corpus.tokens), 8, corpus.offsets).tolist()
    monkeypatch.setattr(corpus_module, "count_blocks", None)
    assert load_corpus(config(), tokenizer).block_counts(8)[0].tolist() == counts.tolist()


def test_held_out_documents_are_all_of_the_validation_data_or_the_split_of_the_data(config, tmp_path):
    (tmp_path / "held-out.txt").write_text("one\n\ntwo", encoding="utf-8")
    named = load_held_out(config(validation_data=str(tmp_path / "held-out.txt")))
    assert [document.text for document in named] == ["one", "two"]
    split = [document.text for document in load_held_out(config(validation_fraction=0.2))]
    assert split == [text for text in TEXTS if is_held_out(Document("", "", text), 0.2)]


def test_no_held_out_document_is_an_error_that_names_the_flag(config):
    with pytest.raises(UserError, match=r"--validation-fraction 1e-09: no document of .* falls into the validation"):
        load_held_out(config(TEXTS[:1], validation_fraction=1e-9))
    with pytest.raises(UserError, match=r"--validation-data nowhere\.txt: there is no such file"):
        load_held_out(config(validation_data="nowhere.txt"))


def test_the_evaluation_needs_no_tokens(config, tokenizer):
    found = list(load_held_out(config()))
    assert entries() == []
    assert found == list(load_corpus(config(), tokenizer).validation)


@pytest.mark.parametrize(
    ("texts", "changed", "expected"),
    [
        (["Only one document."], {}, ": 1 document, too few for a validation split"),
        (TEXTS[:40], {"block_size": 100_000}, "--block-size 100000: the training text of"),
        (TEXTS[:40], {"validation_fraction": 0.9999999}, "all 40 documents fall into the validation split. Lower"),
        (["the  same"] * 3 + ["the same"], {}, "all 4 documents are the same text, so they cannot be split."),
        (["the same"] * 3, {"validation_fraction": 0.9}, "all 3 documents are the same text"),
        (["\u3000\u00a0"], {}, ": contains no text."),
    ],
)
def test_too_little_text_on_either_side_is_an_error_with_a_remedy(config, tokenizer, texts, changed, expected):
    for function in (load_corpus, preview_corpus):
        with pytest.raises(UserError) as caught:
            function(config(texts, **changed), tokenizer)
        assert expected in str(caught.value)


def test_one_of_a_few_documents_is_always_held_out(config, tokenizer):
    few = config(TEXTS[:8], validation_fraction=1e-9, block_size=4)
    corpus = load_corpus(few, tokenizer)
    assert len(corpus.offsets) == 7
    [held] = corpus.validation
    assert split_hash(held) == min(split_hash(replace(held, text=text)) for text in TEXTS[:8])
    assert [d.text for d in training_documents(few)] == [text for text in TEXTS[:8] if text != held.text]
    assert list(load_held_out(few)) == [held]
    assert "fill a block" in preview_corpus(few, tokenizer)


def test_the_check_reads_no_more_than_it_needs_and_writes_nothing(config, tokenizer):
    found = preview_corpus(config(TEXTS), tokenizer)
    first_held_out = next(i for i, text in enumerate(TEXTS, 1) if is_held_out(Document("", "", text), 0.1))
    assert found == f"the first {first_held_out} documents fill a block of 16 tokens and hold one document out"
    assert not cache_directory().exists()


def test_the_check_finds_text_that_is_too_short_with_validation_data(config, tokenizer, tmp_path):
    (tmp_path / "held-out.txt").write_text("one", encoding="utf-8")
    named = {"validation_data": str(tmp_path / "held-out.txt")}
    assert preview_corpus(config(**named), tokenizer) == "the first 1 documents fill a block of 16 tokens"
    with pytest.raises(UserError, match=r"--block-size 512: the training text of .* has only \d+ tokens"):
        preview_corpus(config(TEXTS[:1], **named, block_size=512), tokenizer)


def test_validation_data_without_text_is_named(config, tokenizer, tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"text": " "}\n{"text": null}\n', encoding="utf-8")
    named = config(validation_data=str(empty))
    for function in (load_corpus, preview_corpus):
        with pytest.raises(UserError, match=r"--validation-data .*empty\.jsonl: contains no text"):
            function(named, tokenizer)
    with pytest.raises(UserError, match=r"--validation-data .*empty\.jsonl: contains no text"):
        load_held_out(named)


def test_a_tokenizer_without_a_separator_is_a_user_error(config, tokenizer_with):
    with pytest.raises(UserError, match="no end-of-text token to separate documents with"):
        load_corpus(config(), tokenizer_with())
    assert entries() == []
