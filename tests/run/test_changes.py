"""Which files of a run changed."""

import pytest

from textgen.files import write_json
from textgen.run.changes import changed_files, name_changes, recorded_inputs

BEFORE = {"same.txt": [3, "a"], "grown.txt": [1204, "b"], "edited.txt": [7, "c"], "gone.txt": [1, "d"]}
NOW = {"same.txt": [3, "a"], "grown.txt": [1210, "x"], "edited.txt": [7, "y"], "added.txt": [2, "e"]}


def test_each_change_of_a_file_has_its_words():
    assert changed_files(BEFORE, NOW) == [
        "added.txt: new",
        "edited.txt: other content",
        "gone.txt: missing now",
        "grown.txt: 1,204 bytes then, 1,210 now",
    ]
    assert changed_files(NOW, NOW) == []


def test_a_name_that_a_terminal_would_obey_is_printed_without_its_commands():
    assert changed_files({"a\x1b[31m\u202eb": [1, "x"]}, {}) == ["a\ufffd[31m\ufffdb: missing now"]


@pytest.mark.parametrize("damaged", [None, 5, [], {}, ["x"], [None, "b"], [[], []]])
def test_a_damaged_record_of_a_file_is_a_change(damaged):
    [found] = changed_files({"a.txt": damaged}, {"a.txt": [5, "b"]})
    assert found.startswith("a.txt: ")


def test_inputs_are_those_of_the_checkpoint_or_else_of_its_run(tmp_path):
    checkpoint = tmp_path / "checkpoints/step-00000001"
    checkpoint.mkdir(parents=True)
    assert recorded_inputs(checkpoint) == {}
    write_json(tmp_path / "environment.json", {"inputs": {"data": BEFORE, "model": 5}})
    assert recorded_inputs(checkpoint) == {"data": BEFORE}
    write_json(checkpoint / "environment.json", {"inputs": {"data": NOW}})
    assert recorded_inputs(checkpoint) == {"data": NOW}
    (checkpoint / "environment.json").write_text("{")
    assert recorded_inputs(checkpoint) == {"data": BEFORE}


def test_only_some_files_of_what_changed_are_named(tmp_path):
    checkpoint = tmp_path / "checkpoints/step-00000001"
    now = {f"{i}.txt": [i, "x"] for i in range(9)}
    assert name_changes(checkpoint, ["data"], {"data": now}) == "", "nothing is recorded"
    write_json(tmp_path / "environment.json", {"inputs": {"data": {}, "model": {"m.bin": [1, "a"]}}})
    named = name_changes(checkpoint, ["data"], {"data": now, "model": {}})
    assert named == f" ({'; '.join(f'{i}.txt: new' for i in range(6))}; and 3 more)"
    assert name_changes(checkpoint, ["model", "settings"], {"model": {"m.bin": [1, "b"]}}) == " (m.bin: other content)"
    assert name_changes(checkpoint, ["tokenizer"], {"model": {}}) == ""
