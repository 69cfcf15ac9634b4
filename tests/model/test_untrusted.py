"""Models from somebody who means harm: no code of theirs runs, and nothing of it is passed on."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer

from textgen.data.examples.chat import check_template, write_chat
from textgen.errors import UserError, collect_problems
from textgen.model.build import build_model
from textgen.model.config import AdapterConfig, ModelConfig
from textgen.model.loading import load_model, save_model
from textgen.model.locate import BUNDLED_MODELS, find_model
from textgen.model.untrusted import check_config_values

CPU: dict[str, Any] = {"device": torch.device("cpu"), "dtype": torch.float32, "seed": 0}
CODE = "import pathlib\npathlib.Path({canary!r}).touch()\n"
FILES = ("modeling_evil", "configuration_evil", "tokenization_evil", "evil")
WRONG = (None, [], {}, "x", "../../x", -1, 0, 1.5, True, 10**30, [[1]], {"a": {"b": 1}}, [None], float("nan"))

EXHAUSTIVE = [pytest.mark.slow, pytest.mark.exhaustive]


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """``hostile("config.json", auto_map=…)``: a copy of the bundled model with other values in a file, and next to it
    and in the current directory Python files that would make the canary."""
    canary = tmp_path / "canary"

    def make(file: str = "", **values: Any) -> Path:
        directory = tmp_path / "model"
        shutil.copytree(BUNDLED_MODELS["tiny-gpt2"], directory, dirs_exist_ok=True)
        for place in (directory, tmp_path):
            for name in FILES:
                (place / f"{name}.py").write_text(CODE.format(canary=str(canary)), encoding="utf-8")
        if file:
            path = directory / file
            content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            path.write_text(json.dumps(content | values), encoding="utf-8")
        return directory

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield make
    assert not canary.exists(), "code of the model ran"


def load(directory: Path) -> Any:
    config = ModelConfig(model=str(directory))
    found = find_model(config)
    return found, load_model(found.location, config)


MAP = {"AutoConfig": "configuration_evil.Config", "AutoModelForCausalLM": "modeling_evil.Model"}
MAP |= {"AutoTokenizer": ["tokenization_evil.Slow", "tokenization_evil.Fast"], "AutoModel": "modeling_evil.Model"}


def test_a_map_to_code_neither_runs_nor_is_saved_with_the_model(hostile, tmp_path):
    hostile("config.json", auto_map=MAP, custom_pipelines={"x": {"impl": "modeling_evil.Model"}})
    directory = hostile("tokenizer_config.json", auto_map=MAP, tokenizer_class="GPT2Tokenizer")
    hostile("generation_config.json", custom_generate="evil", auto_map=MAP)
    found, model = load(directory)
    save_model(model, found.tokenizer, tmp_path / "out", base_fingerprint=None)
    saved = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "out").glob("*.json")}
    assert {"config.json", "tokenizer_config.json"} <= saved.keys()
    for name in ("config.json", "tokenizer_config.json"):
        assert "evil" not in saved[name]
        assert "auto_map" not in saved[name]
    assert not list((tmp_path / "out").glob("*.py"))


def test_a_trained_model_has_no_map_to_code_either(hostile, tmp_path):
    directory = hostile("config.json", auto_map=MAP)
    found = find_model(ModelConfig(model=str(directory), method="lora"))
    trained = build_model(found, AdapterConfig(lora_rank=2), **CPU)
    assert not hasattr(trained.model.config, "auto_map")


def test_with_trust_the_map_stays(hostile):
    directory = hostile("config.json", auto_map={"AutoModelForSequenceClassification": "modeling_mine.Model"})
    config = ModelConfig(model=str(directory), trust_remote_code=True)
    found = find_model(config)
    assert load_model(found.location, config).config.auto_map


def test_a_model_that_only_its_own_code_can_build_is_refused(hostile):
    directory = hostile("config.json", auto_map=MAP, model_type="evil")
    with pytest.raises(UserError, match=r"needs Python code of its own, .* Read it, then use --trust-remote-code"):
        find_model(ModelConfig(model=str(directory)))


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_kernels_of_the_hub_are_not_named_by_a_model(hostile, name):
    _, model = load(hostile("config.json", **{name: "evil/kernel"}))
    assert model.config._attn_implementation in ("sdpa", "eager")
    assert "evil" not in str(model.config.to_dict())


@pytest.mark.parametrize(
    "weights", ["adapter_model.bin", "pytorch_model.bin", "../out.safetensors", "/a.safetensors", 5, "a/b.safetensors"]
)
def test_weights_are_safetensors_files_of_the_model(hostile, weights):
    with pytest.raises(UserError, match=r"'transformers_weights: .*' is not a safetensors file"):
        load(hostile("config.json", transformers_weights=weights))


def test_pickled_weights_are_not_read(hostile, tmp_path):
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "canary"),)

    import pickle

    directory = hostile()
    (directory / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "adapter_model.bin", "model.bin", "training_args.bin"):
        (directory / name).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match="Weights are read from safetensors files only"):
        load(directory)


@pytest.mark.parametrize(
    "index",
    [
        {"weight_map": {"a": "../other/model.safetensors"}},
        {"weight_map": {"a": "/etc/x.safetensors"}},
        {"weight_map": {"a": "pytorch_model.bin"}},
        {"weight_map": {"a": ["x"]}},
        {"weight_map": {"a": 5}},
        {"weight_map": None},
        {},
        [],
    ],
)
def test_an_index_names_safetensors_files_of_its_directory(hostile, index):
    directory = hostile()
    (directory / "model.safetensors").rename(directory.parent / "model.safetensors")
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"model\.safetensors\.index\.json (names|is damaged)"):
        find_model(ModelConfig(model=str(directory)))


def test_a_model_of_links_as_the_hubs_cache_has_it_is_loaded(hostile, tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots/0123"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for i, path in enumerate(sorted(BUNDLED_MODELS["tiny-gpt2"].iterdir())):
        shutil.copy(path, blobs / str(i))
        (snapshot / path.name).symlink_to(f"../../blobs/{i}")
    load(snapshot)


@pytest.mark.parametrize(
    "values",
    [
        {"auto_mapping": {"base_model_class": "Evil", "parent_library": "evil"}, "task_type": None},
        {"megatron_config": {"a": 1}, "megatron_core": "evil"},
        {"megatron_config": {"a": 1}, "megatron_core": "megatron.evil"},
    ],
)
def test_an_adapter_imports_no_module(hostile, saved_adapter, values):
    path = saved_adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    hostile()
    _, model = load(saved_adapter)
    assert "evil" not in str(model.peft_config["default"].to_dict()).replace("megatron.evil", "").replace(
        "'megatron_core': 'evil'", ""
    )


@pytest.fixture
def saved_adapter(tmp_path: Path) -> Path:
    found = find_model(ModelConfig(method="lora"))
    trained = build_model(found, AdapterConfig(lora_rank=2, lora_targets="c_attn"), **CPU)
    save_model(trained.model, found.tokenizer, tmp_path / "adapter", base_fingerprint="")
    (tmp_path / "adapter/tokenizer.json").unlink()
    return tmp_path / "adapter"


ADAPTER_KEYS = ("base_model_name_or_path", "peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "bias")
ADAPTER_KEYS += ("target_modules", "modules_to_save", "init_lora_weights", "rank_pattern", "use_dora", "revision")


@pytest.mark.parametrize("key", [pytest.param(k, marks=[] if k == "r" else EXHAUSTIVE) for k in ADAPTER_KEYS])
def test_wrong_types_in_an_adapter_are_messages(saved_adapter, key):
    path = saved_adapter / "adapter_config.json"
    content = json.loads(path.read_text())
    for value in WRONG:
        path.write_text(json.dumps(content | {key: value}))
        refused_or_loaded(saved_adapter)


def refused_or_loaded(directory: Path) -> bool:
    try:
        load(directory)
    except UserError as error:
        message = str(error)
        return bool(message) and len(message) < 1500
    return True


def test_an_adapter_of_an_adapter_is_refused(saved_adapter, tmp_path):
    (tmp_path / "second").mkdir()
    (tmp_path / "second/adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(saved_adapter)}))
    with pytest.raises(UserError, match="is an adapter too"):
        find_model(ModelConfig(model=str(tmp_path / "second")))


DECISIVE = ("architectures", "model_type", "vocab_size", "n_layer", "n_embd", "activation_function", "dtype")
KEYS = sorted(AutoConfig.from_pretrained(BUNDLED_MODELS["tiny-gpt2"]).to_dict())
KEYS += ["quantization_config", "torch_dtype", "text_config", "auto_map", "attn_implementation", "rope_parameters"]


@pytest.mark.parametrize("key", [pytest.param(k, marks=[] if k in DECISIVE else EXHAUSTIVE) for k in KEYS])
def test_wrong_types_in_config_json_are_messages(hostile, tmp_path, key):
    for value in WRONG:
        directory = hostile()
        content = json.loads((BUNDLED_MODELS["tiny-gpt2"] / "config.json").read_text())
        (directory / "config.json").write_text(json.dumps(content | {key: value}))
        assert refused_or_loaded(directory), (key, value)


@pytest.mark.parametrize("content", ["", "[]", "null", "5", "{", '"x"', "[" * 9999, '{"model_type": "gpt2"', "\ud800"])
def test_a_config_that_is_no_object_is_a_message(hostile, content):
    directory = hostile()
    (directory / "config.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match="--model"):
        find_model(ModelConfig(model=str(directory)))


@pytest.mark.parametrize("values", [{"n_layer": 10**6}, {"a": {"num_hidden_layers": 10**7}}, {"x": [10**30]}])
def test_sizes_that_no_model_has_are_refused_at_once(values):
    with pytest.raises(UserError, match=r"--model m: config.json cannot be read: '\w+: \d+' is out of range"):
        check_config_values(values, "--model m")
    check_config_values({"n_layer": 100, "max_position_embeddings": 10**7, "architectures": None}, "--model m")


ESCAPES = (
    "{{ messages.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''.__class__.__base__.__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.mkdir('canary') }}",
    "{{ lipsum.__globals__['os'].mkdir('canary') }}",
    "{{ self.__init__.__globals__.__builtins__.open('canary', 'w') }}",
    "{{ raise_exception.__globals__['os'].mkdir('canary') }}",
    "{{ strftime_now.__globals__['os'].mkdir('canary') }}",
    "{% set x = messages.append({'role': 'user'}) %}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os.mkdir('canary') }}",
)


@pytest.mark.parametrize("template", ESCAPES)
def test_a_chat_template_does_not_leave_its_sandbox(hostile, template):
    directory = hostile("tokenizer_config.json", chat_template=template)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    check_template(tokenizer)
    with pytest.raises(UserError, match=r"the chat template"):
        write_chat(tokenizer, [{"role": "user", "content": "Hi"}])


@pytest.mark.parametrize("template", [5, [], {"a": {"b": 1}}, {"a": None}])
def test_a_chat_template_is_text(hostile, template):
    directory = hostile("tokenizer_config.json", chat_template=template)
    problems: list[str] = []
    with collect_problems(problems):
        assert find_model(ModelConfig(model=str(directory))).tokenizer.chat_template in (None, {})
    assert all(problem.startswith("--model") for problem in problems)
