"""Models and adapters are saved as plain transformers and peft load them, and damaged or wrong ones are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, LlamaConfig, ViTConfig

from textgen.errors import UserError
from textgen.model.adapters.lora import add_adapters
from textgen.model.config import AdapterConfig, ModelConfig
from textgen.model.loading import load_model, parameter_counts, save_model, set_dropout, weights_fingerprint
from textgen.model.locate import Location, locate

IDS = torch.arange(20).reshape(2, 10)


@pytest.fixture
def saved(tmp_path: Path, tiny_gpt2: Callable[..., Any], tokenizer: Any) -> Path:
    """A full model on disk."""
    save_model(tiny_gpt2(), tokenizer, tmp_path / "base", base_fingerprint=None)
    return tmp_path / "base"


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def train(model: Any) -> Any:
    """One step of gradient descent, large enough to change the logits."""
    model(input_ids=IDS, labels=IDS).loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.5 * parameter.grad
                parameter.grad = None
    return model


def adapted(base: Path, tokenizer: Any, directory: Path, seed: int = 0) -> Any:
    """Train an adapter on the model in ``base``, and save it to ``directory``."""
    model = load_model(locate(str(base)), ModelConfig())
    fingerprint = weights_fingerprint(model)
    model = add_adapters(model, AdapterConfig(), str(base), seed=seed)
    train(train(model))
    save_model(model, tokenizer, directory, base_fingerprint=fingerprint)
    return model


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def refusal(model: Path | Location, config: ModelConfig | None = None) -> str:
    """The message of the error that loading raises."""
    with pytest.raises(UserError) as caught:
        load_model(model if isinstance(model, Location) else locate(str(model)), config or ModelConfig())
    return str(caught.value)


def test_a_full_model_reloads_with_plain_transformers_to_the_same_logits(saved, tiny_gpt2, tokenizer):
    plain = AutoModelForCausalLM.from_pretrained(saved)
    assert torch.equal(logits(plain), logits(tiny_gpt2()))
    assert plain.get_output_embeddings().weight is plain.get_input_embeddings().weight, "tied"
    assert AutoTokenizer.from_pretrained(saved).encode("naïve") == tokenizer.encode("naïve")
    assert not any(path.suffix in (".bin", ".pt", ".pkl") for path in saved.iterdir())


def test_weights_are_loaded_in_float32(saved, tiny_gpt2, tmp_path, tokenizer):
    assert torch.equal(logits(load_model(locate(str(saved)), ModelConfig())), logits(tiny_gpt2()))
    save_model(tiny_gpt2().to(torch.bfloat16), tokenizer, tmp_path / "half", base_fingerprint=None)
    assert {p.dtype for p in load_model(locate(str(tmp_path / "half")), ModelConfig()).parameters()} == {torch.float32}


def test_an_adapter_reloads_with_plain_peft_to_the_same_logits(saved, tokenizer, tmp_path, tiny_gpt2):
    model = adapted(saved, tokenizer, tmp_path / "adapter")
    before = logits(tiny_gpt2())
    assert not torch.allclose(logits(model), before, atol=1e-3)
    plain = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(saved), tmp_path / "adapter")
    assert torch.equal(logits(plain), logits(model))
    own = load_model(locate(str(tmp_path / "adapter")), ModelConfig())
    assert torch.equal(logits(own), logits(model))
    assert torch.allclose(logits(plain.merge_and_unload()), logits(model), atol=1e-5)


def test_an_adapter_is_saved_with_its_tokenizer_and_without_the_base(saved, tokenizer, tmp_path):
    adapted(saved, tokenizer, tmp_path / "adapter")
    assert {"adapter_config.json", "adapter_model.safetensors", "base_fingerprint.json", "tokenizer.json"} <= set(
        contents(tmp_path / "adapter")
    )
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert all("lora_A" in name or "lora_B" in name for name in tensors)
    assert not (tmp_path / "adapter" / "README.md").exists()
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == str(saved)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_saving_a_model_twice_writes_the_same_bytes(saved, tokenizer, tmp_path, tiny_gpt2, method):
    for name in ("one", "two"):
        if method == "lora":
            adapted(saved, tokenizer, tmp_path / name)
        else:
            save_model(tiny_gpt2(), tokenizer, tmp_path / name, base_fingerprint=None)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_saving_replaces_the_directory_and_leaves_no_temporary_files(saved, tokenizer, tiny_gpt2):
    (saved / "old.txt").write_text("x")
    leftover = saved.with_name(".base.partial")
    leftover.mkdir()
    (leftover / "torn.safetensors").write_text("x")
    save_model(tiny_gpt2(seed=1), tokenizer, saved, base_fingerprint=None)
    assert not (saved / "old.txt").exists()
    assert not (saved / "torn.safetensors").exists()
    assert [path.name for path in saved.parent.iterdir()] == ["base"]
    assert torch.equal(logits(load_model(locate(str(saved)), ModelConfig())), logits(tiny_gpt2(seed=1)))


def test_an_adapter_trained_on_other_weights_of_the_same_shape_is_refused(saved, tokenizer, tmp_path, tiny_gpt2):
    adapted(saved, tokenizer, tmp_path / "adapter")
    save_model(tiny_gpt2(seed=1), tokenizer, saved, base_fingerprint=None)
    message = refusal(tmp_path / "adapter")
    assert f"this adapter belongs to another base model than {saved}" in message
    assert "Correct base_model_name_or_path in adapter_config.json" in message


@pytest.mark.parametrize("shape", [{"n_embd": 16}, {"n_layer": 1}])
@pytest.mark.parametrize("recorded", [True, False])
def test_an_adapter_on_a_base_of_another_shape_is_refused(saved, tokenizer, tmp_path, tiny_gpt2, shape, recorded):
    adapted(saved, tokenizer, tmp_path / "adapter")
    if not recorded:  # as for adapters of other tools
        (tmp_path / "adapter" / "base_fingerprint.json").unlink()
    save_model(tiny_gpt2(**shape), tokenizer, saved, base_fingerprint=None)
    assert f"this adapter belongs to another base model than {saved}" in refusal(tmp_path / "adapter")


def test_an_adapter_whose_weights_are_pickled_or_missing_is_refused(saved, tokenizer, tmp_path):
    adapted(saved, tokenizer, tmp_path / "adapter")
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    torch.save(load_file(weights), weights.with_name("adapter_model.bin"))
    weights.unlink()
    assert "adapter_model.safetensors is missing" in refusal(tmp_path / "adapter")


@pytest.mark.parametrize("where", ["configuration", "weights"])
def test_an_adapter_with_magnitudes_in_only_one_of_its_files_is_refused(saved, tokenizer, tmp_path, where):
    adapted(saved, tokenizer, tmp_path / "adapter")
    config, weights = (tmp_path / "adapter" / f"adapter_{name}" for name in ("config.json", "model.safetensors"))
    if where == "configuration":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"use_dora": True}))
    else:
        tensors = load_file(weights)
        name = next(name for name in tensors if ".lora_B." in name)
        magnitude = name.replace(".lora_B.weight", ".lora_magnitude_vector")
        save_file(tensors | {magnitude: torch.ones(len(tensors[name]))}, weights)
    message = refusal(tmp_path / "adapter")
    assert "adapter_model.safetensors does not have the tensors that adapter_config.json says" in message
    assert "lora_magnitude_vector" in message


def test_pickled_weights_are_never_opened(saved, tmp_path):
    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (Path.touch, (tmp_path / "exploded",))  # type: ignore[return-value]

    (saved / "model.safetensors").unlink()
    torch.save(Bomb(), saved / "pytorch_model.bin")
    message = refusal(saved)
    assert message.startswith(f"--model {saved}: the weights cannot be loaded: ")
    assert "safetensors files only; use --from-scratch" in message
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("keep", [0, 7, 200, -1])
def test_truncated_weights_are_refused(saved, keep):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(saved).startswith(f"--model {saved}: the weights cannot be loaded: ")


def test_incomplete_weights_are_refused_rather_than_initialized(saved):
    path = saved / "model.safetensors"
    tensors = load_file(path)
    del tensors["transformer.h.1.mlp.c_fc.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    assert "the weights are incomplete: 1 missing, the first is transformer.h.1.mlp.c_fc.weight." in refusal(saved)


def test_weights_that_do_not_match_the_configuration_are_refused(saved):
    content = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(content | {"n_embd": 16}))
    assert "the weights do not match config.json" in refusal(saved)


def test_from_scratch_needs_no_weights_and_depends_on_the_seed(saved, tiny_gpt2):
    (saved / "model.safetensors").unlink()
    scratch = ModelConfig(from_scratch=True)
    one, same, other = (load_model(locate(str(saved)), scratch, seed=seed) for seed in (0, 0, 1))
    assert weights_fingerprint(one) == weights_fingerprint(same) != weights_fingerprint(other)
    assert parameter_counts(one) == parameter_counts(tiny_gpt2())


@pytest.mark.parametrize("from_scratch", [True, False])
def test_a_model_that_is_not_a_causal_language_model_is_refused(tmp_path, from_scratch):
    ViTConfig().save_pretrained(tmp_path)
    assert "Unrecognized configuration class" in refusal(tmp_path, ModelConfig(from_scratch=from_scratch))


def test_tied_parameters_are_counted_once_and_trainable_ones_separately(tiny_gpt2):
    model = tiny_gpt2()
    block = 2 * 32 * 2 + (32 * 96 + 96) + (32 * 32 + 32) + (32 * 128 + 128) + (128 * 32 + 32)
    total = 300 * 32 + 64 * 32 + 2 * block + 2 * 32
    assert parameter_counts(model) == (total, total)
    model.transformer.wte.weight.requires_grad = False
    assert parameter_counts(model) == (total - 300 * 32, total)


def test_the_fingerprint_depends_on_every_value_and_dtype(tiny_gpt2):
    fingerprints = {weights_fingerprint(tiny_gpt2(seed)) for seed in (0, 0, 1)}
    assert len(fingerprints) == 2
    model = tiny_gpt2()
    with torch.no_grad():
        model.transformer.ln_f.bias[3] = torch.nextafter(torch.tensor(0.0), torch.tensor(1.0))
    fingerprints.add(weights_fingerprint(model))
    fingerprints.add(weights_fingerprint(tiny_gpt2().to(torch.bfloat16)))
    assert len(fingerprints) == 4


def test_every_dropout_of_a_model_family_is_set_and_attention_separately():
    gpt2 = GPT2Config(attn_pdrop=0, embd_pdrop=0.1, summary_first_dropout=0.5)
    previous = set_dropout(gpt2, 0.25, 0.5)
    assert [gpt2.resid_pdrop, gpt2.embd_pdrop, gpt2.attn_pdrop] == [0.25, 0.25, 0.5]
    assert [previous[name] for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop")] == [0.1, 0.1, 0]
    llama = LlamaConfig()
    heads = llama.num_attention_heads
    set_dropout(llama, 0.25, 0.5)
    assert llama.attention_dropout == 0.5
    assert llama.num_attention_heads == heads


def test_layers_get_the_dropout_of_the_settings_and_the_saved_config_keeps_its_own(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "with-dropout")
    content = json.loads((saved / "config.json").read_text())
    (tmp_path / "with-dropout" / "config.json").write_text(json.dumps(content | {"resid_pdrop": 0.4}))
    for dropout, attention, expected in ((0.0, 0.0, {0.0}), (0.2, 0.0, {0.0, 0.2}), (0.2, 0.3, {0.2, 0.3})):
        model = load_model(
            locate(str(tmp_path / "with-dropout")), ModelConfig(dropout=dropout, attention_dropout=attention)
        )
        assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == expected
        model.save_pretrained(tmp_path / "again")
        again = json.loads((tmp_path / "again" / "config.json").read_text())
        assert (again["resid_pdrop"], again["attn_pdrop"]) == (0.4, content["attn_pdrop"])
