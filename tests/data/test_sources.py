"""Every format, and every way in which a file can be unusable."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textgen.data.config import DataConfig
from textgen.data.readers import held_out_documents, read_documents
from textgen.data.sources import find_data, find_sources
from textgen.errors import UserError

MEBIBYTE = 1 << 20


def texts(data: object, **settings: object) -> dict[str, str]:
    """Id → text of every document."""
    config = DataConfig(data=str(data), **settings)  # type: ignore[arg-type]
    documents = list(read_documents(find_sources(config.data, config), config))
    found = {document.id: document.text for document in documents}
    assert len(found) == len(documents), "two documents have the same id"
    return found


def error_message(data: object, **settings: object) -> str:
    with pytest.raises(UserError) as caught:
        texts(data, **settings)
    return str(caught.value)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes | str], Path]:
    def write(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("one\ntwo\n\nthree\n", ["one\ntwo", "three"]),
        ("one\ntwo\n \t \n\n\nthree", ["one\ntwo", "three"]),
        ("one\r\ntwo\r\n\r\nthree\r\n", ["one\ntwo", "three"]),
        ("\ufeffone\n\ntwo", ["one", "two"]),
        ("\n\n  indented\n    more\n\n", ["  indented\n    more"]),
        ("a page\fbreak and a line\u2028separator\n\nb", ["a page\fbreak and a line\u2028separator", "b"]),
        ("naïve 🙂\n\n日本", ["naïve 🙂", "日本"]),
    ],
)
def test_blank_lines_separate_the_documents_of_a_text_file(write, content, expected):
    path = write("plays.txt", content)
    assert texts(path) == {f"plays.txt#{i}": text for i, text in enumerate(expected)}


@pytest.mark.parametrize("content", ["one\ntwo\n \nthree\n", "\ufeffone\r\ntwo\r\n \r\nthree\r\n"])
def test_a_text_file_can_be_one_document(write, content):
    assert texts(write("plays.txt", content), one_document=True) == {"plays.txt#0": "one\ntwo\n \nthree\n"}


def test_paragraphs_may_be_longer_than_what_is_read_at_once(write):
    long = "\n".join(f"line {i} " + "x" * 1000 for i in range(12 * 1024))
    found = texts(write("long.txt", f"{long}\n\nshort"))
    assert found == {"long.txt#0": long, "long.txt#1": "short"}


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_line_of_json_is_a_document(write, ending):
    lines = ['{"text": "one\\n\\ntwo", "n": 1}', "", '{"text": "   "}', '{"text": null}', '{"text": "naïve \\u00e9"}']
    path = write("rows.jsonl", ending.join(lines))
    assert list(texts(path).values()) == ["one\n\ntwo", "naïve é"]


def test_a_row_of_a_table_is_a_document_quoted_newlines_included(write):
    path = write("rows.csv", 'n,body\n1,"one\n\n""two"", and"\n2,three\n3,\n4,NA\n')
    assert list(texts(path, text_column="body").values()) == ['one\n\n"two", and', "three", "NA"]


def test_a_row_of_a_parquet_file_is_a_document(tmp_path):
    pq.write_table(pa.table({"text": ["one", None, " ", "two"], "n": [1, 2, 3, 4]}), tmp_path / "rows.parquet")
    assert texts(tmp_path / "rows.parquet") == {"rows.parquet#0": "one", "rows.parquet#3": "two"}


@pytest.fixture
def mixed(write, tmp_path) -> Path:
    """A directory of every format, nested, with files that should not be read."""
    write("texts/b.txt", "from b")
    write("texts/a/deep.JSONL", '{"text": "from deep"}')
    write("texts/c.csv", "text\nfrom c\n")
    write("texts/.hidden.txt", "hidden")
    write("texts/.git/config.txt", "hidden")
    write("texts/readme.md", "# not data")
    pq.write_table(pa.table({"text": ["from d"]}), tmp_path / "texts" / "d.parquet")
    return tmp_path / "texts"


EXPECTED = {"a/deep.JSONL#0": "from deep", "b.txt#0": "from b", "c.csv#0": "from c", "d.parquet#0": "from d"}


def test_a_directory_of_several_formats_is_read_in_sorted_order(mixed):
    assert texts(mixed) == EXPECTED
    assert list(texts(mixed)) == list(EXPECTED)


def test_a_directory_is_found_from_the_home_directory_too(mixed, monkeypatch):
    monkeypatch.setenv("HOME", str(mixed.parent))
    assert texts("~/texts") == EXPECTED
    assert texts("~/texts/b.txt") == {"b.txt#0": "from b"}


def test_a_hidden_directory_is_read_if_it_is_named(write):
    assert texts(write(".corpus/a.txt", "here").parent) == {"a.txt#0": "here"}


def test_a_glob_reads_what_it_matches_and_distinguishes_files_of_the_same_name(mixed, write, monkeypatch):
    write("texts/a/b.txt", "from a/b")
    assert texts(mixed / "**" / "*.txt") == {"a/b.txt#0": "from a/b", "b.txt#0": "from b"}
    assert texts(mixed / "[bc].*") == {"b.txt#0": "from b", "c.csv#0": "from c"}
    monkeypatch.chdir(mixed)
    assert texts("*.csv") == {"c.csv#0": "from c"}
    assert texts("./*/*.txt") == {"b.txt#0": "from a/b"}
    assert texts("**/b.txt") == {"a/b.txt#0": "from a/b", "b.txt#0": "from b"}


def test_a_file_whose_name_looks_like_a_glob_is_that_file(write):
    assert texts(write("what[1]?.txt", "here")) == {"what[1]?.txt#0": "here"}


def test_the_fingerprint_depends_on_names_and_contents_only(write, tmp_path):
    def fingerprint() -> str:
        config = DataConfig(data=str(tmp_path / "texts"))
        return find_data(config).fingerprint

    path = write("texts/a.txt", "one")
    first = fingerprint()
    path.touch()
    assert fingerprint() == first
    path.write_text("two", encoding="utf-8")
    second = fingerprint()
    path.rename(path.with_name("b.txt"))
    assert len({first, second, fingerprint()}) == 3


def test_the_bundled_corpus_is_read_by_its_name():
    found = texts("python-reference")
    assert len(found) > 150
    assert next(iter(found)).startswith("python-reference#")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty."),
        (b" \n\t\r\n " * 1000, "the file contains only white space."),
        (b"abc\0def", "byte 3 is NUL, so this is a binary file, not text."),
        (b"a" * MEBIBYTE + b"b\0", f"byte {MEBIBYTE + 1} is NUL"),
        (b"caf\xe9 au lait", "not UTF-8 at byte 3 (0xe9)"),
        (b"a\n" * (3 * MEBIBYTE // 2) + b"caf\xe9", f"not UTF-8 at byte {3 * MEBIBYTE + 3} (0xe9)"),
        (b"a" * (MEBIBYTE - 1) + b"\xe9 au lait", f"not UTF-8 at byte {MEBIBYTE - 1} (0xe9)"),
        (b"a" * MEBIBYTE + b"\xe9 au lait", f"not UTF-8 at byte {MEBIBYTE} (0xe9)"),
        (b"a" * (MEBIBYTE - 2) + b"\xe2\x82\x28", f"not UTF-8 at byte {MEBIBYTE - 2} (0xe2)"),
        (b"the end is cut: \xe2\x82", "not UTF-8 at byte 16 (0xe2)"),
        (b"a" * (MEBIBYTE - 1) + b"\xf0", f"not UTF-8 at byte {MEBIBYTE - 1} (0xf0)"),
    ],
)
def test_a_file_that_is_not_text_is_named_with_the_byte(write, content, expected):
    path = write("plays.txt", content)
    message = error_message(path)
    assert message.startswith(f"--data {path}: {expected}")
    if "UTF-8" in expected:
        assert "iconv -f LATIN1 -t UTF-8 plays.txt > converted.txt" in message
        with pytest.raises(UnicodeDecodeError) as decoding:
            content.decode()
        assert int(expected.split()[4]) == decoding.value.start


def test_characters_may_cross_the_chunks_that_are_read(write):
    content = "a" * (MEBIBYTE - 2) + "€" + "b" * (MEBIBYTE - 3) + "🙂"
    assert texts(write("plays.txt", content)) == {"plays.txt#0": content}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", '{"text": "é"}\n\n{"text": "b"\n', "cannot be read as json: line 3 (byte 16) is not valid JSON"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', "cannot be read as json: line 2 (byte 14) is not a JSON object."),
        ("a.jsonl", '{"text": "\\ud800"}', "cannot be read as json: "),
        ("a.csv", 'text\n"never closed\n', "cannot be read as csv: "),
        ("a.csv", "text,n\na,1\nb,2,3\n", "cannot be read as csv: "),
        ("a.parquet", b"PAR1 and nothing else", "cannot be read as parquet: "),
        ("a.parquet", "text\n", "not a Parquet file: it does not start with PAR1. Check the file extension."),
    ],
)
def test_a_damaged_table_is_named_with_the_line(write, name, content, expected):
    path = write(name, content)
    assert error_message(path).startswith(f"--data {path}: {expected}")


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", '{"body": "x", "title": "y"}'), ("a.csv", "body,title\nx,y\n")],
)
def test_a_missing_column_is_named_with_the_existing_ones(write, name, content):
    path = write(name, content)
    message = error_message(path, text_column="txt")
    assert message == f"--text-column txt: --data {path} has no such column. It has: body, title."


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [("a.jsonl", '{"text": 5}', "int"), ("a.jsonl", '{"text": ["a"]}', "list"), ("a.csv", "text\n1.5\n", "float")],
)
def test_a_column_that_is_not_text_is_an_error(write, name, content, kind):
    path = write(name, content)
    assert error_message(path) == f"--text-column text: row 0 of {path}: the value is of type {kind}, not text."


def test_an_unknown_extension_is_named_with_the_supported_ones(write):
    path = write("notes.docx", "x")
    assert (
        error_message(path)
        == f"--data {path}: unknown format '.docx'. Supported formats: .txt, .jsonl, .csv, .parquet."
    )


def test_without_any_text_file_the_supported_extensions_are_named(write, tmp_path):
    write("other/readme.md", "x")
    for data in (tmp_path / "other", tmp_path / "other" / "*", tmp_path / "nowhere" / "*.txt"):
        assert (
            error_message(data)
            == f"--data {data}: no file with a supported extension (.txt, .jsonl, .csv, .parquet) found there."
        )


def test_all_bad_files_of_a_directory_are_named_at_once(write, tmp_path):
    write("texts/good.txt", "x")
    empty, binary = write("texts/empty.txt", ""), write("texts/binary.txt", "\0")
    assert error_message(tmp_path / "texts").splitlines() == [
        f"- --data {binary}: byte 0 is NUL, so this is a binary file, not text.",
        f"- --data {empty}: the file is empty.",
    ]


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        ("python_reference", "Did you mean 'python-reference'?"),
        ("docstring", "Did you mean 'docstrings'?"),
        ("nowhere.txt", "Check the path; it is read from the current directory."),
        ("./nowhere", "Check the path"),
        ("/nowhere/at/all", "Check the path"),
        ("two words", "Check the path"),
    ],
)
def test_a_missing_file_comes_with_a_suggestion(data, hint):
    assert error_message(data).startswith(f"--data {data}: there is no such file or directory. {hint}")


@pytest.mark.parametrize("data", ["wikitext", "some-one/some-data", "some-one/some-data:validation"])
def test_a_hub_dataset_without_a_network_is_a_user_error(data):
    message = error_message(data)
    assert message.startswith(f"--data {data}: not a file, directory or bundled corpus (python-reference, docstrings),")
    assert "cannot be opened as a hub dataset: " in message


def test_held_out_documents_are_all_of_the_validation_data_or_the_split_of_the_data(write):
    data = write("train.txt", "\n\n".join(f"Document number {i}." for i in range(100)))
    held_out = write("held-out.txt", "one\n\ntwo")
    named = held_out_documents(DataConfig(data=str(data), validation_data=str(held_out)))
    assert [document.text for document in named] == ["one", "two"]
    split = held_out_documents(DataConfig(data=str(data), validation_fraction=0.2))
    assert [d.text for d in split] == [t for i, t in texts(data).items() if t in {d.text for d in split}]
    assert 5 < len(split) < 40


def test_no_held_out_document_is_an_error_that_names_the_flag(write):
    path = write("train.txt", "only one document")
    with pytest.raises(
        UserError, match=r"--validation-fraction 1e-09: no document of .* falls into the validation split"
    ):
        held_out_documents(DataConfig(data=str(path), validation_fraction=1e-9))
    with pytest.raises(UserError, match=r"--validation-data nowhere\.txt: there is no such file"):
        held_out_documents(DataConfig(data=str(path), validation_data="nowhere.txt"))
