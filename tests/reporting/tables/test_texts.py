"""Samples of several steps, and continuations of several strategies, side by side."""

from textgen.files import json_line, write_bytes
from textgen.reporting.results import RunFiles
from textgen.reporting.tables import texts
from textgen.reporting.tables.texts import continuations_by_strategy, samples_by_step


def test_samples_of_a_prompt_are_side_by_side(sample_rows):
    first, second = samples_by_step(sample_rows(0, 50, 100))
    assert (first["id"], first["text"], first["steps"]) == ("texts#0", "Once 0", [0, 50, 100])
    assert [strategy for strategy, _ in second["rows"]] == ["greedy", "top_p"]
    assert second["rows"][1][1] == [" top_p of 1 at 0", " top_p of 1 at 50", " top_p of 1 at 100"]
    assert samples_by_step([]) == []


def test_of_many_steps_the_first_the_last_and_some_in_between_are_shown(sample_rows):
    [shown, _] = samples_by_step(sample_rows(*range(0, 97, 8), 99))
    assert shown["steps"] == [0, 24, 48, 72, 99]


def test_a_step_that_lacks_a_prompt_leaves_a_gap(sample_rows):
    rows = [row for row in sample_rows(0, 5) if (row["step"], row["prompt_id"]) != (5, "texts#1")]
    assert samples_by_step(rows)[1]["rows"][0][1] == [" greedy of 1 at 0", None]


def continuation(prompt, strategy, text, when="model", sample=0):
    row = {"when": when, "prompt_id": f"a#{prompt}", "prompt": f"prompt\n{prompt} ", "strategy": strategy}
    return row | {"sample": sample, "text": text, "token_ids": [1]}


def tables_of(tmp_path, rows):
    write_bytes(tmp_path / "evaluation" / "continuations.jsonl", b"".join(map(json_line, rows)))
    return continuations_by_strategy(RunFiles.read(tmp_path))


def test_continuations_of_a_prompt_are_side_by_side(tmp_path):
    rows = [continuation(0, "human", "people"), continuation(0, "greedy", "one"), continuation(0, "top_p", "two")]
    [table], note = tables_of(tmp_path, rows)
    assert (table["id"], table["text"], table["beginning"]) == ("a#0", "prompt\n0 ", "prompt 0")
    assert (table["human"], table["moments"]) == ("people", ["model"])
    assert table["rows"] == [("greedy", ["one"]), ("top_p", ["two"])]
    assert note == "1 of 1 prompts. All continuations are in evaluation/continuations.jsonl."


def test_continuations_of_two_models_are_in_the_order_of_the_comparison(tmp_path):
    rows = [continuation(0, "greedy", "later", when="after"), continuation(0, "greedy", "earlier", when="before")]
    rows.append(continuation(0, "top_p", "alone", when="after"))
    [table], _ = tables_of(tmp_path, rows)
    assert table["moments"] == ["before", "after"]
    assert table["rows"] == [("greedy", ["earlier", "later"]), ("top_p", [None, "alone"])]


def test_the_first_prompts_and_the_first_samples_are_shown_and_the_note_says_so(tmp_path, monkeypatch):
    rows = [continuation(n, "top_p", f"{n}.{sample}", sample=sample) for n in range(15) for sample in range(2)]
    monkeypatch.setattr(texts, "SHOWN", sum(len(row["prompt"] + row["text"]) for row in rows[:24:2]))
    tables, note = tables_of(tmp_path, rows)
    assert [table["rows"] for table in tables] == [[("top_p", [f"{n}.0"])] for n in range(12)]
    assert note.startswith("12 of 15 prompts, first sample of each strategy. ")
    monkeypatch.setattr(texts, "SHOWN", 0)
    assert tables_of(tmp_path, rows)[1].startswith("1 of 15 prompts"), "a single long one is shown all the same"


def test_a_long_prompt_is_shortened_in_its_heading(tmp_path):
    row = continuation(0, "greedy", "text") | {"prompt": "word " * 40}
    [table], _ = tables_of(tmp_path, [row])
    assert table["beginning"].endswith("word…")
    assert len(table["beginning"]) <= 91
    assert table["text"] == "word " * 40
