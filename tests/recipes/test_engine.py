"""The engine's settings through the command line: exactness, sharding, precision, memory, adapters, optimizers."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from running import DEEPSPEED, FSDP, LIGHT, QUICK, curve, same_numbers, tree

pytestmark = pytest.mark.slow


def unfinished(done: Path, directory: Path, step: int) -> Path:
    """A copy of a finished run, reduced to its state right after it saved a step."""
    shutil.copytree(done, directory)
    for path in directory.glob("checkpoints/step-*"):
        if int(path.name[5:]) > step:
            shutil.rmtree(path)
    shutil.rmtree(directory / "model")
    (directory / "status.json").write_text(json.dumps({"state": "running", "step": step}))
    (directory / "manifest.json").unlink()
    shutil.rmtree(directory / "evaluation" / "records", ignore_errors=True)
    for path in (directory / "evaluation").iterdir():
        content = path.read_text()
        if path.suffix == ".json":
            kept = {key: value for key, value in json.loads(content).items() if key == "before"}
            path.write_text(json.dumps(kept))
        else:
            path.write_text("".join(f"{line}\n" for line in content.splitlines() if '"before"' in line))
    return directory


def test_exact_runs_leave_the_same_bytes_on_one_process_and_on_two(run_recipe, text_file, tmp_path):
    flags = [*QUICK, "--skip-decoding", "--exact", "--dropout", "0.1", "--data", text_file]
    for processes in (1, 2):
        run_recipe("finetune", *flags, "--run-dir", tmp_path / str(processes), processes=processes)
    one, two = (tmp_path / name for name in "12")
    assert (one / "metrics.jsonl").read_bytes() == (two / "metrics.jsonl").read_bytes()
    assert tree(one / "model") == tree(two / "model")
    assert json.loads((two / "environment.json").read_text())["threads"] == 1


SHARDED = {"fsdp": FSDP, "deepspeed": DEEPSPEED}


@pytest.mark.parametrize("backend", SHARDED)
def test_a_sharded_run_has_the_same_curve_and_resumes_with_and_without_sharding(
    run_recipe, text_file, tmp_path, plain, monkeypatch, backend
):
    for name, value in SHARDED[backend].items():
        monkeypatch.setenv(name, value)
    flags = [*LIGHT, "--data", text_file, "--run-dir"]
    sharded = tmp_path / "sharded"
    run_recipe("finetune", *flags, sharded, processes=2)
    same_numbers(curve(sharded), curve(plain), 1e-5)
    assert tree(sharded / "model").keys() == tree(plain / "model").keys()
    from transformers import AutoModelForCausalLM

    models = [AutoModelForCausalLM.from_pretrained(run / "model").eval() for run in (sharded, plain)]
    assert models[0].state_dict().keys() == models[1].state_dict().keys()
    # Not the weights: those of a zero gradient, such as the bias of keys, drift by AdamW's noise, without effect.
    ids = torch.arange(2, 34)[None]
    with torch.no_grad():
        torch.testing.assert_close(models[0](ids).logits, models[1](ids).logits, rtol=1e-3, atol=1e-3)
    saved = {path.name for path in (sharded / "checkpoints" / "step-00000004").iterdir()}
    parts = ["-00001-of-00002", "-00002-of-00002"] if backend == "fsdp" else [""]
    assert {f"{kind}{part}.safetensors" for kind in ("parameters", "optimizer") for part in parts} < saved

    went_on = unfinished(sharded, tmp_path / "sharded-then-alone", 4)
    for name in SHARDED[backend]:
        monkeypatch.delenv(name)
    ran = run_recipe("finetune", *flags, went_on)
    assert "after step 4" in ran.out
    same_numbers(curve(went_on), curve(plain), 1e-5)
    for name, value in SHARDED[backend].items():
        monkeypatch.setenv(name, value)
    went_on = unfinished(plain, tmp_path / "alone-then-sharded", 4)
    ran = run_recipe("finetune", *flags, went_on, processes=2)
    assert "after step 4" in ran.out
    same_numbers(curve(went_on), curve(plain), 1e-5)


@pytest.mark.parametrize("backend", SHARDED)
def test_sharded_adapters_are_saved_as_adapters(run_recipe, text_file, tmp_path, monkeypatch, backend):
    for name, value in SHARDED[backend].items():
        monkeypatch.setenv(name, value)
    flags = [*LIGHT, "--data", text_file, "--method", "lora", "--run-dir", tmp_path / "run"]
    run_recipe("finetune", *flags, processes=2)
    for name in SHARDED[backend]:
        monkeypatch.delenv(name)
    run_recipe("evaluate", "--model", tmp_path / "run" / "model", "--data", text_file, "--skip-decoding",
               "--wandb-mode", "disabled", "--threads", 1, "--output-dir", tmp_path / "again")  # fmt: skip
    after = json.loads((tmp_path / "run" / "evaluation" / "perplexity.json").read_text())["after"]
    again = json.loads((tmp_path / "again" / "evaluation" / "perplexity.json").read_text())["model"]
    assert again["nll_sum"] == pytest.approx(after["nll_sum"], rel=1e-6)


@pytest.mark.parametrize(
    ("flags", "environment", "said"),
    [
        (["--optimizer", "muon"], {}, "--optimizer muon with DeepSpeed"),
        (["--precision", "fp16"], {}, "--precision fp16 with DeepSpeed"),
        (["--exact"], {}, "--exact with DeepSpeed"),
        ([], {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, "launch/fsdp2.yaml to shard the weights"),
    ],
    ids=["optimizer", "precision", "exact", "stage"],
)
def test_what_deepspeed_cannot_do_is_refused(run_recipe, text_file, tmp_path, monkeypatch, flags, environment, said):
    for name, value in (DEEPSPEED | environment).items():
        monkeypatch.setenv(name, value)
    flags = [*LIGHT, *flags, "--data", text_file, "--run-dir", tmp_path / "run"]
    ran = run_recipe("finetune", *flags, processes=2, check=False)
    assert said in ran.error
    assert json.loads((tmp_path / "run" / "status.json").read_text())["exit_code"] == 2


@pytest.mark.parametrize(
    ("flags", "apart"),
    [
        (["--gradient-checkpointing"], 0.0),
        (["--microbatch-size", "auto"], 1e-5),
        (["--precision", "fp16"], 5e-3),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_how_a_step_is_computed_does_not_change_its_result(run_recipe, text_file, tmp_path, plain, flags, apart):
    run_recipe("finetune", *LIGHT, *flags, "--data", text_file, "--run-dir", tmp_path / "run")
    same_numbers(curve(tmp_path / "run"), curve(plain), apart)
    if "auto" in flags:
        assert json.loads((tmp_path / "run" / "environment.json").read_text())["microbatch_size"] == 8


def test_an_interrupted_fp16_run_ends_with_the_same_bytes(run_recipe, text_file, tmp_path):
    flags = [*LIGHT, "--precision", "fp16", "--data", text_file, "--run-dir"]
    run_recipe("finetune", *flags, tmp_path / "whole")
    went_on = unfinished(tmp_path / "whole", tmp_path / "stopped", 4)
    state = json.loads((went_on / "checkpoints" / "step-00000004" / "state.json").read_text())
    assert state["loss_scale"] == [65536.0, 4]
    assert "after step 4" in run_recipe("finetune", *flags, went_on).out
    assert tree(went_on / "model") == tree(tmp_path / "whole" / "model")


def test_qlora_with_averaged_weights_is_measured_as_saved_and_resumes_to_the_same_bytes(
    run_recipe, text_file, tmp_path
):
    """QLoRA, rsLoRA, LoRA+ and the schedule-free optimizer in one run, which is interrupted and resumed."""
    flags = [*LIGHT, "--method", "qlora", "--lora-variant", "rslora", "--lora-plus-ratio", 4, "--data", text_file]
    flags += ["--optimizer", "schedule_free", "--schedule", "constant", "--run-dir"]
    run = tmp_path / "run"
    run_recipe("finetune", *flags, run)
    perplexity = json.loads((run / "evaluation" / "perplexity.json").read_text())
    assert perplexity["after"]["nll_sum"] < perplexity["before"]["nll_sum"]
    run_recipe("evaluate", "--model", run / "model", "--data", text_file, "--skip-decoding",
               "--wandb-mode", "disabled", "--threads", 1, "--output-dir", tmp_path / "again")  # fmt: skip
    again = json.loads((tmp_path / "again" / "evaluation" / "perplexity.json").read_text())["model"]
    assert again["nll_sum"] == pytest.approx(perplexity["after"]["nll_sum"], rel=1e-6)
    went_on = unfinished(run, tmp_path / "stopped", 4)
    assert "after step 4" in run_recipe("finetune", *flags, went_on).out
    assert tree(went_on / "model") == tree(run / "model")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--exact", "--compile"], "--exact with --compile"),
        (["--exact", "--microbatch-size", "auto"], "--exact with --microbatch-size auto"),
        (
            ["--exact", "--global-batch-size", "12", "--microbatch-size", "2"],
            "6 microbatches do not form a full binary tree",
        ),
        (["--optimizer", "schedule_free"], "Add --schedule constant"),
        (["--lora-plus-ratio", "0"], "--lora-plus-ratio 0"),
        (["--method", "qlora", "--lora-variant", "pissa"], "pissa needs unquantized weights"),
        (
            ["--method", "qlora", "--lora-variant", "dora", "--qlora-bits", "8"],
            "in 8 bits: not supported on CPU",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_impossible_settings_are_refused_with_the_reason(run_recipe, tmp_path, flags, said):
    ran = run_recipe("finetune", *flags, "--run-dir", tmp_path / "run", check=False)
    assert ran.code == 2
    assert said in ran.error
    assert json.loads((tmp_path / "run" / "status.json").read_text())["exit_code"] == 2
