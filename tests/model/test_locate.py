"""Finding a model, its configuration and its tokenizer, before its weights are loaded."""

import json
from pathlib import Path

import pytest
from transformers import GPT2Config, LlamaConfig

from textgen.errors import UserError
from textgen.model.config import ModelConfig
from textgen.model.locate import (
    BUNDLED_MODELS,
    Location,
    find_model,
    load_tokenizer,
    locate,
    model_config,
)
from textgen.run.manifest import hash_model, write_manifest

BUNDLED = str(BUNDLED_MODELS["tiny-gpt2"])


def refusal(model: str) -> str:
    """The message of the error that locating raises."""
    with pytest.raises(UserError) as caught:
        locate(model)
    return str(caught.value)


def adapter(directory: Path, **content: object) -> Path:
    directory.mkdir()
    (directory / "adapter_config.json").write_text(json.dumps(content))
    return directory


def test_the_bundled_model_a_directory_and_a_hub_id_are_distinguished(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert locate("tiny-gpt2") == Location(BUNDLED)
    assert locate(str(tmp_path)) == Location(str(tmp_path))
    assert locate("gpt2") == Location("gpt2")
    assert locate("meta-llama/Llama-3.2-1B", "main") == Location("meta-llama/Llama-3.2-1B", None, "main")


def test_a_damaged_result_of_a_run_is_refused(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    write_manifest(tmp_path, hash_model(model), {"state": "done"})
    assert locate(str(model)) == Location(str(model))
    (model / "config.json").write_text("[]")
    assert f"--model {model / 'config.json'}: missing or damaged" in refusal(str(model))


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
    ("content", "message"),
    [
        ({"base_model_name_or_path": "/gone/base"}, "its base model /gone/base is not on this machine"),
        ({"base_model_name_or_path": None}, "does not name a base model"),
        ({}, "does not name a base model"),
    ],
)
def test_an_adapter_without_its_base_is_refused(tmp_path, content, message):
    path = adapter(tmp_path / "adapter", **content)
    found = refusal(str(path))
    assert found.startswith(f"--model {path}: ")
    assert message in found


@pytest.mark.parametrize("text", ['{"base_model_na', "[" * 100_000])
def test_an_adapter_with_a_damaged_configuration_is_refused(tmp_path, text):
    (tmp_path / "adapter_config.json").write_text(text)
    assert "does not name a base model" in refusal(str(tmp_path))


def test_a_path_without_a_model_is_refused_with_a_suggestion(tmp_path):
    (tmp_path / "model").mkdir()
    file = tmp_path / "model.safetensors"
    file.write_text("x")
    suggestion = f"Did you mean {tmp_path / 'model'}?"
    assert refusal(str(tmp_path)).endswith(f"contains no model (no config.json). {suggestion}")
    assert refusal(str(tmp_path / "model")).endswith("contains no model (no config.json).")
    assert "this is a file. Use the directory that contains config.json" in refusal(str(file))
    for missing in ("./nowhere", "/nowhere", "~/nowhere", "a/b/c", "two words"):
        assert refusal(missing) == f"--model {missing}: no such directory."
    with pytest.raises(UserError, match=r"--baseline \./nowhere"):
        locate("./nowhere", setting="--baseline")


@pytest.mark.parametrize("content", ["{", "{}", '{"model_type": "frobnicator"}', "[]"])
def test_an_unreadable_configuration_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=f"--model {tmp_path}: "):
        model_config(locate(str(tmp_path)), ModelConfig())


@pytest.mark.parametrize("length", ["x", [1]])
def test_a_tokenizer_that_loads_and_cannot_be_used_is_refused(tmp_path, tokenizer, length):
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": length}))
    with pytest.raises(UserError, match=f"--model {tmp_path}: the tokenizer cannot be loaded: "):
        load_tokenizer(Location(str(tmp_path)), ModelConfig())


def test_a_tilde_is_the_home_directory_and_names_may_be_too_long(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/model").base == str(tmp_path / "model")
    with pytest.raises(UserError, match=r"--model x+: cannot be read: File name too long\."):
        locate("x" * 1000)


def test_a_hub_model_without_a_network_is_refused():
    expected = r"--model some-one/some-model: .*HF_HUB_OFFLINE is set: unset it, or name a local path"
    with pytest.raises(UserError, match=expected):
        model_config(locate("some-one/some-model"), ModelConfig())
    with pytest.raises(UserError, match=r"the tokenizer cannot be loaded: .*HF_HUB_OFFLINE is set"):
        load_tokenizer(locate("some-one/some-model"), ModelConfig())


def test_code_that_comes_with_a_model_is_not_executed(tmp_path):
    content = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (tmp_path / "config.json").write_text(json.dumps(content))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass OwnConfig: ...\n")
    with pytest.raises(UserError):
        model_config(locate(str(tmp_path)), ModelConfig())
    assert not (tmp_path / "ran").exists()


def test_the_tokenizer_is_the_adapters_or_else_the_bases(tmp_path, tokenizer):
    assert len(load_tokenizer(locate("tiny-gpt2"), ModelConfig())) == 4096
    path = adapter(tmp_path / "adapter", base_model_name_or_path=BUNDLED)
    assert len(load_tokenizer(locate(str(path)), ModelConfig())) == 4096
    tokenizer.save_pretrained(path)
    assert len(load_tokenizer(locate(str(path)), ModelConfig())) == 300


@pytest.mark.parametrize("family", [GPT2Config, LlamaConfig])
def test_a_model_without_a_tokenizer_is_refused(tmp_path, family):
    family().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"--model {tmp_path}: (there is no tokenizer|the tokenizer cannot be loaded)"):
        load_tokenizer(locate(str(tmp_path)), ModelConfig())


def test_a_model_is_found_with_everything_that_needs_no_weights(tmp_path, tiny_gpt2, tokenizer):
    bundled = find_model(ModelConfig(dropout=0.1))
    assert (bundled.location, bundled.architecture, bundled.context) == (Location(BUNDLED), "GPT2LMHeadModel", 256)
    assert (bundled.config, bundled.setting) == (ModelConfig(dropout=0.1), "--model")
    assert len(bundled.tokenizer) == 4096
    assert bundled.parameters == 1_350_400

    tiny_gpt2().config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    found = find_model(ModelConfig(model=str(tmp_path)), setting="--judge")
    assert (found.location, found.setting) == (Location(str(tmp_path)), "--judge")
    assert (found.architecture, found.context, len(found.tokenizer)) == ("GPT2Config", 64, 300)


def test_an_adapter_is_found_with_the_configuration_of_its_base(tmp_path, tokenizer):
    path = adapter(tmp_path / "adapter", base_model_name_or_path=BUNDLED)
    tokenizer.save_pretrained(path)
    found = find_model(ModelConfig(model=str(path)))
    assert (found.location, found.architecture, found.context) == (Location(BUNDLED, path), "GPT2LMHeadModel", 256)
    assert len(found.tokenizer) == 300


@pytest.mark.parametrize("missing", ["directory", "config.json", "tokenizer"])
def test_a_model_of_which_something_is_missing_is_refused_under_its_flag(tmp_path, missing):
    path = tmp_path / "model"
    if missing != "directory":
        path.mkdir()
    if missing == "tokenizer":
        GPT2Config().save_pretrained(path)
    with pytest.raises(UserError, match=f"^--baseline {path}: .*{missing}"):
        find_model(ModelConfig(model=str(path)), setting="--baseline")
