"""The files of a corpus have the same bytes, however often their build was killed, and in bounded memory."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from textgen.data.document import Document
from textgen.data.examples.encode import EncodedDocument
from textgen.data.examples.rows import LeftOut
from textgen.data.split import is_held_out
from textgen.data.tokenization import DocumentMarks
from textgen.data.tokens import build as build_module
from textgen.data.tokens.build import Counts, Encoding, Part, build
from textgen.data.tokens.entry import facts_of
from textgen.data.tokens.held_out import HeldOut
from textgen.errors import UserError

DOCUMENTS = [
    [Document(f"{name}#{i}", name, f"Text {i} of {name}" + "!" * (i % 9)) for i in range(size)]
    for name, size in (("a", 40), ("b", 0), ("c", 1), ("d", 60))
]


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "_BATCH_CHARACTERS", 50)


def encode(documents: Sequence[Document]) -> list[EncodedDocument]:
    return [EncodedDocument(list(document.text.encode())) for document in documents]


ENCODING = Encoding(encode, DocumentMarks(0, 0), unknown=None, dtype=np.dtype(np.uint16))


def parts(documents: list[list[Document]] = DOCUMENTS, held_out: float = 0.3) -> list[Part]:
    def part(own: list[Document]) -> Part:
        return Part(lambda: iter(own), lambda: None, held_out)

    return [part(own) for own in documents]


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for folder in ("tokens", "held-out")
        for path in (directory / folder).glob("*")
    }


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, bytes]:
    """The files of an uninterrupted build."""
    build(tmp_path / "expected", parts(), ENCODING)
    return files(tmp_path / "expected")


def test_documents_are_tokenized_or_held_out(expected, tmp_path):
    every = [document for own in DOCUMENTS for document in own]
    train = [document for document in every if not is_held_out(document, 0.3)]
    tokens = np.frombuffer(expected["tokens/tokens.bin"], np.uint16)
    offsets = np.frombuffer(expected["tokens/offsets.bin"], np.int64)
    assert bytes(tokens.tolist()) == b"\0" + b"".join(document.text.encode() + b"\0" for document in train)
    assert [tokens[a : a + 4].tolist() for a in offsets] == [list(document.text.encode()[:4]) for document in train]
    assert list(HeldOut(tmp_path / "expected" / "held-out")) == [d for d in every if is_held_out(d, 0.3)]


def test_special_tokens_can_stand_before_and_after_each_document(tmp_path):
    marks = Encoding(encode, DocumentMarks(1, 2), unknown=None, dtype=np.dtype(np.uint16))
    build(tmp_path, [Part(lambda: iter(DOCUMENTS[0][:2]), lambda: None, 0.0)], marks)
    tokens = np.fromfile(tmp_path / "tokens" / "tokens.bin", np.uint16)
    offsets = np.fromfile(tmp_path / "tokens" / "offsets.bin", np.int64)
    assert bytes(tokens.tolist()) == b"\1Text 0 of a\2\1Text 1 of a!\2"
    assert tokens[offsets - 1].tolist() == [1, 1]


def test_what_is_no_target_is_between_edges_and_counted(tmp_path):
    documents = [
        Document("a#0", "a", "ab", prompt="a", completion_only=True),
        Document("a#1", "a", "xy"),
        Document("a#2", "a", "cde", prompt="cd", completion_only=True),
    ]

    def with_prompts(documents: Sequence[Document]) -> list[EncodedDocument]:
        return [
            EncodedDocument(list(d.text.encode()), [i >= len(d.prompt or "") for i in range(len(d.text))])
            for d in documents
        ]

    encoding = Encoding(with_prompts, DocumentMarks(0, 0), unknown=ord("x"), dtype=np.dtype(np.uint16))
    build(tmp_path, [Part(lambda: iter(documents), lambda: None, 0.0)], encoding)
    edges = np.fromfile(tmp_path / "tokens" / "edges.bin", np.int64)
    assert edges.tolist() == [1, 2, 7, 9]  # in \\0 a b \\0 x y \\0 c d e \\0
    counts = Counts(examples=2, context=3, unknown=1)
    assert facts_of(tmp_path / "tokens") == {"dtype": "uint16", **asdict(counts)}


def test_examples_without_a_target_and_rows_that_are_left_out_are_counted(tmp_path):
    rows = [
        LeftOut("a#0 (row 1 of a)", "the completion is blank"),
        *(Document(f"a#{i}", "a", "cd" * i, prompt="c", completion_only=True) for i in range(1, 90)),
        LeftOut("a#90 (row 91 of a)", "the completion is blank"),
        LeftOut("a#91 (row 92 of a)", "the completion is blank"),
    ]

    def untargeted(documents: Sequence[Document]) -> list[EncodedDocument]:
        return [EncodedDocument(list(d.text.encode()), [d.id != "a#2"] * len(d.text)) for d in documents]

    encoding = Encoding(untargeted, DocumentMarks(0, 0), unknown=None, dtype=np.dtype(np.uint16))
    build(tmp_path, [Part(lambda: iter(rows), lambda: None, 0.0)] * 2, encoding, commit_characters=1)
    facts = facts_of(tmp_path / "tokens")
    assert (facts["examples"], facts["untargeted"], facts["left_out"]) == (178, 2, 6)
    assert facts["first_left_out"] == "a#0 (row 1 of a): the completion is blank"


def test_held_out_documents_are_checked_when_the_others_are_tokenized(expected, tmp_path):
    seen: list[str] = []

    def check(documents: Sequence[Document]) -> None:
        seen.extend(document.id for document in documents)
        if "d#59" in seen:
            raise UserError("not this one")

    checking = replace(ENCODING, check=check)
    build(tmp_path / "own", parts(DOCUMENTS[:1]), checking)
    assert seen == [document.id for document in DOCUMENTS[0] if is_held_out(document, 0.3)]
    with pytest.raises(UserError, match="not this one"):
        build(tmp_path / "other", parts(held_out=1.0), checking)


def test_held_out_documents_can_be_had_without_tokens(expected, tmp_path):
    build(tmp_path / "own", parts(), None)
    assert files(tmp_path / "own") == {name: data for name, data in expected.items() if name.startswith("held-out")}


@pytest.mark.parametrize("commit_characters", [1, 170, 10**9])
@pytest.mark.parametrize("fails_at", [0, 1, 13, 40, 41, 70, 99])
def test_an_interrupted_build_continues_with_the_same_bytes(expected, tmp_path, commit_characters, fails_at):
    class Interrupted(Exception):
        pass

    read = count()

    def failing(own: list[Document]) -> Iterator[Document]:
        for document in own:
            if next(read) == fails_at:
                raise Interrupted
            yield document

    interrupted = [Part(lambda own=own: failing(own), lambda: None, 0.3) for own in DOCUMENTS]
    with pytest.raises(Interrupted):
        build(tmp_path / "own", interrupted, ENCODING, commit_characters=commit_characters)
    assert not (tmp_path / "own" / "tokens" / "meta.json").exists()
    encoded: list[str] = []

    def encode_noting(documents: Sequence[Document]) -> list[EncodedDocument]:
        encoded.extend(document.id for document in documents)
        return encode(documents)

    noting = replace(ENCODING, encode=encode_noting)
    build(tmp_path / "own", parts(), noting, commit_characters=commit_characters)
    assert files(tmp_path / "own") == expected
    if commit_characters == 1 and fails_at == 99:
        assert len(encoded) < 20, "what was committed is not tokenized again"


@pytest.mark.parametrize("kills", [1, 4])
def test_a_killed_build_continues_with_the_same_bytes(expected, tmp_path, kills):
    fork = multiprocessing.get_context("fork")

    def encode_slowly(documents: Sequence[Document]) -> list[EncodedDocument]:
        time.sleep(0.02)
        return encode(documents)

    slow = replace(ENCODING, encode=encode_slowly)
    commits = tmp_path / "own" / "committed.json"
    committed = b""
    for _ in range(kills):
        process = fork.Process(target=build, args=(tmp_path / "own", parts(), slow), kwargs={"commit_characters": 100})
        process.start()
        while process.is_alive() and (not commits.exists() or commits.read_bytes() == committed):
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it was killed before it was done"
        committed = commits.read_bytes()
    build(tmp_path / "own", parts(), ENCODING)
    assert files(tmp_path / "own") == expected


def test_what_was_read_is_checked_before_it_is_committed(tmp_path):
    def changed() -> None:
        raise UserError("d: changed")

    last = Part(lambda: iter(DOCUMENTS[3]), changed, 0.3)
    with pytest.raises(UserError, match="d: changed"):
        build(tmp_path, [*parts()[:3], last], ENCODING, commit_characters=200)
    assert not (tmp_path / "tokens" / "meta.json").exists()
    build(tmp_path, parts(), ENCODING)


def test_progress_adds_up_to_the_text(tmp_path):
    advanced: list[int] = []
    build(tmp_path, parts(), ENCODING, advance=advanced.append)
    assert sum(advanced) == sum(len(document.text) for own in DOCUMENTS for document in own)


def test_an_id_that_does_not_fit_is_an_internal_error(tmp_path):
    too_large = replace(ENCODING, encode=lambda documents: [EncodedDocument([1 << 16]) for _ in documents])
    with pytest.raises(OverflowError):
        build(tmp_path, parts(), too_large)
