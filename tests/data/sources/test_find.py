"""What --data can name: files, directories, globs, bundled corpora and hub datasets; each is fingerprinted."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import error_message, texts

from textgen.data.config import DataConfig
from textgen.data.formats.table import SUPPORTED
from textgen.data.sources import find_data
from textgen.errors import UserError


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


def test_text_to_retain_is_found_and_no_part_of_the_fingerprint(write):
    train, general = write("train.txt", "text"), write("general.txt", "more")
    plain, found = (find_data(DataConfig(data=str(train), **more)) for more in ({}, {"retain_data": str(general)}))
    assert plain.retained is None
    assert found.retained
    assert [source.location for source in found.retained] == [str(general)]
    assert (found.held_out, found.fingerprint) == (None, plain.fingerprint)
    with pytest.raises(UserError, match=r"--retain-data nowhere\.txt: there is no such file"):
        find_data(DataConfig(data=str(train), retain_data="nowhere.txt"))


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


def test_an_unknown_extension_is_named_with_the_supported_ones(write):
    path = write("notes.docx", "x")
    assert error_message(path) == f"--data {path}: unknown format '.docx'. Supported formats: {SUPPORTED}."


def test_without_any_text_file_the_supported_extensions_are_named(write, tmp_path):
    write("other/readme.md", "x")
    for data in (tmp_path / "other", tmp_path / "other" / "*", tmp_path / "nowhere" / "*.txt"):
        assert error_message(data) == f"--data {data}: no file with a supported extension ({SUPPORTED}) found there."


def test_all_bad_files_of_a_directory_are_named_at_once(write, tmp_path):
    write("texts/good.txt", "x")
    empty, binary = write("texts/empty.txt", ""), write("texts/binary.txt", "\0")
    assert error_message(tmp_path / "texts").splitlines() == [
        "2 problems:",
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


@pytest.mark.parametrize("name", ["a::b.txt", "zip://x.txt", "c:foo.txt", "https://here/a.txt", "some-one/some-data"])
def test_what_exists_is_a_path_whatever_it_looks_like(write, monkeypatch, tmp_path, name):
    path = write(name if name.endswith(".txt") else f"{name}/a.txt", "here")
    monkeypatch.chdir(tmp_path)
    assert list(texts(name).values()) == ["here"]
    monkeypatch.chdir(path.parent)
    assert list(texts(path.name).values()) == ["here"]


def test_the_working_directory_may_look_like_a_pattern(write, monkeypatch):
    for name, content in {"a.txt": "here", "a.jsonl": '{"text": "here"}', "a.csv": "text\nhere"}.items():
        path = write(f"project [v2] {{x}}*/{name}", content)
        monkeypatch.chdir(path.parent)
        assert texts(name) == texts(path) == {f"{name}#0": "here"}


def test_notes_say_what_was_passed_over_and_found_for_both_flags(write, tmp_path):
    write("train/a.csv", "id;text\n1;one\n")
    write("train/b.csv", "text\ntwo\n")
    write("train/readme.md", "x")
    write("held-out/a.txt", "x")
    write("held-out/LICENSE", "x")
    config = DataConfig(data=str(tmp_path / "train"), validation_data=str(tmp_path / "held-out"))
    assert find_data(config).notes == (
        f"{tmp_path}/train: passed over 1 file of other formats (.md 1)",
        f"{tmp_path}/train: columns are separated by ';' in 1 of 2 .csv files",
        f"{tmp_path}/held-out: passed over 1 file of other formats (no extension 1)",
    )


def test_the_problems_of_both_flags_are_in_one_message(write):
    config = DataConfig(data=str(write("a.txt", "")), validation_data="nowhere.txt")
    with pytest.raises(UserError) as caught:
        find_data(config)
    assert [problem.split()[0] for problem in caught.value.problems] == ["--data", "--validation-data"]


def test_a_thousand_small_files_are_found_and_read(write, tmp_path):
    for i in range(1000):
        write(f"texts/{i:04}.txt", f"document {i}\nsecond line\n")
    found = texts(tmp_path / "texts")
    assert list(found)[::999] == ["0000.txt#0", "0999.txt#0"]
    assert len(found) == 1000


def test_a_mixture_has_the_sources_of_its_parts(mixed, write):
    write("other/b.txt", "from another b")
    found = find_data(DataConfig(data=f"{mixed}/:3,{mixed.parent}/other:1,markov:seed=1,states=4:4"))
    assert [(part.weight, len(sources)) for part, sources in found.parts] == [(0.375, 4), (0.125, 1), (0.5, 1)]
    assert found.train == [source for _, sources in found.parts for source in sources]
    # Names differ, also where files of two parts have the same one.
    assert len({source.name for source in found.train}) == 6
    assert f"{mixed}/b.txt" in {source.name for source in found.train}
    assert "37.5%" in found.notes[0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{texts}/a:1,{texts}:1", "deep.JSONL: in 2 parts of the mixture"),
        ("{texts}/a:1,{texts}/no.txt:1,{texts}/b.txt:2,{texts}/readme.md:1", "2 problems"),
        ("{texts}/a:1,{texts}/b.txt:0", "a weight must be a positive number"),
    ],
)
def test_problems_of_the_parts_are_reported_together(mixed, data, message):
    with pytest.raises(UserError, match=message):
        find_data(DataConfig(data=data.format(texts=mixed)))


@pytest.mark.parametrize("setting", ["validation_data", "retain_data"])
def test_only_training_data_can_be_a_mixture(mixed, setting):
    with pytest.raises(UserError, match="only --data can be a mixture"):
        find_data(DataConfig(**{setting: f"{mixed}/a:1,{mixed}/b.txt:1"}))
