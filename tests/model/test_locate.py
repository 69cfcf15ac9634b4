"""What is known about a model before its weights are loaded."""

import json
from pathlib import Path

import pytest
from transformers import GPT2Config, LlamaConfig

from textgen.errors import UserError
from textgen.model.config import ModelConfig
from textgen.model.locate import (
    BUNDLED_MODELS,
    Location,
    context_length,
    first_line,
    load_tokenizer,
    locate,
    model_config,
)

BUNDLED = str(BUNDLED_MODELS["tiny-gpt2"])


def refusal(model: str) -> str:
    with pytest.raises(UserError) as caught:
        locate(model)
    return str(caught.value)


def adapter(directory: Path, **content: object) -> Path:
    directory.mkdir()
    (directory / "adapter_config.json").write_text(json.dumps(content))
    return directory


def test_the_bundled_model_a_directory_and_a_hub_id_are_told_apart(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert locate("tiny-gpt2") == Location(BUNDLED)
    assert locate(str(tmp_path)) == Location(str(tmp_path))
    assert locate("gpt2") == Location("gpt2")
    assert locate("meta-llama/Llama-3.2-1B", "main") == Location("meta-llama/Llama-3.2-1B", None, "main")


def test_an_adapter_is_found_with_its_base(tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    named = adapter(tmp_path / "a", base_model_name_or_path=str(base))
    assert locate(str(named)) == Location(str(base), named)
    hub = adapter(tmp_path / "b", base_model_name_or_path="gpt2")
    assert locate(str(hub)) == Location("gpt2", hub)
    moved = adapter(tmp_path / "c", base_model_name_or_path="/elsewhere/textgen/assets/tiny-gpt2")
    assert locate(str(moved)) == Location(BUNDLED, moved)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"base_model_name_or_path": "/gone/base"}, "an adapter for /gone/base, which is not on this machine"),
        ({"base_model_name_or_path": None}, "does not name a base model"),
        ({}, "does not name a base model"),
    ],
)
def test_an_adapter_whose_base_is_not_there_is_refused(tmp_path, content, said):
    path = adapter(tmp_path / "adapter", **content)
    message = refusal(str(path))
    assert message.startswith(f"--model {path}: ")
    assert said in message


def test_an_adapter_with_a_torn_configuration_is_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_na')
    assert "does not name a base model" in refusal(str(tmp_path))


def test_what_is_no_model_is_refused_with_what_to_name_instead(tmp_path):
    (tmp_path / "model").mkdir()
    file = tmp_path / "model.safetensors"
    file.write_text("x")
    assert refusal(str(tmp_path)).endswith("holds no model (no config.json). Its model/ is one.")
    assert refusal(str(tmp_path / "model")).endswith("holds no model (no config.json).")
    assert "this is a file; name the directory that holds config.json" in refusal(str(file))
    for missing in ("./nowhere", "/nowhere", "~/nowhere", "a/b/c", "two words"):
        assert refusal(missing) == f"--model {missing}: there is no such directory."
    with pytest.raises(UserError, match=r"--baseline \./nowhere"):
        locate("./nowhere", setting="--baseline")


@pytest.mark.parametrize("content", ["{", "{}", '{"model_type": "frobnicator"}', "[]"])
def test_a_configuration_that_cannot_be_read_is_the_users_to_mend(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=f"--model {tmp_path}: "):
        model_config(locate(str(tmp_path)), ModelConfig())


def test_a_model_of_the_hub_without_a_network_is_the_users_to_mend():
    with pytest.raises(UserError, match="--model some-one/some-model: "):
        model_config(locate("some-one/some-model"), ModelConfig())


def test_code_that_comes_with_a_model_is_not_run(tmp_path):
    content = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (tmp_path / "config.json").write_text(json.dumps(content))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass OwnConfig: ...\n")
    with pytest.raises(UserError):
        model_config(locate(str(tmp_path)), ModelConfig())
    assert not (tmp_path / "ran").exists()


def test_the_tokenizer_comes_with_the_model_or_with_the_adapter(tmp_path, tokenizer):
    assert len(load_tokenizer(locate("tiny-gpt2"), ModelConfig())) == 4096
    path = adapter(tmp_path / "adapter", base_model_name_or_path=BUNDLED)
    assert len(load_tokenizer(locate(str(path)), ModelConfig())) == 4096
    tokenizer.save_pretrained(path)
    assert len(load_tokenizer(locate(str(path)), ModelConfig())) == 300


@pytest.mark.parametrize("family", [GPT2Config, LlamaConfig])
def test_a_model_without_a_tokenizer_is_refused(tmp_path, family):
    family().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"--model {tmp_path}: (there is no tokenizer|its tokenizer cannot be loaded)"):
        load_tokenizer(locate(str(tmp_path)), ModelConfig())


def test_the_context_is_found_by_whatever_name_its_family_has_for_it():
    assert context_length(GPT2Config(n_positions=77)) == 77
    assert context_length(LlamaConfig(max_position_embeddings=99)) == 99
    assert context_length(object()) == 2048


def test_an_error_is_quoted_by_its_first_line():
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"
