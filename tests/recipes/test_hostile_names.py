"""Names and texts with control characters, markup and marks of direction, through a whole run."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from running import LIGHT, QUICK, tree

from textgen.model.locate import BUNDLED_MODELS

ESC, BIDI = "\x1b[31m", "\u202e\u2066\u200f\u061c"
NASTY = f"{ESC}\x9b2J\r{BIDI}<img src=x onerror=alert(1)>"
FORBIDDEN = set("\x1b\r\x07\x08\x9b\u202e\u2066\u200f\u061c")


def check_printed(text: str) -> None:
    assert not set(text) & FORBIDDEN, [line for line in text.splitlines() if set(line) & FORBIDDEN]


@pytest.mark.slow
def test_a_whole_run_shows_them_and_nothing_interprets_them(run_recipe, text_file, tmp_path) -> None:
    home = tmp_path / f"home {NASTY.replace('/', '')}"
    model, data = home / f"model{NASTY}", home / f"data{NASTY}"
    shutil.copytree(BUNDLED_MODELS["tiny-gpt2"], model)
    data.mkdir()
    documents = text_file.read_text(encoding="utf-8").split("\n\n")
    rows = [{"text": f"{NASTY} {document} {NASTY}", f"other{NASTY}": 1} for document in documents]
    (data / f"texts{NASTY}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (data / f"passed-over{NASTY}.md{ESC}").touch()
    flags = [*QUICK, "--model", model, "--data", data, "--run-dir", home / f"run{NASTY}", "--strategies", "greedy"]
    ran = run_recipe("finetune", *flags, "--sample-every", 3)
    check_printed(ran.out + ran.error)
    assert r"\x1b[31m" in ran.out
    files = tree(home / f"run{NASTY}")
    for name in ("report.html", "README.md"):
        text = files[name].decode()
        check_printed(text)
        assert r"\x1b" in text
        assert r"\u202e" in text
    assert b"<img" not in files["report.html"]
    assert b"<img" not in files["README.md"].replace(b"\\<img", b"")
    assert yaml.safe_load(files["config.yaml"])["data"] == str(data), "and is what to use"
    assert json.loads(files["evaluation/documents.jsonl"].splitlines()[0])["id"].startswith(f"texts{NASTY}.jsonl#")


@pytest.mark.parametrize(
    "flags",
    [
        ["--model", f"./{NASTY}"],
        ["--data", f"./{NASTY}"],
        ["--run-dir", f"/proc/{NASTY}"],
        ["--text-column", NASTY],
        ["--strategies", NASTY],
        ["--optimizer", NASTY],
        ["--config", NASTY],
        [f"--{NASTY}", "x"],
        [NASTY],
        ["--chat-template", NASTY],
        ["--lora-targets", NASTY, "--method", "lora"],
        ["--resume", NASTY],
        ["--steps", NASTY],
    ],
)
def test_error_messages_show_them(run_recipe, tmp_path, flags) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a\\u001b[31m\\u202e": "x"}\n', encoding="utf-8")
    data = ["--data", "rows.jsonl"] if "--text-column" in flags else []
    ran = run_recipe("finetune", *LIGHT, *data, "--run-dir", "run", *flags, cwd=tmp_path, check=False)
    assert ran.code == 2
    check_printed(ran.out + ran.error)
    assert r"\x1b" in ran.error or "\\" in ran.error
    status = tmp_path / "run/status.json"
    if status.exists():
        check_printed(json.loads(status.read_text(encoding="utf-8"))["message"])


def test_names_in_yaml_and_in_data_are_shown_too(run_recipe, tmp_path) -> None:
    (tmp_path / "c.yaml").write_text('"ste\\e[31mps\\u202e": 3\ndata: "x\\e[31m"\n', encoding="utf-8")
    ran = run_recipe("finetune", "--config", tmp_path / "c.yaml", check=False)
    check_printed(ran.out + ran.error)
    assert r"unknown key 'ste\x1b[31mps\u202e'" in ran.error
    Path(tmp_path / "table.csv").write_text(f"a{ESC},b{BIDI}\n1,2\n", encoding="utf-8")
    ran = run_recipe("finetune", *LIGHT, "--data", tmp_path / "table.csv", "--run-dir", tmp_path / "r", check=False)
    check_printed(ran.out + ran.error)
    assert r"It has: a\x1b[31m, b\u202e" in ran.error
