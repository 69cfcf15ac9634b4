import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from textgen.errors import UserError
from textgen.files import write_json
from textgen.reporting.report import write_report

VOID = {"meta", "br", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """What a browser sees: elements, ids, attributes and text, and whether every element was closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def read(path):
    html = path.read_text(encoding="utf-8")
    return html, Page(html)


def test_the_report_of_a_run_has_every_part(run_dir):
    path = write_report(run_dir)
    assert path == run_dir / "report.html"
    _, page = read(path)
    assert "Fine-tuning lowered bits per byte from 1.92 to 1.41 (−0.51, 95 % interval −0.55 to −0.47" in page.text
    sections = ["what", "loss", "perplexity", "decoding", "continuations", "settings", "reproduce"]
    assert [name for name in page.ids if name in sections] == sections
    assert page.tags.count("svg") == 3
    assert page.tags.count("details") == 12
    assert "12 of 14 prompts" in page.text
    for said in (
        "24,576 of 3,145,728 (0.781 %)",
        "812,345",
        "2.13.0",
        "accelerate launch recipes/finetune.py",
        "rolling",
    ):
        assert said in page.text
    assert ["Seed", "0"] in page.rows
    assert ["learning_rate", "0.0003"] in page.rows
    assert ["text_column", "null"] in page.rows


def test_nothing_comes_from_elsewhere(run_dir, evaluation_dir):
    for directory in (run_dir, evaluation_dir):
        html, page = read(write_report(directory))
        assert not re.search("https?:|@import|xmlns|<link|<script|<iframe|<img", html)
        assert all(link.startswith("#") for link in page.links)
        assert len(page.ids) == len(set(page.ids))
        assert all(link[1:] in page.ids for link in page.links)


def test_the_numbers_are_those_of_the_files(run_dir):
    _, page = read(write_report(run_dir))
    perplexity = json.loads((run_dir / "evaluation" / "perplexity.json").read_text())
    for moment in ("before", "after"):
        row = next(row for row in page.rows if row and row[0] == moment and "1." in row[4])
        stated = perplexity[moment]
        low, high = stated["bits_per_byte_interval"]
        assert row[4] == f"{stated['bits_per_byte']:.3f}{low:.3f}–{high:.3f}"
        assert row[1].startswith(f"{stated['token_perplexity']:,.2f}")
        assert row[5:] == ["5,120", "3,900", "20,480"]
    after = json.loads((run_dir / "evaluation" / "decoding.json").read_text())["after"]
    table = [row for row in page.rows if len(row) == 10]
    assert [row[0] for row in table[:2]] == ["strategy", "human"]
    assert len(table) == 2 * (1 + len(after))
    shown = {re.split(r"(?<=[a-z])(?=beams|n \d|k 5)", row[0])[0]: row for row in table[2 : 1 + len(after)]}
    for row in after[:2]:
        assert f"{row['diversity']:.3f}" in shown[row["strategy"]][1]
        low, high = row["nll_interval"]
        assert shown[row["strategy"]][6].endswith(f"{row['nll']:.3f}{low:.3f}–{high:.3f}")


def test_the_strategy_closest_to_human_is_marked_in_each_column(run_dir):
    rows = [
        {"strategy": "greedy", "diversity": 0.1, "nll": 2.9, "nll_interval": [2.8, 3.05]},
        {"strategy": "nucleus", "diversity": 0.9, "nll": 2.0},
        {"strategy": "human", "diversity": 0.93, "nll": 3.0},
    ]
    write_json(run_dir / "evaluation" / "decoding.json", {"after": rows})
    _, page = read(write_report(run_dir))
    human, greedy, nucleus = (row for row in page.rows if len(row) == 10 and row[0] != "strategy")
    assert human[1] == "0.930"
    assert (greedy[1], nucleus[1]) == ("0.100", "● 0.900")
    assert (greedy[6], nucleus[6]) == ("● ≈ 2.9002.800–3.050", "2.000")
    assert human[9] == "–"


def test_what_a_model_wrote_is_shown_and_never_obeyed(run_dir, hostile):
    config = {"model": "</title><script>", "data": hostile, "method": "{{ 7*7 }}"}
    write_json(run_dir / "config.yaml", config)
    decoding = json.loads((run_dir / "evaluation" / "decoding.json").read_text())
    decoding["after"][0] |= {"strategy": "<b>x</b>", "settings": {"<i>": "</style>"}}
    write_json(run_dir / "evaluation" / "decoding.json", decoding)
    html, page = read(write_report(run_dir))
    assert "script" not in page.tags
    assert page.tags.count("style") == page.tags.count("title") - page.tags.count("svg") == 1
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", html)
    assert page.text.startswith("</title><script> fine-tuned on", len(page.text) - len(page.text.lstrip()))
    assert ["method", "{{ 7*7 }}"] in page.rows
    assert page.text.count('</style>{{7*7}} | `x` 🙂 ␀␛[31m␍ --- & "quoted" \ufffd') >= 3
    assert "<b>x</b>" in page.text


def test_whitespace_of_continuations_is_kept(run_dir):
    html, page = read(write_report(run_dir))
    assert ".text { white-space: pre-wrap" in html
    assert any(
        " through yonder window breaks?\n  It is the beam of after,\tprompt 3." in cell
        for row in page.rows
        for cell in row
    )
    assert any(row[:2] == ["beam", "ended at once"] for row in page.rows)


def test_an_evaluation_of_two_models(evaluation_dir):
    _, page = read(write_report(evaluation_dir))
    assert "gpt2 evaluated on plays" in page.text
    assert "the two cannot be told apart on this data" in page.text
    assert "loss" not in page.ids
    assert ["strategy", "baseline", "model"] in page.rows
    assert "fine-tun" not in page.text.lower()


@pytest.mark.parametrize(
    "missing",
    [
        ["evaluation/decoding.json", "evaluation/continuations.jsonl"],
        ["evaluation"],
        ["metrics.jsonl", "environment.json", "status.json", "config.yaml"],
        ["evaluation/perplexity.json", "metrics.jsonl"],
    ],
)
def test_what_is_not_there_is_said_to_be_missing(run_dir, missing):
    for name in missing:
        path = run_dir / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    _, page = read(write_report(run_dir))
    if "evaluation" in missing:
        assert "No perplexity was measured" in page.text
    if missing[0] in ("evaluation/decoding.json", "evaluation"):
        assert "Decoding strategies were not compared" in page.text
        assert "continuations" not in page.ids
    assert "None" not in page.text


def test_nulls_everywhere_are_dashes(run_dir):
    for name in ("perplexity", "decoding"):
        path = run_dir / "evaluation" / f"{name}.json"
        value = json.loads(path.read_text())
        for entry in [*value.values()] if name == "perplexity" else [row for rows in value.values() for row in rows]:
            entry |= dict.fromkeys(key for key in entry if key not in ("strategy", "convention"))
        write_json(path, value)
    _, page = read(write_report(run_dir))
    assert "None" not in page.text
    assert ["greedy", *["–"] * 9] in page.rows


def test_a_run_that_failed_says_so_and_one_that_runs_does_not(run_dir):
    assert "not complete" not in read(write_report(run_dir))[1].text
    write_json(run_dir / "status.json", {"state": "failed", "step": 120, "message": "loss is <nan>"})
    assert "not complete: failed at step 120. loss is <nan>" in read(write_report(run_dir))[1].text


def test_the_same_run_gives_the_same_bytes(run_dir):
    first = write_report(run_dir).read_bytes()
    assert write_report(run_dir).read_bytes() == first


def test_a_damaged_file_is_named(run_dir):
    (run_dir / "evaluation" / "decoding.json").write_text("{")
    with pytest.raises(UserError, match=r"decoding\.json is not JSON"):
        write_report(run_dir)
    with pytest.raises(UserError, match="is not a directory"):
        write_report(run_dir / "nowhere")


def test_what_cannot_be_told_apart_is_said_in_words(run_dir, compared_rows):
    write_json(run_dir / "evaluation" / "decoding.json", {"after": compared_rows(1)})
    _, page = read(write_report(run_dir))
    assert "Compared with the human text, by paired differences over prompts" in page.text
    assert "nll\nnot distinguishable: top_k, nucleus" in page.text.replace("\n\n", "\n") or (
        "nllnot distinguishable: top_k, nucleus" in page.text
    )
    assert "diversityall of them differ" in page.text
    assert "lengthnot distinguishable: all of them" in page.text
    assert "Compared with greedy" in page.text
    assert "diversitynot distinguishable: beam" in page.text
    assert "10 % of the human value wide takes this many prompts (there are 160): 311 for diversity" in page.text
    rows = {row[0]: row for row in page.rows if len(row) == 13}
    titles = rows["strategy"]
    top_k = next(row for name, row in rows.items() if name.startswith("top_ktop_k 40"))
    assert "≈" in top_k[titles.index("nll")]
    assert "≈" not in top_k[titles.index("diversity")]
    assert {"own nll", "judge", "MAUVE"} <= set(titles)


def test_what_truncation_keeps_is_a_table_and_a_figure(run_dir, diagnostics_rows):
    assert "diagnostics" not in read(write_report(run_dir))[1].ids
    both = {"before": diagnostics_rows, "after": diagnostics_rows}
    write_json(run_dir / "evaluation" / "diagnostics.json", both)
    _, page = read(write_report(run_dir))
    assert "diagnostics" in page.ids
    assert page.tags.count("svg") == 4
    rows = [row for row in page.rows if len(row) == 6 and row[0] == "top_ktop_k 40"]
    assert (
        rows
        == [["top_ktop_k 40", "40.038.0–40.0", "20", "0.9000.855–0.945", "2.5002.375–2.500", "0.7800.741–0.819"]] * 2
    )
