"""The engine's settings through the command line: exactness, sharding, precision, memory, adapters, optimizers."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from running import FSDP, QUICK, ROOT, read_lines, same_numbers, tree

LIGHT = [*QUICK, "--skip-decoding", "--evaluate-every", "0"]


def curve(directory: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if "grad_norm" not in k} for row in read_lines(directory / "metrics.jsonl")]


@pytest.fixture(scope="module")
def plain(run_recipe, text_file, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("plain") / "run"
    run_recipe("finetune", *LIGHT, "--data", text_file, "--run-dir", directory)
    return directory


def unfinished(done: Path, directory: Path, step: int) -> Path:
    """A copy of a run as it was when it had saved that step."""
    shutil.copytree(done, directory)
    for path in directory.glob("checkpoints/step-*"):
        if int(path.name[5:]) > step:
            shutil.rmtree(path)
    shutil.rmtree(directory / "model")
    (directory / "status.json").write_text(json.dumps({"state": "running", "step": step}))
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


def test_a_sharded_run_is_the_same_run_and_goes_on_in_any_other_world(
    run_recipe, text_file, tmp_path, plain, monkeypatch
):
    for name, value in FSDP.items():
        monkeypatch.setenv(name, value)
    flags = [*LIGHT, "--data", text_file, "--run-dir"]
    sharded = tmp_path / "sharded"
    run_recipe("finetune", *flags, sharded, processes=2)
    same_numbers(curve(sharded), curve(plain), 1e-5)
    assert tree(sharded / "model").keys() == tree(plain / "model").keys()
    from transformers import AutoModelForCausalLM

    weights = [AutoModelForCausalLM.from_pretrained(run / "model").state_dict() for run in (sharded, plain)]
    assert weights[0].keys() == weights[1].keys()
    assert all(weights[0][name].allclose(weights[1][name], atol=1e-4) for name in weights[0])
    saved = {path.name for path in (sharded / "checkpoints" / "step-00000004").iterdir()}
    assert {f"{kind}-0000{i}-of-00002.safetensors" for kind in ("parameters", "optimizer") for i in (1, 2)} < saved

    went_on = unfinished(sharded, tmp_path / "sharded-then-alone", 4)
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    ran = run_recipe("finetune", *flags, went_on)
    assert "after step 4" in ran.out
    same_numbers(curve(went_on), curve(plain), 1e-5)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    went_on = unfinished(plain, tmp_path / "alone-then-sharded", 4)
    ran = run_recipe("finetune", *flags, went_on, processes=2)
    assert "after step 4" in ran.out
    same_numbers(curve(went_on), curve(plain), 1e-5)


def test_sharded_adapters_are_saved_as_adapters(run_recipe, text_file, tmp_path, monkeypatch):
    for name, value in FSDP.items():
        monkeypatch.setenv(name, value)
    flags = [*LIGHT, "--data", text_file, "--method", "lora", "--run-dir", tmp_path / "run"]
    run_recipe("finetune", *flags, processes=2)
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    run_recipe("evaluate", "--model", tmp_path / "run" / "model", "--data", text_file, "--skip-decoding",
               "--wandb-mode", "disabled", "--threads", 1, "--output-dir", tmp_path / "again")  # fmt: skip
    after = json.loads((tmp_path / "run" / "evaluation" / "perplexity.json").read_text())["after"]
    again = json.loads((tmp_path / "again" / "evaluation" / "perplexity.json").read_text())["model"]
    assert again["nll_sum"] == pytest.approx(after["nll_sum"], rel=1e-6)


@pytest.mark.parametrize(
    ("flags", "apart"),
    [
        (["--gradient-checkpointing"], 0.0),
        (["--microbatch-size", "auto"], 1e-5),
        (["--precision", "fp16"], 5e-3),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_how_a_step_is_computed_does_not_change_what_is(run_recipe, text_file, tmp_path, plain, flags, apart):
    run_recipe("finetune", *LIGHT, *flags, "--data", text_file, "--run-dir", tmp_path / "run")
    same_numbers(curve(tmp_path / "run"), curve(plain), apart)
    if "auto" in flags:
        assert json.loads((tmp_path / "run" / "environment.json").read_text())["microbatch_size"] == 8


def test_a_scaled_run_that_was_stopped_ends_with_the_same_bytes(run_recipe, text_file, tmp_path):
    flags = [*LIGHT, "--precision", "fp16", "--data", text_file, "--run-dir"]
    run_recipe("finetune", *flags, tmp_path / "whole")
    went_on = unfinished(tmp_path / "whole", tmp_path / "stopped", 4)
    state = json.loads((went_on / "checkpoints" / "step-00000004" / "state.json").read_text())
    assert state["loss_scale"] == [65536.0, 4]
    assert "after step 4" in run_recipe("finetune", *flags, went_on).out
    assert tree(went_on / "model") == tree(tmp_path / "whole" / "model")


def test_quantised_adapters_of_a_variant_with_averaged_weights_are_measured_as_they_are_saved(
    run_recipe, text_file, tmp_path
):
    """QLoRA, rsLoRA, LoRA+ and a schedule-free optimizer in one run, stopped and gone on with."""
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
        (["--exact", "--global-batch-size", "12", "--microbatch-size", "2"], "6 microbatches are no full binary tree"),
        (["--exact", "--precision", "fp16"], "--exact with --precision fp16"),
        (["--optimizer", "schedule_free"], "add --schedule constant"),
        (["--lora-plus-ratio", "0"], "--lora-plus-ratio 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused_with_its_reason(run_recipe, tmp_path, flags, said):
    ran = run_recipe("finetune", *flags, "--run-dir", tmp_path / "run", check=False)
    assert ran.code == 2
    assert said in ran.error
    assert json.loads((tmp_path / "run" / "status.json").read_text())["exit_code"] == 2


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_two_machines_are_two_launches_of_one_run(text_file, tmp_path, plain):
    """Each with its rank and the address of the first; here both are this machine."""
    accelerate = Path(sys.executable).with_name("accelerate")
    command = [accelerate, "launch", "--config_file", ROOT / "launch" / "multi_node.yaml", "--num_processes", 2]
    command += ["--main_process_port", free_port(), "--machine_rank"]
    script = [ROOT / "recipes" / "finetune.py", *LIGHT, "--data", text_file, "--run-dir", tmp_path / "run"]
    machines = [
        subprocess.Popen(
            [str(part) for part in (*command, rank, *script)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    said = [machine.communicate(timeout=300)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    same_numbers(curve(tmp_path / "run"), curve(plain), 1e-5)
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["processes"] == 2
