"""The cache that all processes share: complete or absent, whatever happens to those that build it."""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cached import TEXTS, entries
from damage import DAMAGES, damage, files_of

from textgen.data import build_entries as entries_module
from textgen.data.cache import cache_directory
from textgen.data.config import DataConfig
from textgen.data.corpus import load_corpus, load_held_out
from textgen.data.document import Document
from textgen.data.sources import find_data
from textgen.data.tokens import build as build_module
from textgen.data.tokens import bulk_encoding
from textgen.data.tokens import entry as entry_module
from textgen.errors import UserError

pytestmark = pytest.mark.usefixtures("own_cache")


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


def test_a_held_out_chat_that_cannot_be_written_is_found_when_the_data_is_tokenized(tokenizer_with, tmp_path):
    tokenizer = tokenizer_with(eos_token="<|endoftext|>")
    tokenizer.chat_template = "{% for m in messages %}{{ m.content + eos_token }}{% endfor %}"
    answer = {"role": "assistant", "content": "a"}
    chats = [[{"role": "user", "content": f"{i}"}, answer] for i in range(3)]
    for name, rows in {"train": chats, "held-out": [*chats[:2], [{"role": "user"}, answer]]}.items():
        lines = [json.dumps({"messages": messages}) for messages in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    paths = {"data": str(tmp_path / "train.jsonl"), "validation_data": str(tmp_path / "held-out.jsonl")}
    with pytest.raises(UserError, match=r"held-out\.jsonl#2 \(row 3 of held-out\.jsonl\): the chat template does not"):
        load_corpus(DataConfig(**paths), tokenizer)
    assert entries() == []


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


def test_a_full_disk_is_a_user_error_and_loses_nothing(config, tokenizer, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(build_module.Journal, "commit", fail)
        with pytest.raises(UserError, match=r"TEXTGEN_CACHE .*: No space left on device\. Free some space"):
            load_corpus(config(), tokenizer)
    assert len(entries("building")) == 1
    assert len(load_corpus(config(), tokenizer).offsets) == 72


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
FILES += [("held-out", name) for name in ("documents.jsonl", "ends.bin", "hashes.bin", "bytes.bin", "meta.json")]


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


def test_tokenizers_share_the_held_out_documents(config, tokenizer, tokenizer_with):
    first = load_corpus(config(), tokenizer)
    second = load_corpus(config(), tokenizer_with(bos_token="<|endoftext|>"))
    assert list(first.validation) == list(second.validation) == list(load_held_out(config()))
    assert len(entries("held-out")) == 1
    assert len(entries()) == 2


def test_a_killed_build_is_continued_by_a_process_that_waits(config, tokenizer, tmp_path, monkeypatch):
    expected = np.array(load_corpus(config(), tokenizer).tokens)
    for kind in ("tokens", "held-out"):
        for entry in entries(kind):
            shutil.rmtree(entry)
    monkeypatch.setattr(build_module, "_BATCH_CHARACTERS", 100)
    monkeypatch.setattr(entries_module, "build", partial(build_module.build, commit_characters=200))
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
    builds, read = tmp_path / "builds", entries_module.read_rows

    def read_slowly(*sources: Any, **settings: Any) -> Iterator[Document]:
        with builds.open("a", encoding="utf-8") as log:
            log.write(f"{os.getpid()}\n")
        time.sleep(0.3)  # long enough for all of them to reach the lock
        yield from read(*sources, **settings)

    monkeypatch.setattr(entries_module, "read_rows", read_slowly)
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


def everything(settings: DataConfig, tokenizer: Any) -> list[Any]:
    """What a run uses of a corpus."""
    corpus = load_corpus(settings, tokenizer)
    validation = [vars(document) for document in corpus.validation]
    arrays = (corpus.tokens[:], corpus.offsets, corpus.edges, corpus.block_counts(8)[0], corpus.validation.split_hashes)
    sizes = list(corpus.validation.hashes_and_bytes())
    return [*(array.tolist() for array in arrays), validation, corpus.counts, sizes]


def test_no_damage_to_an_entry_is_ever_read(config, tokenizer, tmp_path):
    settings = config()
    expected = everything(settings, tokenizer)
    files = [path / name for kind in ("tokens", "held-out") for path in entries(kind) for name in files_of(path)]
    names = {path.name for path in files}
    assert {"tokens.bin", "offsets.bin", "edges.bin", "meta.json", "documents.jsonl", "ends.bin"} <= names
    assert "blocks-8.bin" in names
    tried = 0
    for path in files:
        for kind in DAMAGES:
            if path.stat().st_size == 0 and kind in ("emptied", "cut", "flipped", "digit"):
                continue
            tried += damage(path, kind)
            assert everything(settings, tokenizer) == expected, (path.name, kind)
    assert tried > 100


@pytest.mark.parametrize("name", ["tokens.bin", "documents.jsonl"])
def test_a_large_file_that_is_damaged_is_refused_when_it_is_read_and_built_again(config, tokenizer, monkeypatch, name):
    settings = config()
    expected = everything(settings, tokenizer)
    monkeypatch.setattr(entry_module, "CHECKED_AT_ONCE", 10)
    [entry] = entries("tokens" if name == "tokens.bin" else "held-out")
    assert damage(entry / name, "flipped")
    with pytest.raises(UserError, match=rf"{name}: this file of the cache is damaged near byte 0"):
        everything(settings, tokenizer)
    assert everything(settings, tokenizer) == expected


def test_what_was_damaged_while_an_entry_was_built_is_not_read(config, tokenizer, monkeypatch):
    settings = config()
    expected = everything(settings, tokenizer)
    for kind in ("tokens", "held-out"):
        shutil.rmtree(entries(kind)[0])
    append = build_module.Journal.append

    def damaged(self: Any, name: str, data: Any) -> None:
        append(self, name, data)
        if name == "tokens/tokens.bin" and len(data) > 2:
            self._files[name].flush()
            path = Path(self._files[name].name)
            path.write_bytes(path.read_bytes()[:-5] + b"x" + path.read_bytes()[-4:])

    with monkeypatch.context() as patched:
        patched.setattr(build_module.Journal, "append", damaged)
        load_held_out(settings)
        with pytest.raises(UserError, match=r"tokens\.bin: this file of the cache is damaged"):
            load_corpus(settings, tokenizer)
    assert everything(settings, tokenizer) == expected
