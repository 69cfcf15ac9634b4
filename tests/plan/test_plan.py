"""What is checked before anything expensive starts."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from textgen.data.config import DataConfig
from textgen.errors import UserError
from textgen.evaluation.config import EvaluationConfig
from textgen.model.config import AdapterConfig, ModelConfig
from textgen.model.locate import Location
from textgen.plan.check import Plan, amateur_config, check_inputs, check_settings, plan_amateur, plan_model, say_plan
from textgen.run.directory import RunDirectory
from textgen.training.config import TrainingConfig


def test_settings_that_can_be_pass():
    check_settings(EvaluationConfig(), ModelConfig().problems(), DataConfig().problems())


def test_problems_of_all_rooms_come_in_one_message():
    wrong = ModelConfig(dropout=-0.1, attention_dropout=1, from_scratch=True, method="lora")
    adapters = AdapterConfig(lora_rank=0, lora_alpha=-1, lora_dropout=1, lora_plus_ratio=0)
    data = DataConfig(validation_fraction=1, block_size=1)
    with pytest.raises(UserError) as caught:
        check_settings(
            EvaluationConfig(prompts=0, strategies="gready"), wrong.problems(), adapters.problems(), data.problems()
        )
    lines = str(caught.value).splitlines()
    flags = ["--dropout", "--attention-dropout", "--from-scratch", "--lora-rank", "--lora-alpha", "--lora-dropout"]
    flags += ["--lora-plus-ratio", "--validation-fraction", "--block-size", "--prompts", "--strategies"]
    assert [line.split()[1].rstrip(":") for line in lines] == flags


def test_strategies_do_not_matter_where_nothing_is_decoded():
    check_settings(EvaluationConfig(strategies="gready", skip_decoding=True), [])
    with pytest.raises(UserError, match="gready"):
        check_settings(EvaluationConfig(strategies="gready"), [])


def test_several_problems_of_strategies_are_lines_of_their_own():
    with pytest.raises(UserError) as caught:
        check_settings(EvaluationConfig(prompts=0, strategies="top_p[2],gready"), [])
    assert [line[:6] for line in str(caught.value).splitlines()] == ["- --pr", "- --st", "- --st"]


def test_a_strategy_that_takes_an_amateur_asks_for_one():
    with pytest.raises(UserError, match=r"contrastive_decoding: .* --amateur"):
        check_settings(EvaluationConfig(strategies="greedy,contrastive_decoding"), [])
    check_settings(EvaluationConfig(strategies="greedy,contrastive_decoding", amateur="tiny-gpt2"), [])


def test_an_amateur_speaks_in_the_same_tokens(tmp_path, tokenizer, tiny_gpt2):
    tiny_gpt2().save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    evaluation = EvaluationConfig(amateur=str(tmp_path / "other"), prompt_tokens=8, max_new_tokens=8)
    plan = plan_model(ModelConfig(), evaluation, block_size=None)
    with pytest.raises(UserError, match=r"--amateur .*other: its tokens are others.*300 and 4096.*same tokenizer"):
        plan_amateur(amateur_config(ModelConfig(), evaluation), evaluation, plan)
    same = EvaluationConfig(amateur="tiny-gpt2")
    found = plan_amateur(amateur_config(ModelConfig(model="gpt2", revision="main"), same), same, plan)
    assert found is not None
    assert found.context == 256
    assert amateur_config(ModelConfig(), EvaluationConfig(amateur="tiny-gpt2", skip_decoding=True)) is None
    assert plan_amateur(None, evaluation, plan) is None


def test_missing_inputs_are_named_by_their_flags_in_one_message(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    data = DataConfig(data=str(tmp_path / "empty.txt"), validation_data=str(tmp_path / "nowhere.txt"))
    models = {"--model": ModelConfig(model=str(tmp_path)), "--baseline": ModelConfig(model="./nowhere")}
    with pytest.raises(UserError) as caught:
        check_inputs(data, models)
    lines = str(caught.value).splitlines()
    assert [line.split()[1] for line in lines] == ["--data", "--validation-data", "--model", "--baseline"]


def test_inputs_that_are_there_pass(tmp_path):
    (tmp_path / "text.txt").write_text("Words.")
    check_inputs(DataConfig(data=str(tmp_path / "text.txt")), {"--model": ModelConfig()})


def test_the_plan_of_the_bundled_model_says_its_sizes():
    plan = plan_model(ModelConfig(), EvaluationConfig(), block_size=256)
    assert (plan.context, plan.architecture, len(plan.tokenizer)) == (256, "GPT2LMHeadModel", 4096)
    plan.refuse_adapter()


def test_everything_that_is_over_the_context_is_named_at_once():
    evaluation = EvaluationConfig(prompt_tokens=200, max_new_tokens=57, convention="strided", stride=257)
    with pytest.raises(UserError) as caught:
        plan_model(ModelConfig(), evaluation, block_size=257)
    lines = str(caught.value).splitlines()
    assert [line.split()[1] for line in lines] == ["--block-size", "--prompt-tokens", "--stride"]
    assert all("256" in line for line in lines)


def test_continuations_that_are_not_made_may_be_as_long_as_they_like():
    evaluation = EvaluationConfig(prompt_tokens=2000, skip_decoding=True)
    assert plan_model(ModelConfig(), evaluation, block_size=None).context == 256


def test_fine_tuning_does_not_start_from_an_adapter():
    plan = Plan(Location("tiny-gpt2", Path("runs/x/model")), None, 256, "GPT2LMHeadModel")
    with pytest.raises(UserError, match=r"--model runs/x/model: this is an adapter.*Start from its base"):
        plan.refuse_adapter()


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(tmp_path):
    text = tmp_path / "texts.txt"
    text.write_text("\n\n".join(f"Document {i} has a few words in it." for i in range(60)))
    config: Any = SimpleNamespace(
        model=ModelConfig(),
        data=DataConfig(data=str(text), block_size=32),
        training=TrainingConfig(global_batch_size=16, microbatch_size=4, learning_rate=3e-4),
        evaluation=EvaluationConfig(strategies="greedy"),
    )
    said: list[str] = []
    directory = RunDirectory({}, given=str(tmp_path / "run"), name="x")
    plan = plan_model(config.model, config.evaluation, block_size=32)
    say_plan(said.append, config, plan, directory, processes=2, precision="fp32")
    text_said = "\n".join(said)
    for part in (
        "GPT2LMHeadModel, context 256",
        "1 epoch(s), adamw, cosine to 0.0003, fp32",
        "16 blocks of 32 tokens",
        "4 microbatches, 2 on each of 2 process(es)",
        "rolling perplexity; strategies greedy",
        f"{tmp_path / 'run'} (new)",
    ):
        assert part in text_said
    assert [path.name for path in tmp_path.iterdir()] == ["texts.txt"]


def test_a_dry_run_finds_data_that_cannot_fill_a_block(tmp_path):
    text = tmp_path / "texts.txt"
    text.write_text("\n\n".join(f"Text {i}." for i in range(40)))
    config: Any = SimpleNamespace(
        model=ModelConfig(),
        data=DataConfig(data=str(text), block_size=256),
        training=TrainingConfig(),
        evaluation=EvaluationConfig(skip_decoding=True),
    )
    plan = plan_model(config.model, config.evaluation, block_size=256)
    with pytest.raises(UserError, match=r"--block-size 256: the training text of .* has only"):
        say_plan(lambda line: None, config, plan, RunDirectory({}, given="x", name="x"), processes=1, precision="fp32")
