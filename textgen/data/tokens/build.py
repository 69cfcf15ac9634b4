"""One pass over the documents: training documents are tokenized, held-out ones are kept as text.

Memory is bounded by a few batches of text, whatever the size of the data. A build that was killed resumes at its last
commit; the files have the same bytes as if it had not been.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np

from textgen.data.document import Document
from textgen.data.examples.encode import EncodedDocument
from textgen.data.examples.rows import LeftOut
from textgen.data.split import split_hash
from textgen.data.tokenization import DocumentMarks
from textgen.data.tokens import held_out
from textgen.data.tokens.entry import seal
from textgen.data.tokens.journal import Journal

TOKENS, OFFSETS, EDGES, PLACES = "tokens.bin", "offsets.bin", "edges.bin", "places.bin"
ROW_BITS = 40  # of a document's place: the bits below are its row, and those above its part
_BATCH_CHARACTERS = 1 << 20  # text that is tokenized at a time
COMMIT_CHARACTERS = 1 << 25  # text after which the work is committed: seconds of work


@dataclass(frozen=True)
class Part:
    """The documents of one file, bundled corpus or hub dataset.

    Attributes:
        read: returns its documents, from the first one, and the rows that are left out.
        check_unchanged: raises :class:`textgen.errors.UserError` if its content is no longer the expected one.
        held_out: fraction of its documents to hold out.
    """

    read: Callable[[], Iterator[Document | LeftOut]]
    check_unchanged: Callable[[], None]
    held_out: float


@dataclass(frozen=True)
class Encoding:
    """How documents become tokens.

    Attributes:
        encode: token ids of each of some documents, and which are targets.
        marks: the special tokens around documents.
        unknown: id of the token for text that the tokenizer does not know, if there is one.
        dtype: type of the stored ids.
        check: raises :class:`textgen.errors.UserError` if some documents cannot be encoded; for those held out, which
            are not encoded now.
    """

    encode: Callable[[Sequence[Document]], list[EncodedDocument]]
    marks: DocumentMarks
    unknown: int | None
    dtype: np.dtype
    check: Callable[[Sequence[Document]], None] = lambda documents: None


@dataclass(frozen=True)
class Counts:
    """What was counted while documents were tokenized.

    Attributes:
        examples: training documents that are examples of a task.
        context: training tokens that are context only, such as prompts.
        unknown: training tokens that stand for text that the tokenizer does not know.
        untargeted: training examples without a target, since the chat template writes nothing for their answers.
        left_out: rows of the data that are no examples, since their completion is blank or they have no answer.
        first_left_out: where the first of these is, and why it was left out.
    """

    examples: int = 0
    context: int = 0
    unknown: int = 0
    untargeted: int = 0
    left_out: int = 0
    first_left_out: str = ""


@dataclass(frozen=True)
class _Position:
    """How far a build is: the part, the rows read of it, and the tokens and bytes written in all."""

    part: int = 0
    rows: int = 0
    tokens: int = 0
    held_out_bytes: int = 0
    counts: Counts = Counts()


@dataclass
class _Batch:
    """Some consecutive documents, the hashes of the held-out ones, the places of the others, and where the last is."""

    train: list[Document] = field(default_factory=list)
    held_out: list[Document] = field(default_factory=list)
    hashes: list[float] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    left_out: int = 0
    first_left_out: str = ""
    characters: int = 0
    part: int = 0
    rows: int = 0


def build(
    directory: Path,
    parts: Sequence[Part],
    encoding: Encoding | None,
    *,
    commit_characters: int = COMMIT_CHARACTERS,
    advance: Callable[[int], object] = lambda characters: None,
) -> None:
    """Write ``tokens/`` and ``held-out/`` below a directory, or finish what an earlier call has begun there.

    Args:
        directory: for the same parts and encoding only.
        parts: the data, in order.
        encoding: turns training documents into tokens; None passes over them, and leaves ``tokens/`` out.
        commit_characters: text after which the work is committed.
        advance: called with the number of characters that have been processed.

    Raises:
        UserError: a part cannot be read, or changed meanwhile.
    """
    names = [f"held-out/{name}" for name in (held_out.DOCUMENTS, held_out.ENDS, held_out.HASHES, held_out.BYTES)]
    names += [f"tokens/{name}" for name in (TOKENS, OFFSETS, EDGES, PLACES)] if encoding else []
    with Journal(directory, names) as journal:
        at = _Position(**{**journal.position, "counts": Counts(**journal.position.get("counts", {}))})
        if encoding and not at.tokens:
            journal.append(f"tokens/{TOKENS}", np.array(encoding.marks.opening, encoding.dtype).data)
            at = replace(at, tokens=len(encoding.marks.opening))
        unchecked, uncommitted = at.part, 0
        for batch, ids in _encoded(_batches(parts, at), encoding):
            at = _write(journal, batch, ids, encoding, at)
            advance(batch.characters)
            uncommitted += batch.characters
            if uncommitted >= commit_characters:
                _commit(journal, parts[unchecked : at.part + 1], at)
                unchecked, uncommitted = at.part, 0
        _commit(journal, parts[unchecked:], at)
        journal.finish()
    seal(directory / "held-out", {})
    if encoding:
        seal(directory / "tokens", {"dtype": encoding.dtype.name, **asdict(at.counts)})


def _commit(journal: Journal, read: Sequence[Part], at: _Position) -> None:
    for part in read:  # what was read must be what the data was found to be, or the cache would keep other text for it
        part.check_unchanged()
    journal.commit(asdict(at))


def _rows(parts: Sequence[Part], at: _Position) -> Iterator[tuple[int, int, Document | LeftOut]]:
    """Every row after a position, with its part, and the number of rows read of that part so far."""
    for part in range(at.part, len(parts)):
        done = at.rows if part == at.part else 0
        for number, row in enumerate(islice(parts[part].read(), done, None), done + 1):
            yield part, number, row


def _batches(parts: Sequence[Part], at: _Position) -> Iterator[_Batch]:
    """The rows after a position, about a megabyte at a time: fast, and in bounded memory."""
    batch = _Batch()
    for part, number, row in _rows(parts, at):
        batch.part, batch.rows = part, number
        if isinstance(row, LeftOut):
            batch.left_out += 1
            batch.first_left_out = batch.first_left_out or f"{row.place}: {row.reason}"
            continue
        hashed = split_hash(row)
        if hashed < parts[part].held_out:
            batch.held_out.append(row)
            batch.hashes.append(hashed)
        else:
            batch.train.append(row)
            batch.places.append(part << ROW_BITS | int(row.id.rpartition("#")[2]))
        batch.characters += len(row.text)
        if batch.characters >= _BATCH_CHARACTERS:
            yield batch
            batch = _Batch()
    if batch.rows:
        yield batch


def _encoded(batches: Iterator[_Batch], encoding: Encoding | None) -> Iterator[tuple[_Batch, list[EncodedDocument]]]:
    """Each batch with the token ids of its training documents; while one is encoded, the next one is read."""
    if encoding is None:
        yield from ((batch, []) for batch in batches)
        return
    with ThreadPoolExecutor(1) as thread:
        pending: tuple[_Batch, Future[list[EncodedDocument]]] | None = None
        for batch in batches:
            submitted = batch, thread.submit(_encode, batch, encoding)
            if pending:
                yield pending[0], pending[1].result()
            pending = submitted
        if pending:
            yield pending[0], pending[1].result()


def _encode(batch: _Batch, encoding: Encoding) -> list[EncodedDocument]:
    encoding.check(batch.held_out)
    return encoding.encode(batch.train)


def _write(
    journal: Journal, batch: _Batch, encoded: list[EncodedDocument], encoding: Encoding | None, at: _Position
) -> _Position:
    """Append a batch to the files; returns the position after it."""
    lines = [held_out.line(document) for document in batch.held_out]
    ends = at.held_out_bytes + np.cumsum([len(line) for line in lines], dtype=np.int64)
    journal.append(f"held-out/{held_out.DOCUMENTS}", b"".join(lines))
    journal.append(f"held-out/{held_out.ENDS}", ends.data)
    journal.append(f"held-out/{held_out.HASHES}", np.array(batch.hashes, np.float64).data)
    sizes = np.array([document.bytes for document in batch.held_out], np.int64)
    journal.append(f"held-out/{held_out.BYTES}", sizes.data)
    held_out_bytes = at.held_out_bytes + sum(map(len, lines))
    at = replace(at, part=batch.part, rows=batch.rows, held_out_bytes=held_out_bytes)
    return _write_tokens(journal, batch, encoded, encoding, at) if encoding else at


def _write_tokens(
    journal: Journal, batch: _Batch, encoded: list[EncodedDocument], encoding: Encoding, at: _Position
) -> _Position:
    framed = [encoding.marks.frame(document.ids) for document in encoded]
    after = at.tokens + np.cumsum([len(ids) for ids in framed], dtype=np.int64)
    offsets = after - 1 - np.array([len(document.ids) for document in encoded], np.int64)
    flat = np.fromiter(chain.from_iterable(framed), encoding.dtype, count=sum(map(len, framed)))
    edges = [edge + offset for document, offset in zip(encoded, offsets, strict=True) for edge in document.edges()]
    journal.append(f"tokens/{TOKENS}", flat.data)
    journal.append(f"tokens/{OFFSETS}", offsets.data)
    journal.append(f"tokens/{EDGES}", np.array(edges, np.int64).data)
    journal.append(f"tokens/{PLACES}", np.array(batch.places, np.int64).data)
    counts = Counts(
        examples=at.counts.examples + sum(document.is_example for document in batch.train),
        context=at.counts.context + int(sum(edges[1::2]) - sum(edges[::2])),
        unknown=at.counts.unknown + (0 if encoding.unknown is None else int((flat == encoding.unknown).sum())),
        untargeted=at.counts.untargeted + sum(not document.scored_runs() for document in encoded),
        left_out=at.counts.left_out + batch.left_out,
        first_left_out=at.counts.first_left_out or batch.first_left_out,
    )
    return replace(at, tokens=at.tokens + len(flat), counts=counts)
