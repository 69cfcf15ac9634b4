"""Bad input: exit code 2, one message that says what to do, and nothing overwritten."""

import json
import shutil
from pathlib import Path

import pytest
from families import tiny_model
from running import QUICK, tree
from transformers import AutoTokenizer

from textgen.model.locate import BUNDLED_MODELS


def refused(run_recipe, tmp_path: Path, *flags: object, recipe: str = "finetune") -> str:
    """The error message of a recipe with invalid flags; its run directory may contain status.json only."""
    run_dir = tmp_path / "run"
    directory = ["--run-dir" if recipe == "finetune" else "--output-dir", run_dir]
    ran = run_recipe(recipe, *(QUICK if recipe == "finetune" else []), *directory, *flags, check=False)
    assert ran.code == 2, ran.out + ran.error
    assert "Traceback" not in ran.error
    if run_dir.exists():
        assert [path.name for path in run_dir.iterdir()] == ["status.json"]
        status = json.loads((run_dir / "status.json").read_text())
        assert (status["state"], status["exit_code"]) == ("failed", 2)
        assert status["message"] in ran.error
    return ran.error


def test_an_unknown_flag_comes_with_a_suggestion(run_recipe, tmp_path) -> None:
    ran = run_recipe("finetune", "--lerning-rate", "1e-4", check=False)
    assert ran.code == 2
    assert "--learning-rate" in ran.error


def test_unknown_yaml_keys_are_all_named(run_recipe, tmp_path) -> None:
    (tmp_path / "c.yaml").write_text("lerning_rate: 1e-4\nstepps: 3\n")
    ran = run_recipe("finetune", "--config", tmp_path / "c.yaml", check=False)
    assert ran.code == 2
    for text in ("lerning_rate", "learning_rate", "stepps", "steps", "c.yaml"):
        assert text in ran.error


def test_every_wrong_setting_is_reported_at_once(run_recipe, tmp_path) -> None:
    flags = ["--learning-rate", "-1", "--lora-rank", "0", "--log-every", "0", "--strategies", "gredy"]
    message = refused(run_recipe, tmp_path, *flags)
    for text in ("--learning-rate", "--lora-rank", "--log-every", "gredy", "greedy"):
        assert text in message


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("missing.txt", None, "missing.txt"),
        ("empty.txt", b"", "empty"),
        ("binary.txt", b"text\0more", "byte 4"),
        ("latin.txt", b"caf\xe9 au lait", "byte 3"),
        ("columns.csv", b"title,body\na,b\n", "title, body"),
        ("broken.jsonl", b'{"text": "a"}\n{"text": \n', "line 2"),
        ("short.txt", b"one\n\ntwo\n\nthree\n\nfour\n\nfive\n\nsix\n", "--block-size"),
        ("odd.xyz", b"text", ".txt"),
    ],
)
def test_a_data_file_that_cannot_be_used(name, content, expected, run_recipe, tmp_path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    message = refused(run_recipe, tmp_path, "--data", path, "--validation-fraction", "0.5")
    assert expected in message
    assert name in message


@pytest.mark.parametrize(
    ("strategies", "expected"),
    [
        ("speculative", "--amateur"),
        ("top_p[0.9,1.1]", "top_p '1.1': must be a number above 0 and at most 1."),
        ("top_k[1", "brackets"),
    ],
)
def test_strategies_with_wrong_settings(strategies, expected, run_recipe, tmp_path) -> None:
    assert expected in refused(run_recipe, tmp_path, "--strategies", strategies)


def test_a_block_longer_than_the_context(run_recipe, tmp_path) -> None:
    assert "256" in refused(run_recipe, tmp_path, "--block-size", "257")


def test_prompt_and_continuation_longer_than_the_context(run_recipe, tmp_path) -> None:
    assert "--prompt-tokens 200" in refused(run_recipe, tmp_path, "--prompt-tokens", "200", "--max-new-tokens", "57")


def test_a_batch_that_does_not_divide_says_what_would(run_recipe, tmp_path) -> None:
    message = refused(run_recipe, tmp_path, "--global-batch-size", "8", "--microbatch-size", "3")
    assert "--microbatch-size 1 or 2 or 4 or 8" in message


@pytest.mark.parametrize("model", ["./no-such-directory", "/tmp"])
def test_a_model_that_is_not_there(model, run_recipe, tmp_path) -> None:
    assert model in refused(run_recipe, tmp_path, "--model", model)


def test_a_hub_id_without_a_network(run_recipe, tmp_path) -> None:
    assert "nobody/no-such-model" in refused(run_recipe, tmp_path, "--model", "nobody/no-such-model")


def test_unknown_lora_targets(run_recipe, tmp_path) -> None:
    message = refused(run_recipe, tmp_path, "--method", "lora", "--lora-targets", "q_proj")
    assert "c_attn" in message


def test_a_run_directory_that_cannot_be_written(run_recipe, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    ran = run_recipe("finetune", *QUICK, "--run-dir", tmp_path / "file" / "run", check=False)
    assert ran.code == 2
    assert "cannot be written" in ran.error


def test_a_directory_of_other_files_is_left_alone(run_recipe, tmp_path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.txt").write_text("precious")
    before = tree(tmp_path)
    ran = run_recipe("finetune", *QUICK, "--run-dir", tmp_path / "run", check=False)
    assert ran.code == 2
    assert "thesis.txt" in ran.error
    assert tree(tmp_path) == before


@pytest.mark.parametrize("change", ["weights", "shape"])
def test_an_adapter_for_another_base_model(change, run_recipe, text_file, tmp_path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    run_recipe(
        "finetune", *QUICK, "--data", text_file, "--method", "lora", "--skip-decoding", "--run-dir", tmp_path / "made"
    )
    saved = json.loads((tmp_path / "made/model/adapter_config.json").read_text())
    config = AutoConfig.from_pretrained(saved["base_model_name_or_path"])
    if change == "shape":
        config.n_embd, config.n_head = 64, 2
    other = tmp_path / "other"
    AutoModelForCausalLM.from_config(config).save_pretrained(other)
    AutoTokenizer.from_pretrained(saved["base_model_name_or_path"]).save_pretrained(other)
    adapter = tmp_path / "adapter"
    shutil.copytree(tmp_path / "made/model", adapter)
    (adapter / "adapter_config.json").write_text(json.dumps(saved | {"base_model_name_or_path": str(other)}))
    flags = ["--model", adapter, "--validation-data", text_file, "--skip-decoding", "--wandb-mode", "disabled"]
    ran = run_recipe("evaluate", *flags, "--output-dir", tmp_path / "out", check=False)
    assert ran.code == 2, ran.error
    assert "another base model" in ran.error


@pytest.mark.parametrize(
    ("recipe", "setting"),
    [("finetune", "--model"), ("finetune", "--judge"), ("evaluate", "--model"), ("evaluate", "--amateur")],
)
def test_a_model_that_sees_later_tokens_is_refused_before_data_is_read(recipe, setting, run_recipe, tmp_path) -> None:
    tiny_model("bert", vocab_size=4096).save_pretrained(tmp_path / "bert")
    AutoTokenizer.from_pretrained(BUNDLED_MODELS["tiny-gpt2"]).save_pretrained(tmp_path / "bert")
    flags = [setting, tmp_path / "bert", "--prompt-tokens", "8", "--max-new-tokens", "8"]
    message = refused(run_recipe, tmp_path, *flags, recipe=recipe)
    assert f"{setting} {tmp_path / 'bert'}: BertLMHeadModel is not a causal language model: later tokens" in message
