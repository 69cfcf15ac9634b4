"""Whatever bytes a data file has, reading it gives documents or an error that names the file."""

import gzip
import io
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from textgen.data.config import DataConfig
from textgen.data.document import Document
from textgen.data.sources.documents import read_documents
from textgen.data.sources.find import find_sources
from textgen.errors import UserError, collect_problems

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["text", "prompt", "completion", "messages", "conversations", "role", "content", "from", "value"]
)
MESSAGES = st.lists(st.dictionaries(KEYS, JSON | st.sampled_from(["user", "assistant", "human", "gpt"]), max_size=3))
ROWS = st.lists(JSON | st.dictionaries(KEYS, JSON | MESSAGES, max_size=4), max_size=5)


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """A file, cut and with other bytes in some places."""

    def damage(cut: int, places: list[tuple[int, int]]) -> bytes:
        content = bytearray(whole[: max(0, len(whole) - cut)])
        for place, byte in places:
            if content:
                content[place % len(content)] = byte
        return bytes(content)

    places = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=4)
    return st.builds(damage, st.integers(0, len(whole)) | st.just(0), places)


def table() -> pyarrow.Table:
    return pyarrow.table({"text": ["one", None, "three é"] * 5, "n": range(15)})


def arrow(*, stream: bool) -> bytes:
    sink = io.BytesIO()
    writer = pyarrow.ipc.new_stream if stream else pyarrow.ipc.new_file
    with writer(sink, table().schema) as opened:
        opened.write_table(table())
    return sink.getvalue()


def parquet() -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table(), sink)
    return sink.getvalue()


LINES = b'{"text": "one"}\n{"text": "two \\ud83d"}\n{"prompt": "a", "completion": "b"}\n'
CSV = b'text,n\n"a ""quoted"", text",1\nb,2\n\n"of two\nlines",3\n'
ENCODED = {
    ".jsonl": ROWS.map(lambda rows: "\n".join(map(json.dumps, rows)).encode()) | damaged(LINES),
    ".json": ROWS.map(lambda rows: json.dumps(rows).encode()) | damaged(b"[" + LINES.replace(b"\n", b",") + b"5]"),
    ".csv": damaged(CSV) | st.text().map(lambda text: b"text,n\n" + text.encode()),
    ".tsv": damaged(CSV.replace(b",", b"\t")),
    ".txt": st.text().map(str.encode) | damaged("one\r\n\n\u2028two é".encode()),
    ".parquet": damaged(parquet()),
    ".arrow": damaged(arrow(stream=False)) | damaged(arrow(stream=True)),
    ".txt.gz": damaged(gzip.compress(b"one\n\ntwo" * 20)),
    ".jsonl.zst": damaged(pyarrow.Codec("zstd").compress(LINES, asbytes=True)),
}


@pytest.mark.parametrize("extension", ENCODED)
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_file_is_documents_or_an_error_that_names_it(extension: str, tmp_path_factory, data: st.DataObject) -> None:
    path: Path = tmp_path_factory.getbasetemp() / f"fuzzed{extension}"
    path.write_bytes(data.draw(ENCODED[extension] | st.binary()))
    config = DataConfig(data=str(path), verify_data=True)
    documents: list[Document] = []
    problems: list[str] = []
    with collect_problems(problems):
        documents = list(read_documents(find_sources(str(path), config), config))
    assert all(path.name in problem for problem in problems)
    for document in documents:
        document.text.encode()  # can be tokenized and kept


def test_the_undamaged_files_are_read(tmp_path) -> None:
    whole = {".parquet": parquet(), ".arrow": arrow(stream=True), ".csv": CSV, ".txt.gz": gzip.compress(b"one\n\ntwo")}
    for extension, content in whole.items():
        path = tmp_path / f"whole{extension}"
        path.write_bytes(content)
        config = DataConfig(data=str(path))
        assert list(read_documents(find_sources(str(path), config), config))
    with pytest.raises(UserError):
        find_sources(str(tmp_path / "nowhere.txt"), DataConfig())
