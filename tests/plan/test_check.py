"""Checks before anything expensive starts: all problems at once, and nothing is written."""

import json
from pathlib import Path
from typing import Any

import pytest

from textgen.data.config import DataConfig
from textgen.errors import UserError
from textgen.evaluation.config import EvaluationConfig
from textgen.model.config import ModelConfig
from textgen.model.locate import BUNDLED_MODELS, find_model
from textgen.plan.check import check_lengths, check_same_tokenizer, find_inputs
from textgen.training.checkpoint_manifest import write_manifest


def flags_of(error: pytest.ExceptionInfo[UserError]) -> list[str]:
    """The flag that each problem of an error starts with."""
    return [problem.split()[0].rstrip(":") for problem in error.value.problems]


def adapter(directory: Path, base: str = "tiny-gpt2") -> Path:
    """A directory that looks like a saved adapter."""
    directory.mkdir()
    (directory / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}), encoding="utf-8")
    return directory


def test_the_default_settings_pass_and_nothing_is_written(checked, tmp_path):
    found = checked()
    assert list(found.models) == ["model"]
    assert found.model.context == 256
    assert found.model.architecture == "GPT2LMHeadModel"
    assert len(found.model.tokenizer) == 4096
    assert [source.name for source in found.sources.train] == ["python-reference"]
    assert found.judge is found.amateur is None
    assert list(tmp_path.iterdir()) == []


def test_invalid_settings_of_all_groups_are_in_one_message(checked):
    wrong: dict[str, Any] = {"--dropout": -0.1, "--attention-dropout": 1, "--method": "lora", "--lora-rank": 0}
    wrong |= {"--lora-alpha": -1, "--lora-dropout": 1, "--lora-plus-ratio": 0, "--validation-fraction": 1}
    wrong |= {"--block-size": 1, "--learning-rate": -1, "--threads": -1, "--log-every": 0}
    wrong |= {"--wandb-timeout": 0, "--prompts": 0}
    wrong |= {"--strategies": "gready"}
    with pytest.raises(UserError) as caught:
        checked("--from-scratch", *(word for pair in wrong.items() for word in pair))
    expected = ["--dropout", "--attention-dropout", "--from-scratch", *list(wrong)[3:]]
    assert flags_of(caught) == expected


def test_invalid_settings_of_an_evaluation_are_in_one_message(checked):
    wrong = {"--dropout": -0.1, "--lora-rank": 0, "--block-size": 1, "--threads": -1, "--wandb-timeout": 0}
    wrong |= {"--prompts": 0}
    with pytest.raises(UserError) as caught:
        checked(*(word for pair in wrong.items() for word in pair), recipe="evaluate")
    assert flags_of(caught) == list(wrong)


def test_the_number_of_processes_is_checked_against_the_batch(checked, monkeypatch, no_data):
    flags = ("--global-batch-size", 12, "--microbatch-size", 4)
    checked(*flags)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"--global-batch-size 12 .* on 2 process"):
        checked(*flags)


def test_strategies_are_checked_even_if_they_are_skipped(checked):
    for more in ([], ["--skip-decoding"]):
        with pytest.raises(UserError, match="gready"):
            checked("--strategies", "gready", *more)


def test_several_problems_of_strategies_are_separate(checked):
    with pytest.raises(UserError) as caught:
        checked("--prompts", 0, "--strategies", "top_p[2],gready")
    assert flags_of(caught) == ["--prompts", "--strategies", "--strategies"]


def test_a_strategy_that_needs_an_amateur_says_so(checked, no_data):
    with pytest.raises(UserError, match=r"contrastive_decoding: .* --amateur"):
        checked("--strategies", "greedy,contrastive_decoding")
    found = checked("--strategies", "greedy,contrastive_decoding", "--amateur", "tiny-gpt2")
    assert found.amateur is not None
    assert (found.amateur.setting, found.amateur.context) == ("--amateur", 256)


def test_an_amateur_must_have_the_models_tokenizer(checked, no_data, tmp_path, tokenizer, tiny_gpt2):
    tiny_gpt2().save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    flags = ("--amateur", tmp_path / "other", "--prompt-tokens", 8, "--max-new-tokens", 8)
    with pytest.raises(UserError, match=r"--amateur .*other: its vocabulary differs.*300 and 4096.*same tokenizer"):
        checked(*flags)
    assert checked(*flags, "--skip-decoding").amateur is None, "not used, so not loaded"
    model = find_model(ModelConfig())
    check_same_tokenizer(find_model(ModelConfig(), setting="--amateur"), model)


def test_prompts_must_fit_into_the_amateurs_context(checked, no_data, tmp_path, tiny_gpt2):
    tokenizer = find_model(ModelConfig()).tokenizer
    tiny_gpt2(vocab_size=4096).save_pretrained(tmp_path / "small")
    tokenizer.save_pretrained(tmp_path / "small")
    flags = ("--amateur", tmp_path / "small", "--prompt-tokens", 40, "--max-new-tokens")
    checked(*flags, 24)
    with pytest.raises(
        UserError, match=r"--prompt-tokens 40 with --max-new-tokens 25: .* context of --amateur .*small, 64 tokens"
    ):
        checked(*flags, 25)


def test_the_judge_and_the_baseline_are_found_like_the_model(checked, no_data):
    flags = ("--model", "tiny-gpt2", "--judge", "tiny-gpt2", "--baseline", "tiny-gpt2", "--from-scratch")
    found = checked(*flags, recipe="evaluate")
    assert list(found.models) == ["baseline", "model"], "the baseline is measured first"
    assert found.model is found.models["model"]
    assert found.judge is not None
    settings = {model.setting: model.config.from_scratch for model in (*found.models.values(), found.judge)}
    assert settings == {"--baseline": False, "--model": True, "--judge": False}


def test_everything_must_fit_into_the_context_of_the_baseline_too(checked, no_data, tmp_path, tokenizer, tiny_gpt2):
    tiny_gpt2().save_pretrained(tmp_path / "small")
    tokenizer.save_pretrained(tmp_path / "small")
    flags = ("--prompt-tokens", 40, "--max-new-tokens", 25)
    checked(*flags, recipe="evaluate")
    with pytest.raises(UserError, match=r"exceeds the context of --baseline .*small, 64 tokens"):
        checked(*flags, "--baseline", tmp_path / "small", recipe="evaluate")


def test_missing_inputs_are_named_by_their_flags_in_one_message(tmp_path):
    (tmp_path / "empty.txt").write_text("", encoding="utf-8")
    data = DataConfig(data=str(tmp_path / "empty.txt"), validation_data=str(tmp_path / "nowhere.txt"))
    models = {"--model": ModelConfig(model=str(tmp_path)), "--baseline": ModelConfig(model="./nowhere")}
    with pytest.raises(UserError) as caught:
        find_inputs(data, models)
    assert flags_of(caught) == ["--data", "--validation-data", "--model", "--baseline"]


def test_missing_models_of_all_kinds_are_named_with_the_data(checked):
    flags = ["--data", "nowhere.txt", "--model", "./a", "--baseline", "./b", "--judge", "./c", "--amateur", "./d"]
    with pytest.raises(UserError) as caught:
        checked(*flags, recipe="evaluate")
    assert flags_of(caught) == ["--data", "--baseline", "--model", "--judge", "--amateur"]


def test_existing_inputs_are_found(tmp_path):
    (tmp_path / "text.txt").write_text("Words.", encoding="utf-8")
    found = find_inputs(DataConfig(data=str(tmp_path / "text.txt")), {"--model": ModelConfig()})
    assert [source.name for source in found.train] == ["text.txt"]
    assert found.held_out is None


def test_the_run_directory_is_checked_before_the_models_are_read(checked, no_data, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x", encoding="utf-8")
    monkeypatch.setattr("textgen.plan.check.find_model", None)
    with pytest.raises(UserError, match=r"thesis\.tex"):
        checked("--run-dir", "mine")


def test_everything_that_exceeds_the_context_is_named_at_once():
    evaluation = EvaluationConfig(prompt_tokens=200, max_new_tokens=57, convention="strided", stride=257)
    with pytest.raises(UserError) as caught:
        check_lengths(256, evaluation, block_size=257)
    assert flags_of(caught) == ["--block-size", "--prompt-tokens", "--stride"]
    assert all("256" in problem or "context" in problem for problem in caught.value.problems)
    check_lengths(257, evaluation, block_size=257)


def test_the_length_of_continuations_only_matters_if_there_are_any(checked, no_data):
    evaluation = EvaluationConfig(prompt_tokens=2000, skip_decoding=True)
    check_lengths(256, evaluation)
    with pytest.raises(UserError, match="--prompt-tokens 2000"):
        check_lengths(256, evaluation, samples_during_training=True)
    flags = ("--prompt-tokens", 2000, "--skip-decoding")
    checked(*flags)
    with pytest.raises(UserError, match="--prompt-tokens 2000"):
        checked(*flags, "--sample-every", 5)


def test_fine_tuning_does_not_start_from_an_adapter_and_evaluation_does(checked, no_data, tmp_path):
    path = adapter(tmp_path / "adapter")
    with pytest.raises(UserError) as caught:
        checked("--model", path)
    message = str(caught.value)
    assert message.startswith(f"--model {path}: this is an adapter")
    assert f"Start from its base ({BUNDLED_MODELS['tiny-gpt2']})" in message
    assert checked("--model", path, recipe="evaluate").model.location.adapter == path


def test_the_weights_that_get_an_adapter_are_found_before_the_model_is_loaded(checked, no_data):
    assert checked().targets is None
    assert len(checked("--method", "lora").targets.adapted) == 16
    assert len(checked("--method", "qlora", "--lora-targets", "c_attn").targets.adapted) == 4
    with pytest.raises(UserError, match=r"--lora-targets q_proj: the model has no such linear layer"):
        checked("--method", "lora", "--lora-targets", "q_proj")


@pytest.mark.parametrize("setting", ["--model", "--judge", "--amateur"])
def test_a_model_in_an_unknown_quantized_format_is_refused(checked, no_data, tmp_path, setting):
    config = json.loads((BUNDLED_MODELS["tiny-gpt2"] / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "exl3"}}))
    with pytest.raises(UserError, match=rf"^{setting} .*: its weights are quantized \(exl3\), and cannot be used here"):
        checked(setting, tmp_path)


def test_the_method_must_suit_quantized_weights(checked, no_data, tmp_path):
    for source in BUNDLED_MODELS["tiny-gpt2"].glob("*.json"):
        (tmp_path / source.name).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"^--method full with --model .*\(bitsandbytes, 4 bits\).* Use --method qlora"):
        checked("--model", tmp_path)
    assert checked("--model", tmp_path, "--method", "lora").model.quantized.bits == 4
    assert checked("--model", tmp_path, recipe="evaluate").model.quantized.bits == 4


def test_notes_about_the_data_are_printed_once(checked, tmp_path, monkeypatch, capsys):
    (tmp_path / "texts").mkdir()
    for name in ("a.txt", "b.md"):
        (tmp_path / "texts" / name).write_text("Words.", encoding="utf-8")
    note = "texts: passed over 1 file of other formats (.md 1)\n"
    for recipe in ("finetune", "evaluate"):
        checked("--data", "texts", recipe=recipe)
        assert note in capsys.readouterr().out
    monkeypatch.setenv("RANK", "1")
    checked("--data", "texts")
    assert note not in capsys.readouterr().out


def test_a_cache_that_cannot_be_written_is_found_with_the_other_problems(checked, monkeypatch):
    monkeypatch.setenv("TEXTGEN_CACHE", "/proc/x")
    with pytest.raises(UserError) as caught:
        checked("--data", "nowhere.txt", "--model", "./nowhere")
    assert flags_of(caught) == ["--data", "--model", "$TEXTGEN_CACHE"]
    with pytest.raises(UserError) as caught:
        checked("--data", "https://127.0.0.1:9/a.txt")
    assert flags_of(caught) == ["$TEXTGEN_CACHE"], "once"


def test_validation_data_that_is_the_training_data_is_refused_for_training_only(checked):
    flags = ("--data", "python-reference", "--validation-data", "python-reference")
    with pytest.raises(UserError, match="--validation-data python-reference: all of it is also in --data"):
        checked(*flags)
    checked(*flags, recipe="evaluate")


def test_the_files_of_a_run_are_known_for_when_they_change(checked, tmp_path):
    (tmp_path / "plays.txt").write_text("To be or not to be.\n\nThat is the question.\n", encoding="utf-8")
    inputs = checked("--data", "plays.txt", "--block-size", 2, "--evaluation-tokens", 5).inputs
    assert list(inputs["data"]) == ["plays.txt"]
    assert "tokenizer.json" in inputs["tokenizer"]
    assert {"config.json", "model.safetensors"} == set(inputs["model"])


def test_a_checkpoint_of_other_settings_is_refused(checked, tmp_path):
    write_manifest(tmp_path, step=2, files={}, fingerprints={"settings": "other", "data": "other"})
    with pytest.raises(UserError, match=r"--resume .*: this checkpoint was written with other settings"):
        checked(
            "--resume", tmp_path, "--learning-rate", 1e-3, "--warmup-steps", 1, "--block-size", 64, "--packing", "none"
        )
