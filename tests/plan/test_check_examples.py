"""Examples that cannot be trained on or scored are refused with the other problems, and the others are shown."""

import json
from pathlib import Path
from typing import Any

import pytest

from textgen.data.config import DataConfig
from textgen.data.readers import training_documents
from textgen.errors import UserError

PAIRS = [{"prompt": f"{i} + 1 =", "completion": f" {i + 1}"} for i in range(40)]
CHATS = [
    {"messages": [{"role": "user", "content": f"Say {i}"}, {"role": "assistant", "content": f"{i}!"}]}
    for i in range(40)
]
TEXTS = [{"text": f"Text {i}."} for i in range(40)]
TEMPLATES = {
    "good": "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}",
    "endless": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
    "silent": "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
    "broken": "{% for m in messages %}\n{{ m.content }}\n{% endfo %}",
    "strict": "{% if messages[0].content == 'Say 3' %}{{ raise_exception('not three') }}{% endif %}"
    "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}",
}


@pytest.fixture(autouse=True)
def _files() -> None:
    """Data and templates in the current directory."""
    for name, rows in {"pairs": PAIRS, "chats": CHATS, "texts": TEXTS}.items():
        Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    for name, template in TEMPLATES.items():
        Path(f"{name}.jinja").write_text(template, encoding="utf-8")


def problems(checked: Any, *flags: object, recipe: str = "finetune") -> list[str]:
    with pytest.raises(UserError) as caught:
        checked(*flags, recipe=recipe)
    return caught.value.problems


def with_template(name: str) -> tuple[str, str]:
    return "--chat-template", f"{name}.jinja"


def test_all_problems_of_examples_are_in_one_message_with_the_others(checked):
    flags = ("--data", "pairs.jsonl", "--retain-data", "chats.jsonl", "--convention", "strided", "--block-size", 999)
    found = problems(checked, *flags)
    assert [problem.split(":")[0] for problem in found] == [
        "--convention strided with --data pairs.jsonl",
        "--convention strided with --retain-data chats.jsonl",
        "--model tiny-gpt2",
        "--block-size 999",
    ]
    assert "no chat template, which the chats of --retain-data chats.jsonl need" in found[2]


def test_strided_scores_texts_and_whole_examples(checked):
    checked("--data", "pairs.jsonl", "--validation-data", "texts.jsonl", "--convention", "strided")
    checked("--data", "pairs.jsonl", "--convention", "strided", "--loss-on", "all")
    flags = ("--data", "texts.jsonl", "--validation-data", "pairs.jsonl", "--convention", "strided")
    for recipe in ("finetune", "evaluate"):
        (problem,) = problems(checked, *flags, recipe=recipe)
        assert problem.startswith("--convention strided with --validation-data pairs.jsonl: ")


@pytest.mark.parametrize("flag", ["--data", "--validation-data", "--retain-data"])
@pytest.mark.parametrize("recipe", ["finetune", "evaluate"])
def test_chats_need_a_template_whatever_flag_names_them(checked, flag, recipe):
    flags = (*(() if flag == "--data" else ("--data", "texts.jsonl")), flag, "chats.jsonl")
    (problem,) = problems(checked, *flags, recipe=recipe)
    assert f"chats of {flag} chats.jsonl need. Give one with --chat-template FILE" in problem
    checked(*flags, *with_template("good"), recipe=recipe)


def test_every_model_that_is_measured_needs_a_valid_template(checked, tmp_path, tokenizer, tiny_gpt2):
    tokenizer.chat_template = TEMPLATES["broken"]
    tiny_gpt2().save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    tokenizer.chat_template = None
    flags = ("--data", "chats.jsonl", "--baseline", "other", "--skip-decoding")
    first, second = problems(checked, *flags, recipe="evaluate")
    assert first.startswith("--baseline other, its chat template: line 3 is not valid Jinja")
    assert second.startswith("--model tiny-gpt2: its tokenizer has no chat template")


@pytest.mark.parametrize("data", ["chats", "pairs", "texts"])
def test_a_template_that_is_no_jinja_is_named_with_its_line(checked, data):
    (problem,) = problems(checked, "--data", f"{data}.jsonl", *with_template("broken"))
    assert problem.startswith("--chat-template broken.jinja: line 3 is not valid Jinja: ")


@pytest.mark.parametrize("flag", ["--data", "--validation-data"])
@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("endless", "the end of the assistant's turn is never a target in the chats of {}"),
        ("silent", "{}: no chat has"),
    ],
)
def test_wrong_targets_are_found_in_training_and_held_out_data(checked, flag, template, expected):
    flags = (*(() if flag == "--data" else ("--data", "pairs.jsonl")), flag, "chats.jsonl", *with_template(template))
    if flag == "--data":
        flags += ("--validation-data", "pairs.jsonl")
    (problem,) = problems(checked, *flags)
    assert expected.format(f"{flag} chats.jsonl") in problem


def test_a_model_that_is_only_measured_need_not_stop(checked):
    checked("--data", "chats.jsonl", *with_template("endless"), recipe="evaluate")
    checked("--data", "texts.jsonl", "--retain-data", "chats.jsonl", *with_template("endless"))


def test_a_chat_that_the_template_refuses_is_named_with_file_and_row(checked):
    (problem,) = problems(checked, "--data", "chats.jsonl", *with_template("strict"))
    assert problem.startswith("chats.jsonl#3 (row 4 of chats.jsonl): the chat template does not accept this chat: not")


def test_prompts_that_never_fit_are_refused_if_they_are_continued(checked):
    rows = [{"prompt": "word " * 300, "completion": f"{i}"} for i in range(40)]
    Path("long.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (problem,) = problems(checked, "--data", "long.jsonl")
    assert problem.startswith("--max-new-tokens 64: with as many tokens after it, none of the prompts of --data long")
    checked("--data", "long.jsonl", "--skip-decoding")
    Path("long.jsonl").write_text("\n".join(map(json.dumps, [*rows, *rows, PAIRS[0]])), encoding="utf-8")
    checked("--data", "long.jsonl")


def test_two_training_examples_are_shown(checked, capsys):
    checked("--data", "pairs.jsonl", "--validation-data", "texts.jsonl")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "what is trained on, between [[ and ]]:"
    assert lines[2] == "    <|endoftext|>0 + 1 =[[ 1<|endoftext|>]]"
    assert lines[4] == "    <|endoftext|>1 + 1 =[[ 2<|endoftext|>]]"
    assert len(lines) == 5


def test_examples_that_are_held_out_are_not_shown_as_training_examples(checked, capsys):
    checked("--data", "pairs.jsonl", "--validation-fraction", 0.6)
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  pairs")]
    assert len(shown) == 2
    trained = [d.id for d in training_documents(DataConfig(data="pairs.jsonl", validation_fraction=0.6))]
    assert shown == trained[:2]


def test_a_kind_of_held_out_examples_that_is_not_trained_on_is_shown_too(checked, capsys):
    flags = ("--data", "pairs.jsonl", "--validation-data", "chats.jsonl", *with_template("good"))
    checked(*flags)
    *_, title, _, text = capsys.readouterr().out.splitlines()
    assert title == "what is scored of --validation-data chats.jsonl:"
    assert text == "    user: Say 0<|endoftext|>\\nassistant: [[0!<|endoftext|>\\n]]"


def test_both_kinds_of_training_examples_are_shown(checked, capsys):
    rows = [*PAIRS[:3], *CHATS[:3]]
    Path("both.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    checked("--data", "both.jsonl", "--validation-data", "pairs.jsonl", *with_template("good"))
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  both")]
    assert shown == ["both.jsonl#0", "both.jsonl#3"]


def test_nothing_is_shown_of_texts_or_without_training(checked, capsys):
    checked("--data", "texts.jsonl")
    checked("--data", "pairs.jsonl", recipe="evaluate")
    assert capsys.readouterr().out == ""
