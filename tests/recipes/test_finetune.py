"""recipes/finetune.py, run from the command line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from running import LIGHT, QUICK, ROOT, read_lines, same_numbers, tree
from safetensors.torch import load_file


@pytest.fixture(scope="session")
def full_run(run_recipe, text_file, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("full") / "run"
    run_recipe("finetune", *QUICK, "--data", text_file, "--run-dir", run_dir, "--strategies", "greedy,top_p")
    return run_dir


@pytest.fixture(scope="session")
def lora_run(run_recipe, text_file, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("lora") / "run"
    run_recipe("finetune", *QUICK, "--data", text_file, "--run-dir", run_dir, "--method", "lora", "--skip-decoding")
    return run_dir


def test_a_run_directory_has_the_documented_files(full_run: Path) -> None:
    status = json.loads((full_run / "status.json").read_text())
    assert (status["state"], status["exit_code"], status["step"]) == ("done", 0, 6)
    assert yaml.safe_load((full_run / "config.yaml").read_text())["block_size"] == 32
    rows = read_lines(full_run / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {"train/loss", "train/learning_rate", "train/grad_norm", "train/tokens"} <= rows[0].keys()
    assert [row["step"] for row in rows if "eval/bits_per_byte" in row] == [3, 6]
    assert rows[-1]["eval/bits_per_byte"] < rows[2]["eval/bits_per_byte"], "it should have learned something"
    timing = read_lines(full_run / "timing.jsonl")
    measured = {"step", "steps", "seconds", "tokens_per_second", "evaluation_seconds", "saving_seconds"}
    assert measured | {"peak_memory_bytes"} == timing[0].keys()
    perplexity = json.loads((full_run / "evaluation/perplexity.json").read_text())
    for when in ("before", "after"):
        figures = perplexity[when]
        low, high = figures["bits_per_byte_interval"]
        assert low <= figures["bits_per_byte"] <= high
        documents = [row for row in read_lines(full_run / "evaluation/documents.jsonl") if row["when"] == when]
        assert len(documents) == figures["documents"]
        assert sum(d["nll"] for d in documents) == pytest.approx(figures["nll_sum"], rel=1e-12)
        assert sum(d["bytes"] for d in documents) == figures["bytes"]
    decoding = json.loads((full_run / "evaluation/decoding.json").read_text())
    assert [row["strategy"] for row in decoding["after"]] == ["greedy", "top_p", "human"]
    continuations = read_lines(full_run / "evaluation/continuations.jsonl")
    assert {row["when"] for row in continuations} == {"before", "after"}
    assert {row["strategy"] for row in continuations} == {"greedy", "top_p", "human"}
    assert "<html" in (full_run / "report.html").read_text()
    assert (full_run / "README.md").read_text().startswith("---\n")
    kept = sorted(path.name for path in (full_run / "checkpoints").iterdir())
    assert kept == ["step-00000004", "step-00000006"]


def test_contamination_and_retained_text_are_in_every_record(run_recipe, tmp_path: Path) -> None:
    words = [f"word{n}" for n in range(120)]
    texts = {"data": [" ".join(words), "x " * 100], "validation-data": [" ".join(words[50:90]), "quite another text"]}
    texts["retain-data"] = ["Some general text.", "And a little more of it."]
    files = []
    for name, documents in texts.items():
        path = tmp_path / f"{name}.txt"
        path.write_text("\n\n".join(documents))
        files += [f"--{name}", path]
    run_recipe("finetune", *LIGHT, *files, "--run-dir", tmp_path / "run")
    evaluation = tmp_path / "run/evaluation"
    contamination = json.loads((evaluation / "contamination.json").read_text())
    [shared] = contamination["documents"]
    assert (shared["id"], shared["training_id"]) == ("validation-data.txt#0", "data.txt#0")
    assert (shared["shared_words"], shared["passage"]) == (40, " ".join(words[50:90]))
    perplexity = json.loads((evaluation / "perplexity.json").read_text())
    rows = read_lines(evaluation / "documents.jsonl")
    for when in ("before", "after"):
        clean = [row["nll"] for row in rows if row["when"] == when and row["id"] == "validation-data.txt#1"]
        assert perplexity[when]["uncontaminated"]["nll_sum"] == pytest.approx(sum(clean))
        general = [row["nll"] for row in rows if row["when"] == when and row.get("set") == "retained"]
        assert perplexity["retained"][when]["nll_sum"] == pytest.approx(sum(general))
        assert len(general) == 2
    assert perplexity["retained"]["difference"]["documents"] == 2
    for page in ("report.html", "README.md"):
        text = (tmp_path / "run" / page).read_text()
        assert "1 of 2 scored documents shares 13 words in a row" in text
        assert "text to retain" in text


def test_the_same_command_finds_its_finished_run(full_run: Path, run_recipe, text_file) -> None:
    before = tree(full_run)
    flags = ["--data", text_file, "--run-dir", full_run, "--strategies", "greedy,top_p"]
    ran = run_recipe("finetune", *QUICK, *flags)
    assert "already complete" in ran.out
    assert tree(full_run) == before


def test_a_run_of_another_configuration_is_refused_untouched(full_run: Path, run_recipe, text_file) -> None:
    before = tree(full_run)
    flags = ["--data", text_file, "--run-dir", full_run, "--learning-rate", "0.5"]
    ran = run_recipe("finetune", *QUICK, *flags, check=False)
    assert ran.code == 2
    assert "learning_rate: 0.001 (existing) vs 0.5 (requested)" in ran.error
    assert tree(full_run) == before


def test_a_full_run_reloads_with_plain_transformers(full_run: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(full_run / "model", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(full_run / "model")
    trained = load_file(full_run / "checkpoints/step-00000006/parameters.safetensors")
    loaded = dict(model.named_parameters())
    assert trained.keys() == loaded.keys()
    assert all(torch.equal(trained[name], loaded[name]) for name in trained)
    ids = tokenizer("The loss is summed", return_tensors="pt").input_ids
    reference = AutoModelForCausalLM.from_config(model.config).eval()
    reference.load_state_dict(trained, strict=False)
    reference.tie_weights()
    assert torch.equal(model.eval()(ids).logits, reference(ids).logits)


def test_an_adapter_run_saves_adapters_alone_and_reloads_with_plain_peft(lora_run: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    saved = load_file(lora_run / "model/adapter_model.safetensors")
    assert saved
    assert all("lora_" in name for name in saved)
    assert not (lora_run / "model/model.safetensors").exists()
    model = AutoPeftModelForCausalLM.from_pretrained(lora_run / "model").eval()
    ids = torch.arange(1, 20)[None]
    adapted = model(ids).logits
    with model.disable_adapter():
        assert not torch.equal(adapted, model(ids).logits)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_two_processes_give_the_curve_of_one(method: str, run_recipe, text_file, tmp_path, full_run, lora_run) -> None:
    flags = ["--data", text_file, "--run-dir", tmp_path / "two", "--method", method]
    flags += ["--skip-decoding"] if method == "lora" else ["--strategies", "greedy,top_p"]
    run_recipe("finetune", *QUICK, *flags, processes=2)
    one = full_run if method == "full" else lora_run
    same_numbers(read_lines(tmp_path / "two/metrics.jsonl"), read_lines(one / "metrics.jsonl"), 1e-5)
    if method == "full":
        texts = [[(c["prompt_id"], c["strategy"], c["when"]) for c in read_lines(d / "evaluation/continuations.jsonl")]
                 for d in (one, tmp_path / "two")]  # fmt: skip
        assert sorted(texts[0]) == sorted(texts[1])


@pytest.mark.slow
@pytest.mark.parametrize(("method", "kill_at"), [("full", 3), ("lora", 4)])
def test_a_killed_run_resumes_to_the_same_bytes(
    method: str, kill_at: int, run_recipe, text_file, tmp_path: Path, full_run: Path, lora_run: Path
) -> None:
    run_dir = tmp_path / "killed"
    flags = [*QUICK, "--data", str(text_file), "--run-dir", str(run_dir), "--method", method]
    flags += ["--skip-decoding"] if method == "lora" else ["--strategies", "greedy,top_p"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TEXTGEN_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "recipes/finetune.py"), *flags], env=environment, stdout=subprocess.DEVNULL
    )
    deadline = time.time() + 120
    record = run_dir / "metrics.jsonl"
    while time.time() < deadline and process.poll() is None:
        saved = any((run_dir / "checkpoints").glob("step-*"))  # it is written in the background
        if saved and record.exists() and record.read_text().count("\n") >= kill_at:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    assert process.wait(timeout=60) == -signal.SIGKILL, "the run ended before it could be killed"
    assert json.loads((run_dir / "status.json").read_text())["state"] == "running"

    resumed = run_recipe("finetune", *flags)
    assert "resuming from" in resumed.out
    whole = full_run if method == "full" else lora_run
    assert tree(run_dir / "model") == tree(whole / "model")
    assert (run_dir / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_a_checkpoint_resumes_in_a_new_directory_and_before_is_measured_untrained(
    run_recipe, text_file, tmp_path: Path, full_run: Path
) -> None:
    flags = ["--data", text_file, "--strategies", "greedy,top_p", "--run-dir", tmp_path / "run"]
    run_recipe("finetune", *QUICK, *flags, "--resume", full_run / "checkpoints/step-00000004")
    assert tree(tmp_path / "run/model") == tree(full_run / "model")
    assert read_lines(tmp_path / "run/metrics.jsonl") == read_lines(full_run / "metrics.jsonl")[4:]
    here, there = (json.loads((run / "evaluation/perplexity.json").read_text()) for run in (tmp_path / "run", full_run))
    assert here["before"] == there["before"]


def test_without_a_run_directory_its_name_is_found_again(run_recipe, text_file, tmp_path) -> None:
    flags = [*QUICK, "--steps", 2, "--data", text_file, "--skip-decoding"]
    run_recipe("finetune", *flags, cwd=tmp_path)
    assert "already complete" in run_recipe("finetune", *flags, cwd=tmp_path).out
    run_recipe("finetune", *flags, "--resume", "never", cwd=tmp_path)
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert len(names) == 2
    assert names[0].startswith("tiny-gpt2-full-texts-")
    assert names[1] == names[0] + "-2"
    first, second = (tree(tmp_path / "runs" / name / "model") for name in names)
    assert first == second, "the same settings give the same bytes"


def test_divergence_ends_with_its_own_code(run_recipe, text_file, tmp_path) -> None:
    flags = ["--data", text_file, "--run-dir", tmp_path / "run", "--learning-rate", "1e30", "--max-grad-norm", "0"]
    ran = run_recipe("finetune", *QUICK, *flags, "--skip-decoding", "--evaluate-every", "0", check=False)
    assert ran.code == 3, ran.error
    status = json.loads((tmp_path / "run/status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("failed", 3)


def test_a_run_killed_while_measuring_the_untrained_model_resumes_that(run_recipe, text_file, tmp_path: Path) -> None:
    flags = [*LIGHT, "--data", text_file]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_recipe("finetune", *flags, "--run-dir", whole)
    [records] = (whole / "evaluation/records").iterdir()
    lines = records.read_bytes().splitlines(keepends=True)
    of_before = len(lines) // 2
    documents = [json.loads(line)["documents"] for line in lines]
    assert documents[:of_before] == documents[of_before:], "those of the model before, then those of the model after"
    left = b"".join(lines[: of_before - 1])[:-5]
    # The state that a kill during a write leaves, before anything else was written.
    (killed / "evaluation/records").mkdir(parents=True)
    shutil.copy(whole / "config.yaml", killed)
    (killed / "evaluation/records" / records.name).write_bytes(left)
    kept = left.count(b"\n")
    assert kept > 0
    run_recipe("finetune", *flags, "--run-dir", killed)
    assert (killed / "evaluation/perplexity.json").read_text().replace(str(killed), str(whole)) == (
        whole / "evaluation/perplexity.json"
    ).read_text()
    again = (killed / "evaluation/records" / records.name).read_bytes().splitlines(keepends=True)
    assert sorted(again[:kept] + again[kept + 1 :]) == sorted(lines)  # one cut off, none twice


@pytest.mark.slow
def test_sample_texts_do_not_change_training_and_survive_a_kill(
    run_recipe, text_file, tmp_path: Path, full_run: Path
) -> None:
    flags = [*QUICK, "--data", text_file, "--strategies", "greedy,top_p", "--sample-every", "4"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run_recipe("finetune", *flags, "--run-dir", whole, processes=2)
    rows = read_lines(whole / "samples.jsonl")
    assert list(dict.fromkeys(row["step"] for row in rows)) == [0, 4, 6]
    first, last = ([row["text"] for row in rows if row["step"] == step] for step in (0, 6))
    assert first != last
    same_numbers(read_lines(whole / "metrics.jsonl"), read_lines(full_run / "metrics.jsonl"), 1e-5)
    assert "Samples during training" in (whole / "report.html").read_text()

    # The state that a kill after step 5 leaves: rows after the newest checkpoint, and a last row that is cut off.
    run_recipe("finetune", *flags, "--run-dir", broken)
    assert (broken / "metrics.jsonl").read_bytes() == (full_run / "metrics.jsonl").read_bytes()
    unbroken = (broken / "samples.jsonl").read_bytes()
    assert [row["text"] for row in read_lines(broken / "samples.jsonl")] == [row["text"] for row in rows]
    shutil.rmtree(broken / "checkpoints/step-00000006")
    shutil.rmtree(broken / "model")
    (broken / "manifest.json").unlink()
    (broken / "status.json").write_text('{"state": "running"}')
    (broken / "samples.jsonl").write_bytes(unbroken[:-40])
    assert "resuming from" in run_recipe("finetune", *flags, "--run-dir", broken).out
    assert (broken / "samples.jsonl").read_bytes() == unbroken
    assert (broken / "metrics.jsonl").read_bytes() == (full_run / "metrics.jsonl").read_bytes()


def test_a_mixture_resumes_exactly_and_records_its_parts(run_recipe, text_file, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("\n\n".join(f"Another text, the {i}th of some." for i in range(40)), encoding="utf-8")
    flags = [*LIGHT, "--data", f"{text_file}:0.7,{other}:0.3"]
    ran = run_recipe("finetune", *flags, "--run-dir", tmp_path / "whole")
    assert f"70.0% {text_file}: " in ran.out
    parts = json.loads((tmp_path / "whole/environment.json").read_text())["parts"]
    assert [part["weight"] for part in parts] == [0.7, 0.3]
    assert all(part["epochs"] > 0 for part in parts)
    run_recipe(
        "finetune", *flags, "--run-dir", tmp_path / "run", "--resume", tmp_path / "whole/checkpoints/step-00000004"
    )
    assert tree(tmp_path / "run/model") == tree(tmp_path / "whole/model")
    assert read_lines(tmp_path / "run/metrics.jsonl") == read_lines(tmp_path / "whole/metrics.jsonl")[4:]
    changed = [*LIGHT, "--data", f"{text_file}:0.5,{other}:0.5", "--run-dir", tmp_path / "other"]
    refused = run_recipe("finetune", *changed, "--resume", tmp_path / "whole/checkpoints/step-00000004", check=False)
    assert refused.code == 2


@pytest.mark.slow
def test_a_confirmed_recommendation_is_in_the_saved_model_and_survives_a_loss_of_it(run_recipe, tmp_path) -> None:
    from transformers import AutoModelForCausalLM

    flags = ["--steps", "2", "--threads", "1", "--prompts", "12", "--prompt-tokens", "16", "--max-new-tokens", "32"]
    flags += ["--strategies", "greedy,top_p", "--evaluation-tokens", "8000", "--wandb-mode", "disabled"]
    flags += ["--run-dir", tmp_path / "run"]
    run_recipe("finetune", *flags)
    recommendation = json.loads((tmp_path / "run/evaluation/recommendation.json").read_text())
    after = recommendation["after"]
    assert (after["strategy"], after["confirmed"], after["prompts"]) == ("top_p", True, [6, 6])
    assert after["written_to"] == "model/generation_config.json"
    assert "written_to" not in recommendation["before"]
    config = AutoModelForCausalLM.from_pretrained(tmp_path / "run/model").generation_config
    assert (config.do_sample, config.top_p, config.top_k, config.eos_token_id) == (True, 0.95, 0, 0)
    for page in ("report.html", "README.md"):
        assert "Recommended: top_p (top_p 0.95)" in (tmp_path / "run" / page).read_text().replace("top\\_p", "top_p")
    before = tree(tmp_path / "run/model"), (tmp_path / "run/evaluation/recommendation.json").read_bytes()
    (tmp_path / "run/model/generation_config.json").write_text("{}")
    run_recipe("finetune", *flags)
    assert (tree(tmp_path / "run/model"), (tmp_path / "run/evaluation/recommendation.json").read_bytes()) == before
