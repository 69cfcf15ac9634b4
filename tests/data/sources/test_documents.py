"""Documents of all kinds of sources, with their ids."""

from reading import texts

from textgen.data.config import DataConfig
from textgen.data.sources import Source, find_sources, read_documents
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
