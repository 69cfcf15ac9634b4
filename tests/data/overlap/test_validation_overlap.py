"""Held-out or retained text that is trained on: refused if all of it is, otherwise counted and said."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.data.cache import cache_directory
from textgen.data.config import DataConfig
from textgen.data.corpus import load_held_out
from textgen.data.overlap import validation_overlap
from textgen.data.overlap.validation_overlap import Overlap, Untrained, check_overlap, check_sources, count_overlap
from textgen.data.sources import DataSources, Source, find_data
from textgen.errors import UserError


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TEXTGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def config(write) -> Any:
    """``config(train, held_out)``: of two files with these documents."""

    def make(train: list[str], held_out: list[str]) -> DataConfig:
        files = write("train.txt", "\n\n".join(train)), write("held-out.txt", "\n\n".join(held_out))
        return DataConfig(data=str(files[0]), validation_data=str(files[1]))

    return make


def said(config: DataConfig) -> list[str]:
    lines: list[str] = []
    check_overlap(config, find_data(config), lines.append)
    return lines


def test_different_texts_are_fine_and_without_validation_data_nothing_is_counted(config, monkeypatch):
    named = config(["one", "two"], ["three"])
    check_sources(named, find_data(named))
    assert said(named) == []
    monkeypatch.setattr(validation_overlap, "count_overlap", None)
    assert said(DataConfig(data=named.data)) == []


def test_shared_documents_are_counted_on_both_sides(config):
    named = config(["one", "two", "a  b\nc", "one"], ["one", "three", "a b c", "a b  c", "four"])
    sources = find_data(named)
    text = Untrained("--validation-data", str(named.validation_data), sources.held_out or [], "")
    assert count_overlap(named, sources, text) == Overlap(5, 3, 3)
    [line] = said(named)
    assert line.startswith(f"warning: 3 of the 5 documents of --validation-data {named.validation_data} are in ")
    assert f"--data {named.data} too, 3 times." in line


def test_if_all_are_shared_the_run_is_refused(config):
    named = config(["one", "two", "three"], ["two", "one", "two"])
    check_sources(named, find_data(named))
    with pytest.raises(
        UserError, match=r"--validation-data .*: all of it is also in --data .*, so nothing would be held"
    ):
        said(named)


def test_text_to_retain_is_compared_with_what_is_trained_on(config, write):
    named = config(["one", "two", "three"], ["four"])
    retained = replace(named, retain_data=str(write("general.txt", "one\n\nfive\n\nfour")))
    [line] = said(retained)
    assert line.startswith(f"warning: 1 of the 3 documents of --retain-data {retained.retain_data} are in --data ")
    own = replace(named, retain_data=named.data)
    same = replace(named, retain_data=str(write("copy.txt", "three\n\none")))
    check_sources(same, find_data(same))
    with pytest.raises(UserError, match=r"--retain-data .*copy.txt: all of it is also in --data .*, so it would not"):
        said(same)
    with pytest.raises(UserError, match=r"--retain-data .*train.txt: all of it is also in --data"):
        check_sources(own, find_data(own))


def test_held_out_documents_of_the_data_are_not_trained_on(write):
    texts = [f"text {i}" for i in range(40)]
    data = DataConfig(data=str(write("train.txt", "\n\n".join(texts))), validation_fraction=0.3)
    held_out = [document.text for document in load_held_out(data)]
    assert held_out
    retained = replace(data, retain_data=str(write("general.txt", "\n\n".join([*held_out, "other"]))))
    assert said(retained) == []


def test_it_is_counted_once_for_the_same_content(config, monkeypatch):
    named = config(["one", "two"], ["one", "three"])
    first = said(named)
    monkeypatch.setattr(validation_overlap, "count_overlap", None)
    assert said(named) == first
    assert len(list(cache_directory("overlap").glob("*.json"))) == 1
    with pytest.raises(TypeError):
        said(config(["one", "two"], ["one", "four"]))


@pytest.mark.parametrize("damaged", ["", "[]", "3", '{"documents": 2}', None])
def test_a_damaged_count_is_counted_again(config, damaged):
    named = config(["one", "two"], ["one", "three"])
    first = said(named)
    (entry,) = cache_directory("overlap").glob("*.json")
    text = entry.read_text()
    entry.write_text(text.replace('"documents_in_train": 1', '"documents_in_train": 2') if damaged is None else damaged)
    assert entry.read_text() != text
    assert said(named) == first


def test_validation_data_without_text_is_left_to_the_corpus(write):
    files = write("train.txt", "one"), write("held-out.jsonl", '{"text": " "}')
    assert said(DataConfig(data=str(files[0]), validation_data=str(files[1]))) == []


@given(
    train=st.lists(st.sampled_from("abcdefgh"), max_size=30),
    held_out=st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=30),
)
def test_the_count_is_that_of_plain_sets(tmp_path_factory, train, held_out):
    folder = tmp_path_factory.mktemp("texts")
    for name, texts in (("train", train), ("held-out", held_out)):
        (folder / f"{name}.txt").write_text("\n\n".join(texts), encoding="utf-8")
    sources = DataSources(
        [Source("train.txt", "text", str(folder / "train.txt"), "")],
        [Source("held-out.txt", "text", str(folder / "held-out.txt"), "")],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation_overlap, "_BATCH", 4)
        found = count_overlap(DataConfig(), sources, Untrained("--validation-data", "", sources.held_out or [], ""))
    shared = set(train) & set(held_out)
    assert found == Overlap(
        len(held_out), sum(text in shared for text in held_out), sum(text in shared for text in train)
    )


@pytest.mark.parametrize(
    ("train", "held_out", "refused"),
    [
        ([("a.txt", "text", "1")], [("b.txt", "text", "1")], True),  # a copy
        ([("a.txt", "text", "1"), ("b.txt", "text", "2")], [("b.txt", "text", "2")], True),
        ([("a.txt", "text", "1")], [("a.txt", "text", "1"), ("b.txt", "text", "2")], False),
        ([("id", "hub", "1")], [("id:test", "hub", "1")], False),  # another split
        ([("id", "hub", "1")], [("id", "hub", "1")], True),
        ([("python-reference", "bundled", "1")], [("python-reference", "bundled", "1")], True),
    ],
)
def test_the_same_sources_are_refused_before_anything_is_read(train, held_out, refused):
    def sources(rows: list[tuple[str, str, str]]) -> list[Source]:
        return [Source(name, kind, name, fingerprint) for name, kind, fingerprint in rows]

    config = DataConfig(data="here", validation_data="there")
    if refused:
        with pytest.raises(UserError, match="--validation-data there: all of it is also in --data here"):
            check_sources(config, DataSources(sources(train), sources(held_out)))
    else:
        check_sources(config, DataSources(sources(train), sources(held_out)))
