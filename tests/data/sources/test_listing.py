"""The files of directories and patterns: links, saved datasets, and what is passed over."""

import json
import os
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict, load_from_disk
from reading import error_message, texts

from textgen.data.sources.listing import list_files
from textgen.errors import UserError


def names(data: object) -> list[str]:
    listing = list_files(str(data))
    assert listing is not None
    return [name for _, name in listing.files]


def notes(data: object) -> list[str]:
    listing = list_files(str(data))
    assert listing is not None
    return listing.notes


def test_names_are_paths_below_the_directory_in_a_fixed_order(write, tmp_path):
    for name in ("b.txt", "a/z.txt", "a/b/c.txt", "a.jsonl", "a/.hidden/x.txt", ".x.txt"):
        write(f"texts/{name}", "x")
    assert names(tmp_path / "texts") == ["a/b/c.txt", "a/z.txt", "a.jsonl", "b.txt"]
    assert names(tmp_path / "texts" / "a" / "z.txt") == ["z.txt"]
    assert list_files("nowhere.txt") is None


def test_files_of_other_formats_are_counted_by_extension(write, tmp_path):
    for name in ("a.txt", "b.md", "c/d.md", "e.docx", "f", "g.txt.bz2", "h.parquet.gz", ".hidden.md", ".git/config"):
        write(f"texts/{name}", "x")
    expected = "passed over 6 files of other formats (.md 2, .docx 1, no extension 1, .bz2 1, .parquet.gz 1)"
    for data in (tmp_path / "texts", tmp_path / "texts" / "**"):
        [note] = notes(data)
        assert note.startswith(f"{data}: passed over 6 files of other formats (")
        assert sorted(note.split("(")[1].split(", ")) == sorted(expected.split("(")[1].split(", ")) or ".bz2 1)" in note
    assert notes(tmp_path / "texts" / "*.txt") == []


def test_linked_directories_are_read_once_and_loops_end(write, tmp_path):
    write("texts/.elsewhere/a.txt", "linked")
    write("texts/b.txt", "own")
    (tmp_path / "texts/link").symlink_to(tmp_path / "texts/.elsewhere")
    (tmp_path / "texts/link-2").symlink_to(tmp_path / "texts/.elsewhere")
    (tmp_path / "texts/up").symlink_to(tmp_path / "texts")
    (tmp_path / "texts/.elsewhere/loop").symlink_to(tmp_path / "texts/.elsewhere")
    assert names(tmp_path / "texts") == ["b.txt", "link/a.txt"]
    assert names(tmp_path / "texts" / "**" / "*.txt") == ["b.txt", "link/a.txt"]


def test_linked_files_are_files(write, tmp_path):
    (tmp_path / "texts").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "texts" / name).symlink_to(write("texts/.blobs/0123", "x"))
    assert names(tmp_path / "texts") == ["a.txt", "b.txt"]


@pytest.mark.parametrize("kind", ["file", "directory", "deep", "relative", "dangling"])
@pytest.mark.parametrize("pattern", [False, True])
def test_a_link_that_leaves_the_directory_is_refused_with_its_target(write, tmp_path, kind, pattern):
    secret = write("elsewhere/a/secret.txt", "canary")
    write("texts/own.txt", "own")
    (tmp_path / "texts/b").mkdir()
    links = {
        "file": ("link.txt", secret),
        "directory": ("link", secret.parent),
        "deep": ("b/link", secret.parent.parent),
        "relative": ("b/link.txt", Path("../../elsewhere/a/secret.txt")),
        "dangling": ("link.txt", tmp_path / "nowhere.txt"),
    }
    name, target = links[kind]
    link = tmp_path / "texts" / name
    link.symlink_to(target)
    message = error_message(tmp_path / "texts" / "**" / "*.txt" if pattern else tmp_path / "texts")
    if kind == "dangling" and pattern:  # such a link matches no pattern
        assert "canary" not in message
        return
    assert f"{link} leads to {os.path.realpath(link)}" in message
    assert f"outside of {tmp_path / 'texts'}. Only files in the directory that was named are read." in message


def test_a_link_that_the_user_names_leads_anywhere(write, tmp_path):
    target = write("elsewhere/a.txt", "linked")
    (tmp_path / "link.txt").symlink_to(target)
    (tmp_path / "link").symlink_to(target.parent)
    assert names(tmp_path / "link.txt") == ["link.txt"]
    assert names(tmp_path / "link") == ["a.txt"]
    assert names(tmp_path / "link" / "*.txt") == ["a.txt"]


def test_a_link_to_something_that_is_not_read_is_not_looked_at(write, tmp_path):
    write("texts/a.txt", "own")
    (tmp_path / "texts/README.md").symlink_to(write("readme.md", "x"))
    assert names(tmp_path / "texts") == ["a.txt"]


@pytest.mark.parametrize("name", ["../elsewhere/secret.arrow", "/etc/secret.arrow", "a/../../secret.arrow"])
def test_a_saved_dataset_lists_no_files_of_other_directories(write, tmp_path, name):
    write("elsewhere/secret.arrow", "x")
    write("saved/dataset_info.json", "{}")
    write("saved/state.json", json.dumps({"_data_files": [{"filename": name}]}))
    assert f"outside of {tmp_path / 'saved'}" in error_message(tmp_path / "saved")


def test_a_saved_dataset_is_the_files_that_it_lists(tmp_path):
    rows = [f"text {i}" for i in range(10)]
    Dataset.from_dict({"text": rows, "n": range(10)}).save_to_disk(tmp_path / "all/saved", num_shards=2)
    load_from_disk(tmp_path / "all/saved").map(lambda row: {"text": row["text"].upper()})
    assert len(list((tmp_path / "all/saved").glob("*.arrow"))) == 3, "the transformed copy is next to the files"
    expected = [f"data-0000{i}-of-00002.arrow" for i in range(2)]
    assert names(tmp_path / "all/saved") == expected
    assert names(tmp_path / "all") == [f"saved/{name}" for name in expected], "inside another directory too"
    assert list(texts(tmp_path / "all/saved").values()) == rows
    assert notes(tmp_path / "all") == []


def test_of_several_saved_splits_train_is_used_and_a_note_says_so(tmp_path):
    splits = {name: Dataset.from_dict({"text": [name]}) for name in ("test", "train", "validation")}
    DatasetDict(splits).save_to_disk(tmp_path / "saved")
    assert list(texts(tmp_path / "saved").values()) == ["train"]
    assert notes(tmp_path / "saved") == [f"{tmp_path}/saved: the split train is used, and not test, validation"]
    assert list(texts(tmp_path / "saved" / "validation").values()) == ["validation"]
    (tmp_path / "saved/dataset_dict.json").write_text('{"splits": ["test", "validation"]}', encoding="utf-8")
    assert "none of its splits is called train (test, validation). Name the" in error_message(tmp_path / "saved")


@pytest.mark.parametrize(
    "state", ["", "[]", "{}", '{"_data_files": ["a\\u0000.arrow"]}', '{"_data_files": [5]}', '{"_data_files": null}']
)
def test_a_damaged_saved_dataset_is_an_error(write, tmp_path, state):
    write("saved/dataset_info.json", "{}")
    path = write("saved/state.json", state)
    assert error_message(tmp_path / "saved").startswith(f"--data {path}: damaged.")


def test_a_device_is_refused(tmp_path):
    for name in ("/dev/null", "/dev/stdin"):
        if not Path(name).is_file():
            assert "not a file but a pipe or a device" in error_message(name)
    os.mkfifo(tmp_path / "pipe")
    expected = "which cannot be read several times. Save the text to a file first, and name that."
    assert error_message(tmp_path / "pipe").endswith(expected)


def test_a_home_directory_that_does_not_exist_is_named():
    with pytest.raises(UserError, match=r"--data ~no-such-user/a: there is no home directory\. Write out"):
        list_files("~no-such-user/a")


def test_a_file_of_metadata_is_not_text_and_says_so(write, tmp_path):
    write("texts/a.txt", "x")
    path = write("texts/package.json", json.dumps({"name": "x", "version": 1}))
    expected = f"--text-column text: --data {path} has no such column. It has: name, version. "
    assert error_message(tmp_path / "texts").startswith(expected)


def test_a_name_that_the_system_refuses_is_an_error():
    assert error_message("some text " * 100).endswith("cannot be read: File name too long.")
