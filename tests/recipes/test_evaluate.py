"""recipes/evaluate.py: any model, full or adapter, alone or compared with another."""

import json

import pytest
from damage import contents, damage
from running import QUICK, read_lines, same_numbers

from textgen.evaluation.decoding.strategies import STRATEGIES
from textgen.reporting.results import FILES
from textgen.run.checked_files import CheckedFiles

LIGHT = ["--prompts", "2", "--prompt-tokens", "8", "--max-new-tokens", "8", "--strategies", "greedy,top_p"]
LIGHT += ["--wandb-mode", "disabled", "--threads", "1"]


@pytest.fixture(scope="module")
def trained(run_recipe, text_file, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("trained") / "run"
    run_recipe("finetune", *QUICK, "--data", text_file, "--method", "lora", "--skip-decoding", "--run-dir", run_dir)
    return run_dir


def test_an_adapter_and_its_base_measure_as_in_their_own_run(trained, run_recipe, text_file, tmp_path) -> None:
    flags = ["--model", trained / "model", "--baseline", "tiny-gpt2", "--data", text_file, *LIGHT]
    run_recipe("evaluate", *flags, "--output-dir", tmp_path / "out")
    made = json.loads((trained / "evaluation/perplexity.json").read_text())
    measured = json.loads((tmp_path / "out/evaluation/perplexity.json").read_text())
    for then, now in (("before", "baseline"), ("after", "model")):
        assert measured[now]["bits_per_byte"] == pytest.approx(made[then]["bits_per_byte"], rel=1e-6)
        assert measured[now]["data_sha256"] == made[then]["data_sha256"]
    difference = measured["model"]["bits_per_byte"] - measured["baseline"]["bits_per_byte"]
    assert measured["difference"]["bits_per_byte"] == pytest.approx(difference, rel=1e-9)
    assert measured["difference"]["bits_per_byte"] < 0
    decoding = json.loads((tmp_path / "out/evaluation/decoding.json").read_text())
    assert {when: [row["strategy"] for row in rows] for when, rows in decoding.items()} == {
        when: ["greedy", "top_p", "human"] for when in ("baseline", "model")
    }
    assert "<html" in (tmp_path / "out/report.html").read_text()
    assert json.loads((tmp_path / "out/status.json").read_text())["state"] == "done"


def test_all_strategies_and_variants_of_one_through_the_command_line(run_recipe, text_file, tmp_path) -> None:
    flags = ["--validation-data", text_file, *LIGHT, "--strategies", "all", "--amateur", "tiny-gpt2"]
    run_recipe("evaluate", *flags, "--output-dir", tmp_path / "all")
    rows = json.loads((tmp_path / "all/evaluation/decoding.json").read_text())["model"]
    assert [row["strategy"] for row in rows] == [*STRATEGIES, "human"]
    flags = ["--validation-data", text_file, *LIGHT, "--strategies", "top_p[0.5,0.9],greedy"]
    run_recipe("evaluate", *flags, "--output-dir", tmp_path / "sweep")
    rows = json.loads((tmp_path / "sweep/evaluation/decoding.json").read_text())["model"]
    assert [(row["strategy"], row["family"], row["settings"]) for row in rows] == [
        ("top_p[0.5]", "top_p", {"top_p": 0.5}),
        ("top_p[0.9]", "top_p", {"top_p": 0.9}),
        ("greedy", "greedy", {}),
        ("human", "human", {}),
    ]


def test_every_document_of_the_validation_data_is_scored(run_recipe, text_file, tmp_path) -> None:
    flags = ["--validation-data", text_file, "--convention", "strided", "--stride", "64", "--skip-decoding", *LIGHT]
    run_recipe("evaluate", *flags, "--output-dir", tmp_path / "out")
    figures = json.loads((tmp_path / "out/evaluation/perplexity.json").read_text())["model"]
    assert (figures["documents"], figures["convention"], figures["stride"]) == (60, "strided", 64)
    assert not (tmp_path / "out/evaluation/decoding.json").exists()


def test_two_processes_measure_what_one_does(run_recipe, text_file, tmp_path) -> None:
    (tmp_path / "train.txt").write_text("What a model may have read in training.", encoding="utf-8")
    for processes in (1, 2):
        flags = ["--validation-data", text_file, *LIGHT, "--output-dir", tmp_path / str(processes)]
        flags += ["--data", tmp_path / "train.txt"]
        flags += ["--retain-data", text_file, "--evaluation-tokens", "2000"]
        run_recipe("evaluate", *flags, processes=processes)
    one, two = ((tmp_path / str(n) / "evaluation") for n in (1, 2))
    perplexity = [json.loads((where / "perplexity.json").read_text()) for where in (one, two)]
    figures = [entry["model"] for stated in perplexity for entry in (stated, stated["retained"])]  # of the same text
    assert figures[0]["documents"] < figures[0]["documents_available"] == 60
    assert {entry["documents"] for entry in figures} == {figures[0]["documents"]}
    for entry in figures:
        assert entry["nll_sum"] == pytest.approx(figures[0]["nll_sum"], rel=1e-9)
    assert (one / "contamination.json").read_bytes() == (two / "contamination.json").read_bytes()
    assert json.loads((one / "contamination.json").read_text())["training_data"] == str(tmp_path / "train.txt")
    texts = [read_lines(where / "continuations.jsonl") for where in (one, two)]
    assert texts[0] == texts[1]
    rows = [json.loads((where / "decoding.json").read_text())["model"] for where in (one, two)]
    for row in [*rows[0], *rows[1]]:
        for key in [*row]:
            number = isinstance(row[key], int | float)
            if not number or key.startswith("tokens_per_second"):
                row.pop(key)
        row["step"] = 0
    same_numbers(rows[0], rows[1], 1e-5)


def test_a_synthetic_source_shows_how_much_is_left_to_learn(run_recipe, tmp_path) -> None:
    data = "markov:seed=1,states=4,documents=60,length=120"
    flags = [*QUICK, "--data", data, "--run-dir", tmp_path / "run", "--skip-decoding"]
    ran = run_recipe("finetune", *flags)
    stated = json.loads((tmp_path / "run/evaluation/perplexity.json").read_text())
    before, after = stated["before"], stated["after"]
    assert before["source"] == after["source"]
    low, high = after["source"]["bits_per_byte_interval"]
    assert low <= after["source"]["entropy_rate"] <= high
    assert 0 < after["excess_bits_per_byte_interval"][0] <= after["excess_bits_per_byte"]
    assert after["excess_bits_per_byte"] < before["excess_bits_per_byte"]
    for text in (ran.out, (tmp_path / "run/report.html").read_text(), (tmp_path / "run/README.md").read_text()):
        assert "source of known entropy" in " ".join(text.split())


def test_an_invalid_synthetic_source_is_refused(run_recipe) -> None:
    ran = run_recipe("evaluate", "--data", "markov:states=99", check=False)
    assert ran.code == 2
    assert "--data markov:states=99: states must be from 2 to 27, not 99." in ran.error


def test_a_killed_evaluation_resumes_from_its_cache(run_recipe, text_file, tmp_path) -> None:
    flags = ["--validation-data", text_file, "--skip-decoding", *LIGHT, "--output-dir", tmp_path / "out"]
    run_recipe("evaluate", *flags)
    figures, [records] = tmp_path / "out/evaluation/perplexity.json", (tmp_path / "out/evaluation/records").iterdir()
    whole, everything = figures.read_bytes(), records.read_bytes()
    # The state that a kill during a write leaves.
    figures.unlink()
    (tmp_path / "out/status.json").write_text(json.dumps({"state": "running"}))
    records.write_bytes(everything[: len(everything) // 2])
    kept = everything[: len(everything) // 2].count(b"\n")
    run_recipe("evaluate", *flags)
    assert figures.read_bytes() == whole
    lines = records.read_bytes().splitlines()
    assert sorted(lines[:kept] + lines[kept + 1 :]) == sorted(everything.splitlines())  # one cut off, none twice
    assert 0 < kept < len(lines) - 1


@pytest.mark.parametrize("name", ["evaluation/perplexity.json", "evaluation/documents.jsonl", "config.yaml"])
def test_a_damaged_evaluation_is_mended_by_the_same_command(run_recipe, text_file, tmp_path, name) -> None:
    flags = ["--validation-data", text_file, "--skip-decoding", *LIGHT, "--output-dir", tmp_path / "out"]
    run_recipe("evaluate", *flags)
    whole = contents(tmp_path / "out")
    assert damage(tmp_path / "out" / name, "digit")
    ran = run_recipe("evaluate", *flags)
    assert f"{tmp_path / 'out' / name}: missing or damaged, so the run is finished again" in ran.out
    assert contents(tmp_path / "out") == whole


def test_only_what_is_missing_is_measured_again(run_recipe, text_file, tmp_path) -> None:
    flags = ["--validation-data", text_file, "--baseline", "tiny-gpt2", "--skip-decoding", *LIGHT]
    flags += ["--output-dir", tmp_path / "out"]
    first = run_recipe("evaluate", *flags)
    assert first.out.count("measuring the perplexity") == 2
    figures = tmp_path / "out/evaluation/perplexity.json"
    whole = json.loads(figures.read_text())
    assert "already complete" in run_recipe("evaluate", *flags).out

    # The state that a kill after the baseline leaves.
    (tmp_path / "out/manifest.json").unlink()
    (tmp_path / "out/status.json").write_text(json.dumps({"state": "running"}))
    only_baseline = {"perplexity.json": json.dumps({"baseline": whole["baseline"]}).encode()}
    CheckedFiles(figures.parent, FILES, remedy="").write(only_baseline)
    assert run_recipe("evaluate", *flags).out.count("measuring the perplexity") == 1
    assert json.loads(figures.read_text()) == whole
