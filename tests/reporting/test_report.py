"""The report: every part, every number, and nothing that a user or a model wrote is interpreted."""

import base64
import hashlib
import json
import re
import shutil
import subprocess

import pytest
from report_page import read

from textgen.files import json_line, write_bytes, write_json
from textgen.reporting.columns import DIAGNOSTICS, shown_metrics
from textgen.reporting.jsonl import StepRecord
from textgen.reporting.report import write_report


def test_the_report_of_a_run_has_every_part(run_dir):
    path = write_report(run_dir)
    assert path == run_dir / "report.html"
    _, page = read(path)
    assert "Fine-tuning lowered bits per byte from 1.92 to 1.41 (−0.51, 95 % interval −0.55 to −0.47" in page.text
    sections = ["setup", "loss", "perplexity", "decoding", "continuations", "settings", "reproduce"]
    assert [name for name in page.ids if name in sections] == sections
    assert page.figures == {"loss", "perplexity", "decoding"}
    for text in (
        "24,576 of 3,145,728 (0.781 %)",
        "812,345",
        "2.13.0",
        "accelerate launch recipes/finetune.py",
        "rolling",
    ):
        assert text in page.text
    assert ["Seed", "0"] in page.rows
    assert ["learning_rate", "0.0003"] in page.rows
    assert ["text_column", "null"] in page.rows


def test_every_prompt_is_shown_with_every_strategy_and_both_models(run_dir):
    _, page = read(write_report(run_dir))
    decoding = json.loads((run_dir / "evaluation" / "decoding.json").read_text())
    compared = {row["strategy"] for row in decoding["after"]} - {"human"}
    assert "14 of 14 prompts." in page.text
    tables = [table for table in page.tables if table[0] == ["strategy", "before", "after"]]
    assert [f"Prompt plays.txt#{n} " in page.text for n in range(14)] == [True] * 14
    assert len(tables) == 14
    for number, table in enumerate(tables):
        prompt, human, *strategies = table[1:]
        assert prompt == ["prompt", f"ROMEO {number}:\nBut soft, what light"]
        assert human == ["human", f" through yonder window {number}"]
        assert {row[0] for row in strategies} == compared
        assert all(f"{row[0]} of after,\tprompt {number}." in row[2] for row in strategies)


def test_the_contents_are_the_sections_in_their_order(run_dir):
    html, page = read(write_report(run_dir))
    sections = re.findall(r'<section id="(\w+)"', html)
    assert len(sections) >= 7
    assert [link.removeprefix("#") for link in page.links if link.startswith("#")][: len(sections)] == sections


def test_a_comparison_of_200_prompts_and_12_strategies_stays_below_2_megabytes(run_dir):
    words = [
        "the",
        "loop",
        "reads",
        "each",
        "block",
        "once",
        "and",
        "the",
        "loss",
        "is",
        "summed",
        "over",
        "every",
        "<token>",
        "in",
        "it",
        "&",
        "more",
    ]
    rows = []
    for when in ("before", "after"):
        for strategy in [*(f"strategy_{n}" for n in range(12)), "human"]:
            for prompt in range(200):
                text = " ".join(words[(prompt + n * len(strategy)) % len(words)] for n in range(60))
                shared = {"when": when, "prompt_id": f"a#{prompt}", "prompt": text, "strategy": strategy}
                rows.append(shared | {"sample": 0, "text": text, "token_ids": []})
    write_bytes(run_dir / "evaluation" / "continuations.jsonl", b"".join(map(json_line, rows)))
    report = write_report(run_dir)
    assert 1_000_000 < report.stat().st_size < 2_000_000


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize("size", ["1500,900", "390,800"])
def test_a_browser_runs_the_script_without_a_complaint_or_a_request(run_dir, tmp_path, size):
    report = write_report(run_dir)
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--window-size={size}", "--enable-logging=stderr"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000", "--dump-dom"]
    done = subprocess.run([BROWSER, *options, report.as_uri()], capture_output=True, text=True, check=True, timeout=60)
    assert "CONSOLE" not in done.stderr
    page = done.stdout
    assert page.count('placeholder="Filter strategies"') == 2
    assert page.count('placeholder="Filter prompts"') == 1
    assert 'aria-label="Sort by diversity"' in page
    assert page.count('aria-current="true"') == 1


def test_the_page_has_no_external_reference(run_dir, evaluation_dir):
    for directory in (run_dir, evaluation_dir):
        html, page = read(write_report(directory))
        assert not re.search("https?:|@import|xmlns|<link|<script [^>]|<iframe|<img", html)
        assert all(link.startswith("#") for link in page.links)
        assert len(page.ids) == len(set(page.ids))
        assert all(link[1:] in page.ids for link in page.links)


def test_the_perplexities_are_those_of_the_file(run_dir):
    _, page = read(write_report(run_dir))
    perplexity = json.loads((run_dir / "evaluation" / "perplexity.json").read_text())
    [table] = page.tables_with("token perplexity", "bits per byte", "tokens")
    assert [row[0] for row in table] == ["before", "after"]
    for row in table:
        entry = perplexity[row[0]]
        low, high = entry["bits_per_byte_interval"]
        assert row[4] == f"{entry['bits_per_byte']:.3f}{low:.3f}–{high:.3f}"
        assert row[1].startswith(f"{entry['token_perplexity']:,.2f}")
        assert row[5:] == ["5,120", "3,900", "20,480"]


def test_the_decoding_tables_have_a_row_per_strategy_and_a_column_per_metric(run_dir):
    _, page = read(write_report(run_dir))
    decoding = json.loads((run_dir / "evaluation" / "decoding.json").read_text())
    titles = ["strategy", *(column.title for column in shown_metrics(decoding))]
    assert [table[0] for table in page.tables if "diversity" in table[0]] == [titles, titles]
    shown = dict(zip(("after", "before"), page.tables_with("diversity", "nll"), strict=True))
    for moment, table in shown.items():
        human, *strategies = table
        assert human[0] == "human"
        rows = [row for row in decoding[moment] if row["strategy"] != "human"]
        assert len(strategies) == len(rows)
        for cells, row in zip(strategies, rows, strict=True):
            assert cells[0].startswith(row["strategy"])
            assert f"{row['diversity']:.3f}" in cells[titles.index("diversity")]
            low, high = row["nll_interval"]
            assert cells[titles.index("nll")].endswith(f"{row['nll']:.3f}{low:.3f}–{high:.3f}")


def test_the_strategy_closest_to_human_is_marked_in_each_column(run_dir):
    rows = [
        {"strategy": "greedy", "diversity": 0.1, "nll": 2.9, "nll_interval": [2.8, 3.05]},
        {"strategy": "nucleus", "diversity": 0.9, "nll": 2.0},
        {"strategy": "human", "diversity": 0.93, "nll": 3.0},
    ]
    write_json(run_dir / "evaluation" / "decoding.json", {"after": rows})
    _, page = read(write_report(run_dir))
    titles = ["strategy", *(column.title for column in shown_metrics({"after": rows}))]
    [table] = page.tables_with(*titles)
    human, greedy, nucleus = (dict(zip(titles, row, strict=True)) for row in table)
    assert human["diversity"] == "0.930"
    assert (greedy["diversity"], nucleus["diversity"]) == ("0.100", "● 0.900")
    assert (greedy["nll"], nucleus["nll"]) == ("● ≈ 2.9002.800–3.050", "2.000")
    assert human["tokens/s"] == "–"


def test_untrusted_text_is_shown_and_not_interpreted(run_dir, hostile):
    config = {"model": "</title><script>", "data": hostile, "method": "{{ 7*7 }}"}
    write_json(run_dir / "config.yaml", config)
    decoding = json.loads((run_dir / "evaluation" / "decoding.json").read_text())
    decoding["after"][0] |= {"strategy": "<b>x</b>", "settings": {"<i>": "</style>"}}
    write_json(run_dir / "evaluation" / "decoding.json", decoding)
    html, page = read(write_report(run_dir))
    assert page.tags.count("script") == 1, "the page's own"
    assert page.tags.count("style") == 1
    assert page.tags.count("title") == 1 + len(page.figures), "the page's own, and one for each figure"
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", html)
    assert page.text.startswith("</title><script> fine-tuned on", len(page.text) - len(page.text.lstrip()))
    assert ["method", "{{ 7*7 }}"] in page.rows
    assert page.text.count(r'</style>{{7*7}} | `x` 🙂 \x00\x1b[31m\r --- & "quoted" \ud800') == 5
    assert "<b>x</b>" in page.text


def test_a_browser_loads_nothing_and_runs_the_own_script_only(run_dir):
    """The policy is the second lock: it holds even if some text were not escaped."""
    html, page = read(write_report(run_dir))
    [policy] = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', html)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    [script] = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    own = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules == {
        "script-src": f"'sha256-{own}'",
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert html.index("Content-Security-Policy") < html.index("<title>")
    assert not {"img", "iframe", "object", "embed", "form", "base", "link"} & set(page.tags)
    assert not re.search(r"(?i)\son\w+\s*=|javascript:|@import|@font-face|url\((?!#)", html)


def test_bidirectional_text_does_not_reorder_what_is_around_it(run_dir):
    write_json(run_dir / "config.yaml", {"model": "m\u202egpj.exe", "data": "\u2066d\u200f", "method": "\u061cfull"})
    html = write_report(run_dir).read_text(encoding="utf-8")
    assert r"m\u202egpj.exe fine-tuned on \u2066d\u200f" in html
    assert not set(html) & set("\u202e\u2066\u200f\u061c\x1b")


def test_samples_are_shown_escaped_and_only_if_there_are_some(run_dir, hostile, sample_rows):
    assert "Samples during training" not in write_report(run_dir).read_text()
    record = StepRecord(run_dir / "samples.jsonl")
    for row in [*sample_rows(0, 400)[:-1], sample_rows(400)[-1] | {"text": hostile}]:
        record.append(row)
    page = write_report(run_dir).read_text()
    assert "Samples during training" in page
    assert '<th scope="col">step 400</th>' in page
    assert " greedy of 1 at 400" in page
    assert "<script>alert" not in page


def test_metrics_of_tokens_are_shown_escaped(run_dir, token_perplexity, hostile):
    hardest = token_perplexity["after"]["hardest_tokens"]
    hardest[0] = hardest[0] | {"token": hostile}
    write_json(run_dir / "evaluation" / "perplexity.json", token_perplexity)
    page = write_report(run_dir).read_text()
    for words in ("top-1 accuracy", "Loss by context length", "Hardest tokens", "plays.txt#1", "0.250–0.450"):
        assert words in page
    assert "<script>alert" not in page


def test_the_balance_has_a_table_and_the_shared_passages(balance_dir):
    html, page = read(write_report(balance_dir))
    assert "balance" in page.ids
    assert ["bits per byte of", "documents", "before", "after", "difference"] in page.rows
    assert ["text to retain", "12 of 3,000", "2.5002.425–2.575", "2.7502.667–2.833", "0.2500.200–0.300"] in page.rows
    assert "2 of 12 scored documents share 13 words in a row with a training document." in page.text
    [passages] = [table for table in page.tables if table[0][0] == "scored document"]
    assert [row[:3] for row in passages[1:]] == [
        ["plays.txt#0", "20 of 300", "plays.txt#7"],
        ["plays.txt#1", "19 of 300", "plays.txt#7"],
    ]
    assert "Of 80 of 88 training documents compared, 3 nearly equal an earlier one, such as " in page.text
    assert "<script>alert" not in html
    assert "alert(1)" in passages[1][3]
    assert "no --retain-data was given" not in page.text
    (balance_dir / "evaluation" / "perplexity.json").write_text("{}")
    _, page = read(write_report(balance_dir))
    assert "no --retain-data was given" in page.text
    assert "2 of 12 scored documents share" in page.text


MASK = {"examples": 9, "tokens": 500, "targets": 100, "cut": 2, "without_prompt": 0, "untargeted": 0, "left_out": 0}


def test_what_was_trained_on_is_in_the_balance(run_dir):
    write_json(run_dir / "evaluation" / "balance.json", {"mask": MASK})
    _, page = read(write_report(run_dir))
    assert "balance" in page.ids
    assert "Trained on: 100 of 500 training tokens (20.0 %). 2 of 9 examples do not fit" in page.text


def test_a_run_without_a_balance_has_no_such_section(run_dir):
    _, page = read(write_report(run_dir))
    assert "balance" not in page.ids


def test_whitespace_of_continuations_is_kept(run_dir):
    html, page = read(write_report(run_dir))
    assert ".text { white-space: pre-wrap" in html
    assert any(
        " through yonder window breaks?\n  It is the beam of after,\tprompt 3." in cell
        for row in page.rows
        for cell in row
    )
    assert any(row[:2] == ["beam", "empty"] for row in page.rows)


def test_an_evaluation_of_two_models(evaluation_dir):
    _, page = read(write_report(evaluation_dir))
    assert "gpt2 evaluated on plays" in page.text
    assert "the two are not distinguishable on this data" in page.text
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
def test_what_was_not_measured_is_stated(run_dir, missing):
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
    for table in page.tables_with("diversity"):
        assert all(cell == "–" for row in table for cell in row[1:])


def test_a_failed_run_is_marked_as_not_complete(run_dir):
    assert "not complete" not in read(write_report(run_dir))[1].text
    write_json(run_dir / "status.json", {"state": "failed", "step": 120, "message": "loss is <nan>"})
    assert "not complete: failed at step 120. loss is <nan>" in read(write_report(run_dir))[1].text


def test_the_same_run_gives_the_same_bytes(run_dir):
    first = write_report(run_dir).read_bytes()
    assert write_report(run_dir).read_bytes() == first


def test_differences_from_human_and_baseline_are_summarized(run_dir, compared_rows):
    rows = compared_rows(1)
    write_json(run_dir / "evaluation" / "decoding.json", {"after": rows})
    _, page = read(write_report(run_dir))
    text = " ".join(page.text.split())
    for other, *findings in (
        ("human", "diversityall differ", "nllnot distinguishable: top_k, nucleus", "lengthnot distinguishable: all"),
        ("greedy", "diversitynot distinguishable: beam"),
    ):
        _, _, after = text.partition(f"Differences from {other} (paired over prompts, corrected for their number): ")
        assert after.startswith(" ".join(findings))
    assert "Prompts needed for a ±5 % interval on the difference from human (now 160): 311 for diversity" in text
    titles = ["strategy", *(column.title for column in shown_metrics({"after": rows}))]
    assert {"own nll", "judge", "MAUVE"} <= set(titles)
    [table] = page.tables_with(*titles)
    [top_k] = [dict(zip(titles, row, strict=True)) for row in table if row[0] == "top_ktop_k 40"]
    assert "≈" in top_k["nll"]
    assert "≈" not in top_k["diversity"]


def test_truncation_diagnostics_are_a_table_and_a_figure(run_dir, diagnostics_rows):
    before = read(write_report(run_dir))[1]
    assert "diagnostics" not in before.ids
    write_json(run_dir / "evaluation" / "diagnostics.json", {"before": diagnostics_rows, "after": diagnostics_rows})
    _, page = read(write_report(run_dir))
    assert "diagnostics" in page.ids
    assert page.figures - before.figures == {"diagnostics"}
    tables = page.tables_with(*(column.title for column in DIAGNOSTICS))
    assert len(tables) == 2
    for table in tables:
        assert len(table) == len(diagnostics_rows)
        expected = ["40.038.0–40.0", "20", "0.9000.855–0.945", "2.5002.375–2.500", "0.7800.741–0.819"]
        assert ["top_ktop_k 40", *expected] in table
