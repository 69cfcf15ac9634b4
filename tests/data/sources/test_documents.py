"""Documents of all kinds of sources, with their ids."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import texts

from textgen.data.config import DataConfig
from textgen.data.examples.rows import LeftOut
from textgen.data.sources import Source, find_sources, read_documents, read_rows
from textgen.data.sources.bundled import python_reference


def test_the_bundled_corpus_is_read_by_its_name():
    found = texts("python-reference")
    assert list(found.values()) == python_reference()
    assert next(iter(found)).startswith("python-reference#")


def test_sources_are_read_in_order_and_blank_texts_keep_their_numbers(write, tmp_path):
    write("texts/a.jsonl", '{"text": " \\u2003\\n"}\n{"text": "one"}\n{"text": ""}\n{"text": "two"}')
    write("texts/b.txt", "three")
    config = DataConfig(data=str(tmp_path / "texts"))
    sources = find_sources(config.data, config)
    documents = list(read_documents(sources, config))
    assert [(d.id, d.source, d.text) for d in documents] == [
        ("a.jsonl#1", "a.jsonl", "one"),
        ("a.jsonl#3", "a.jsonl", "two"),
        ("b.txt#0", "b.txt", "three"),
    ]
    assert [d.id for d in read_documents(sources[::-1], config)] == ["b.txt#0", "a.jsonl#1", "a.jsonl#3"]


def test_files_are_opened_when_their_turn_comes(write):
    config = DataConfig()
    sources = [Source("a", "text", str(write("a.txt", "one\n\ntwo")), ""), Source("b", "text", "nowhere.txt", "")]
    documents = read_documents(sources, config)
    assert [next(documents).text, next(documents).text] == ["one", "two"]


# ---------------------------------------------------------------------------------------------- examples of a task

PAIRS = [{"prompt": "2 + 2?", "completion": " 4", "n": 1}, {"prompt": "1 + 2?", "completion": " 3", "n": 2}]
CHATS = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]}]


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def write_json(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows), encoding="utf-8")


def write_arrow(path: Path, rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table)


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = [";".join(rows[0]), *(";".join(map(str, row.values())) for row in rows)]
    path.write_text("\n".join(lines), encoding="utf-8")


WRITERS = {
    "a.jsonl": write_json_lines,
    "a.json": write_json,
    "a.arrow": write_arrow,
    "a.parquet": write_parquet,
    "a.csv": write_csv,
}


def read_examples(path: Path, **settings: Any) -> list[Any]:
    config = DataConfig(data=str(path), **settings)
    return list(read_documents(find_sources(str(path), config), config))


@pytest.mark.parametrize("name", WRITERS)
def test_prompts_and_completions_are_read_from_tables(tmp_path, name):
    WRITERS[name](tmp_path / name, PAIRS)
    first, second = read_examples(tmp_path / name)
    assert (first.text, first.prompt, first.scored_text, second.id) == ("2 + 2? 4", "2 + 2?", " 4", f"{name}#1")
    assert read_examples(tmp_path / name, loss_on="all")[0].scored_text == "2 + 2? 4"
    assert [d.text for d in read_examples(tmp_path / name, text_column="prompt")] == ["2 + 2?", "1 + 2?"]


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "a.csv"])
def test_conversations_of_sharegpt_are_read_from_tables(tmp_path, name):
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes?"}]
    WRITERS[name](tmp_path / name, [{"id": "x", "conversations": turns}])
    (chat,) = read_examples(tmp_path / name)
    assert list(chat.messages) == CHATS[0]["messages"]


def test_rows_that_are_left_out_can_be_had_too(write):
    rows = [{"prompt": "2 + 2?", "completion": " "}, PAIRS[0], {"text": " "}]
    path = write("a.jsonl", "\n".join(map(json.dumps, rows)))
    config = DataConfig(data=str(path))
    sources = find_sources(config.data, config)
    first, second = read_rows(sources, config)
    assert first == LeftOut("a.jsonl#0 (row 1 of a.jsonl)", "the completion is blank")
    assert [second] == list(read_documents(sources, config))


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "a.csv"])
def test_chats_are_read_from_tables(tmp_path, name):
    WRITERS[name](tmp_path / name, CHATS)
    (chat,) = read_examples(tmp_path / name)
    assert list(chat.messages) == CHATS[0]["messages"]
    assert chat.scored_text == "Yes?"
