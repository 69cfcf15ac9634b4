"""The tokenized corpus, and its cache that all processes share."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from textgen.data import bulk_encoding
from textgen.data import corpus as corpus_module
from textgen.data.blocks import count_blocks
from textgen.data.cache import cache_directory
from textgen.data.config import DataConfig
from textgen.data.corpus import Corpus, load_corpus, load_held_out, preview_corpus
from textgen.data.document import Document
from textgen.data.readers import training_documents
from textgen.data.sources import find_data
from textgen.data.split import is_held_out, split_hash
from textgen.data.tokens import build as build_module
from textgen.errors import UserError

TEXTS = [f"Document number {i} has a few words of its own, {'and more ' * (i % 5)}so to say." for i in range(80)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., DataConfig]:
    """Writes texts to a file, and returns settings that name it: ``config(texts, validation_fraction=0.2)``."""

    def write(texts: list[str] = TEXTS, **settings: Any) -> DataConfig:
        path = tmp_path / "texts.txt"
        path.write_text("\n\n".join(texts), encoding="utf-8")
        return DataConfig(data=str(path), **({"block_size": 16} | settings))

    return write


def entries(kind: str = "tokens") -> list[Path]:
    return [path for path in cache_directory(kind).glob("*") if path.is_dir()]


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
    monkeypatch.setattr(corpus_module, "read_documents", None)  # reading again would fail
    second = load_corpus(config(block_size=32), tokenizer)
    assert np.array_equal(first.tokens, second.tokens)
    assert np.array_equal(first.offsets, second.offsets)
    assert list(first.validation) == list(second.validation)
    assert first.fingerprint == second.fingerprint
    assert len(entries()) == 1


def test_every_change_of_the_tokens_changes_the_cache_entry(config, tokenizer, tokenizer_with, tmp_path):
    (tmp_path / "held-out.txt").write_text("one", encoding="utf-8")
    fingerprints = {load_corpus(config(), tokenizer).fingerprint}
    for number, changed in enumerate(
        (
            {"validation_fraction": 0.2},
            {"validation_data": str(tmp_path / "held-out.txt")},
            {"texts": [*TEXTS, "One more."]},
        ),
        start=2,
    ):
        fingerprints.add(load_corpus(config(**changed), tokenizer).fingerprint)
        assert len(entries()) == number
    assert len(fingerprints) == 3, "the fraction is a setting, the others are data"
    load_corpus(config(), tokenizer_with(bos_token="<|endoftext|>"))
    assert len(entries()) == 5


def test_a_tokenizer_without_a_fast_backend_works(config):
    tokenizer = ByT5Tokenizer()
    corpus = load_corpus(config(), tokenizer)
    assert corpus.tokens[0] == tokenizer.eos_token_id == 1


def test_an_interrupted_build_leaves_no_entry(config, tokenizer, monkeypatch):
    def fail(*_: object) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(bulk_encoding, "encode_batch", fail)
        with pytest.raises(KeyboardInterrupt):
            load_corpus(config(), tokenizer)
        assert entries() == []
    assert len(load_corpus(config(), tokenizer).offsets) == 72
    assert entries("building") == []


def test_a_damaged_file_leaves_no_entry(tokenizer, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS) + '{"text": ', encoding="utf-8")
    with pytest.raises(UserError, match="line 81"):
        load_corpus(DataConfig(data=str(path)), tokenizer)
    assert entries() == entries("held-out") == entries("building") == []


@pytest.mark.parametrize("change", ["appended", "replaced", "deleted"])
def test_data_that_changes_while_it_is_read_leaves_no_entry(config, tokenizer, monkeypatch, change):
    settings, encode = config(), bulk_encoding.encode_batch
    path = Path(settings.data)
    original = path.read_bytes()

    def change_and_encode(*arguments: Any) -> Any:
        if change == "deleted":
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(original + b"\n\nOne more." if change == "appended" else original.replace(b"few", b"new"))
        return encode(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(bulk_encoding, "encode_batch", change_and_encode)
        with pytest.raises(UserError, match=r"texts\.txt: the file changed while it was read"):
            load_corpus(settings, tokenizer)
    assert entries() == entries("held-out") == entries("building") == []
    path.write_bytes(original)
    assert len(load_corpus(settings, tokenizer).offsets) == 72


def test_data_that_changed_since_it_was_found_leaves_no_entry(config, tokenizer):
    """The cache would keep the new text under the hash of the old one."""
    settings = config()
    sources = find_data(settings)
    config([*TEXTS, "One more."])
    with pytest.raises(UserError, match=r"texts\.txt: the file changed while it was read"):
        load_corpus(settings, tokenizer, sources)
    assert entries() == entries("held-out") == []


FILES = [("tokens", "tokens.bin"), ("tokens", "offsets.bin"), ("tokens", "meta.json")]
FILES += [("held-out", name) for name in ("documents.jsonl", "ends.bin", "hashes.bin", "order.bin", "meta.json")]


@pytest.mark.parametrize(("kind", "name"), FILES)
@pytest.mark.parametrize("damage", ["deleted", "shortened", "emptied"])
def test_a_damaged_entry_is_rebuilt(config, tokenizer, kind, name, damage):
    whole = load_corpus(config(), tokenizer)
    tokens, offsets, validation = np.array(whole.tokens), np.array(whole.offsets), list(whole.validation)
    path = entries(kind)[0] / name
    content = path.read_bytes()
    path.unlink()
    if damage != "deleted":
        path.write_bytes(content[:-2] if damage == "shortened" else b"")
    again = load_corpus(config(), tokenizer)
    assert np.array_equal(again.tokens, tokens)
    assert np.array_equal(again.offsets, offsets)
    assert list(again.validation) == validation
    assert path.read_bytes() == content
    assert len(entries()) == len(entries("held-out")) == 1


def test_all_of_it_is_memory_mapped(config, tokenizer):
    corpus = load_corpus(config(), tokenizer)
    assert isinstance(corpus.tokens, np.memmap)
    assert isinstance(corpus.offsets, np.memmap)
    assert isinstance(corpus.validation.split_hashes, np.memmap)


def test_blocks_are_counted_once(config, tokenizer, monkeypatch):
    corpus = load_corpus(config(), tokenizer)
    counts = corpus.block_counts(8)
    assert counts.tolist() == count_blocks(len(corpus.tokens), 8, corpus.offsets).tolist()
    monkeypatch.setattr(corpus_module, "count_blocks", None)
    assert load_corpus(config(), tokenizer).block_counts(8).tolist() == counts.tolist()


def test_tokenizers_share_the_held_out_documents(config, tokenizer, tokenizer_with):
    first = load_corpus(config(), tokenizer)
    second = load_corpus(config(), tokenizer_with(bos_token="<|endoftext|>"))
    assert list(first.validation) == list(second.validation) == list(load_held_out(config()))
    assert len(entries("held-out")) == 1
    assert len(entries()) == 2


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


def test_a_killed_build_is_continued_by_a_process_that_waits(config, tokenizer, tmp_path, monkeypatch):
    expected = np.array(load_corpus(config(), tokenizer).tokens)
    for kind in ("tokens", "held-out"):
        for entry in entries(kind):
            shutil.rmtree(entry)
    monkeypatch.setattr(build_module, "_BATCH_CHARACTERS", 100)
    monkeypatch.setattr(corpus_module, "build", partial(build_module.build, commit_characters=200))
    encoded, encode = tmp_path / "encoded", bulk_encoding.encode_batch

    def encode_slowly(tokenizer: Any, texts: list[str]) -> Any:
        with encoded.open("a", encoding="utf-8") as log:
            log.write(f"{os.getpid()}\n" * len(texts))
        time.sleep(0.02)
        return encode(tokenizer, texts)

    monkeypatch.setattr(bulk_encoding, "encode_batch", encode_slowly)
    fork = multiprocessing.get_context("fork")
    data = config()
    processes = [fork.Process(target=load_corpus, args=(data, tokenizer)) for _ in range(3)]
    for process in processes:
        process.start()
    committed = cache_directory("building")
    while not list(committed.glob("*/committed.json")):
        time.sleep(0.005)
    builder = int(encoded.read_text(encoding="utf-8").split()[0])
    os.kill(builder, signal.SIGKILL)
    for process in processes:
        process.join(60)
    assert sorted(process.exitcode for process in processes) == [-signal.SIGKILL, 0, 0]
    assert np.array_equal(load_corpus(config(), tokenizer).tokens, expected)
    by_process = Counter(encoded.read_text(encoding="utf-8").split())
    assert len(by_process) == 2
    assert max(by_process.values()) < 72, "what was committed is not tokenized again"


def test_several_processes_build_an_entry_once(config, tokenizer, tmp_path, monkeypatch):
    builds, read = tmp_path / "builds", corpus_module.read_documents

    def read_slowly(*sources: Any, **settings: Any) -> Iterator[Document]:
        with builds.open("a", encoding="utf-8") as log:
            log.write(f"{os.getpid()}\n")
        time.sleep(0.3)  # long enough for all of them to reach the lock
        yield from read(*sources, **settings)

    monkeypatch.setattr(corpus_module, "read_documents", read_slowly)
    fork = multiprocessing.get_context("fork")  # unlike launchers, but without importing everything three times
    start, found = fork.Barrier(3), fork.SimpleQueue()

    def load() -> None:
        start.wait(30)
        corpus = load_corpus(data, tokenizer)
        found.put((int(corpus.tokens.sum()), len(corpus.validation)))

    data = config()
    processes = [fork.Process(target=load) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len({found.get() for _ in processes}) == 1
    assert len(set(builds.read_text(encoding="utf-8").splitlines())) == 1
    assert len(entries()) == 1


@pytest.mark.parametrize(
    ("texts", "changed", "expected"),
    [
        (["Only one document."], {}, ": 1 document, too few for a validation split"),
        (TEXTS[:40], {"block_size": 100_000}, "--block-size 100000: the training text of"),
        (TEXTS[:40], {"validation_fraction": 0.9999999}, "no document is left to train on"),
        (["\u3000\u00a0"], {}, ": 0 documents, too few for a validation split"),
        (["\u3000\u00a0"], {}, "no document is left to train on"),
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
