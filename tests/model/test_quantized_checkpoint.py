"""Checkpoints that were saved quantized: what their config.json says, and what can be done with them."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, GptOssConfig, LlamaConfig

from textgen.errors import UserError
from textgen.model.build import build_model, load_frozen
from textgen.model.config import AdapterConfig, ModelConfig
from textgen.model.loading import load_model
from textgen.model.locate import find_model, locate
from textgen.model.loss import ModelWithLoss
from textgen.model.quantized import disable_cpu_repacking
from textgen.model.quantized_checkpoint import QuantizedCheckpoint, quantized_checkpoint, training_problems

CPU, IDS = torch.device("cpu"), torch.randint(5, 290, (4, 24), generator=torch.Generator().manual_seed(0))

# Format → the library that it needs, and what its config.json has.
NEED_LIBRARIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gptq": ("gptqmodel", {"bits": 4, "group_size": 128}),
    "awq": ("gptqmodel", {"bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}),
    "compressed-tensors": ("compressed_tensors", {"format": "pack-quantized", "config_groups": {}}),
    "torchao": ("torchao", {"quant_type": {"default": {"_type": "Int8WeightOnlyConfig", "_data": {}, "_version": 1}}}),
    "hqq": ("hqq", {"quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}}),
    "quanto": ("optimum", {"weights": "int4"}),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory, tiny_llama, tokenizer) -> Path:
    """A saved Llama with its tokenizer."""
    directory: Path = tmp_path_factory.mktemp("models") / "plain"
    tiny_llama(hidden_size=64, intermediate_size=128, tie_word_embeddings=False).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture
def marked(plain, tmp_path):
    """``marked({"quant_method": …})``: a copy of the model whose config.json says that it is quantized so."""

    def copy(quantization: dict[str, Any]) -> str:
        directory = tmp_path / "marked"
        shutil.copytree(plain, directory)
        config = json.loads((directory / "config.json").read_text()) | {"quantization_config": quantization}
        (directory / "config.json").write_text(json.dumps(config))
        return str(directory)

    return copy


@pytest.fixture(scope="module")
def saved_in_4_bits(plain, tmp_path_factory, tokenizer) -> str:
    """The model as bitsandbytes saves it, with its own choice of settings."""
    directory = tmp_path_factory.mktemp("models") / "bnb-4bit"
    options = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    AutoModelForCausalLM.from_pretrained(plain, quantization_config=options).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def build(model: str, method: str, **settings: Any) -> Any:
    found = find_model(ModelConfig(model=model, method=method))  # type: ignore[arg-type]
    return build_model(found, AdapterConfig(**settings), device=CPU, dtype=torch.float32, seed=0)


def train(model: Any) -> None:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        ModelWithLoss(model).train()(IDS, IDS).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_a_plain_model_is_not_quantized(plain):
    assert find_model(ModelConfig(model=str(plain))).quantized is None
    assert find_model(ModelConfig()).quantized is None


@pytest.mark.parametrize("format", NEED_LIBRARIES)
@pytest.mark.parametrize("setting", ["--model", "--judge"])
def test_a_format_whose_library_is_missing_is_refused_with_the_remedy(marked, format, setting):
    library, rest = NEED_LIBRARIES[format]
    if importlib.util.find_spec(library):
        pytest.skip(f"{library} is installed")
    model = marked({"quant_method": format} | rest)
    with pytest.raises(UserError) as caught:
        find_model(ModelConfig(model=model), setting=setting)
    message = str(caught.value)
    assert message.startswith(f"{setting} {model}: its weights are quantized ({format}), and cannot be used here: ")
    assert message.endswith("Install what is missing, or use the checkpoint that they were quantized from.")


@pytest.mark.parametrize(
    ("quantization", "name"),
    [({"quant_method": "exl3"}, "exl3"), ({"quant_algo": "FP8"}, "FP8"), ({"bits": 4}, "of an")],
)
def test_an_unknown_format_is_refused(marked, quantization, name):
    with pytest.raises(UserError, match=rf"its weights are quantized \({name}"):
        find_model(ModelConfig(model=marked(quantization)))


def test_a_format_in_the_configuration_of_the_text_model_counts():
    architecture = AutoConfig.for_model("llama4")
    assert quantized_checkpoint(architecture, "--model", "m") is None
    architecture.get_text_config().quantization_config = {"quant_method": "exl3"}
    with pytest.raises(UserError, match="exl3"):
        quantized_checkpoint(architecture, "--model", "m")


def test_random_weights_are_not_quantized(marked):
    scratch = ModelConfig(model=marked({"quant_method": "gptq", "bits": 4}), from_scratch=True)
    assert find_model(scratch).quantized is None
    model = load_model(locate(scratch.model), scratch)
    assert not hasattr(model.config, "quantization_config"), "it would be saved as if it were quantized"


@pytest.mark.parametrize(
    ("quantized", "method", "settings", "expected"),
    [
        (QuantizedCheckpoint("bitsandbytes", 4), "full", {}, "Use --method qlora, or dequantize them first: python -c"),
        (QuantizedCheckpoint("bitsandbytes", 8), "full", {}, "Use --method qlora --qlora-bits 8, or dequantize"),
        (
            QuantizedCheckpoint("gptq"),
            "full",
            {},
            "Use --method lora, or the checkpoint that they were quantized from.",
        ),
        (QuantizedCheckpoint("fp8", dequantized=True), "full", {}, None),
        (QuantizedCheckpoint("fp8", dequantized=True), "lora", {}, None),
        (QuantizedCheckpoint("fp8", dequantized=True), "qlora", {}, "Use --method lora"),
        (QuantizedCheckpoint("gptq"), "lora", {}, None),
        (QuantizedCheckpoint("bitnet", trainable=False), "lora", {}, "this format has no gradients"),
        (QuantizedCheckpoint("bitsandbytes", 4), "lora", {}, None),
        (QuantizedCheckpoint("bitsandbytes", 4), "qlora", {}, None),
        (QuantizedCheckpoint("bitsandbytes", 8), "qlora", {}, "Use --qlora-bits 8."),
        (QuantizedCheckpoint("bitsandbytes", 8), "qlora", {"qlora_bits": 8}, None),
        (QuantizedCheckpoint("bitsandbytes", 4), "lora", {"lora_variant": "pissa"}, "pissa needs unquantized weights"),
    ],
)
def test_methods_that_a_checkpoint_allows(quantized, method, settings, expected):
    problems = training_problems(quantized, ModelConfig(model="org/m", method=method), AdapterConfig(**settings))
    assert len(problems) == (0 if expected is None else 1)
    if expected is not None:
        assert problems[0].startswith(f"--method {method} with --")
        assert expected in problems[0]


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_adapters_on_a_checkpoint_in_4_bits_train_and_reload_with_plain_peft(saved_in_4_bits, method, tmp_path):
    built = build(saved_in_4_bits, method)
    assert str(built.found.quantized) == "bitsandbytes, 4 bits"
    linear = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128)
    assert built.quantized_parameters == linear
    assert built.total_parameters - built.trainable_parameters == linear + 2 * 300 * 64 + 5 * 64
    assert f" {linear / (linear + 2 * 300 * 64 + 5 * 64):.1%} of the frozen ones are quantized; adapters on" in str(
        built
    )
    before = logits(built.model)  # an evaluation in between must not make the layers untrainable
    train(built.model)
    after = logits(built.model)
    assert (after - before).abs().max() > 0.05
    built.save(tmp_path / "model")
    assert "quantize_bits" not in json.loads((tmp_path / "model" / "base_fingerprint.json").read_text())

    found = find_model(ModelConfig(model=str(tmp_path / "model")))
    assert torch.equal(logits(load_frozen(found, device=CPU, seed=0)), after)
    base = AutoModelForCausalLM.from_pretrained(saved_in_4_bits)
    plain_peft = peft.PeftModel.from_pretrained(disable_cpu_repacking(base), tmp_path / "model")
    torch.testing.assert_close(logits(plain_peft), after, rtol=1e-5, atol=1e-6)  # kernels differ on some CPUs


def test_adapters_of_qlora_reload_with_plain_peft_on_the_base_quantized_again(plain, tmp_path):
    built = build(str(plain), "qlora")
    train(built.model)
    after = logits(built.model)
    built.save(tmp_path / "model")
    options = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    base = AutoModelForCausalLM.from_pretrained(plain, quantization_config=options, dtype=torch.float32)
    plain_peft = peft.PeftModel.from_pretrained(base, tmp_path / "model")
    # On CPUs with AVX512_BF16, bitsandbytes computes with bfloat16 in evaluation mode; elsewhere the logits are equal.
    difference = (logits(plain_peft) - after).abs().max() / after.abs().max()
    assert difference < 2**-6
    base = AutoModelForCausalLM.from_pretrained(plain, quantization_config=options, dtype=torch.float32)
    plain_peft = peft.PeftModel.from_pretrained(disable_cpu_repacking(base), tmp_path / "model")
    torch.testing.assert_close(logits(plain_peft), after, rtol=1e-5, atol=1e-6)


def test_the_suggested_command_dequantizes(saved_in_4_bits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = ModelConfig(model=saved_in_4_bits)
    problem = training_problems(QuantizedCheckpoint("bitsandbytes", 4), config, AdapterConfig())[0]
    command = problem.partition("dequantize them first: ")[2]
    executable, flag, code = command.split(" ", 2)
    assert (executable, flag) == ("python", "-c")
    exec(code.strip('"'), {})
    output = tmp_path / "bnb-4bit-dequantized"
    found = find_model(ModelConfig(model=str(output)))
    assert found.quantized is None
    expected = logits(load_frozen(find_model(config), device=CPU, seed=0))
    torch.testing.assert_close(logits(load_frozen(found, device=CPU, seed=0)), expected, rtol=1e-5, atol=1e-5)


def test_a_quantized_checkpoint_is_evaluated_as_bitsandbytes_computes_it(saved_in_4_bits):
    measured = load_frozen(find_model(ModelConfig(model=saved_in_4_bits)), device=CPU, seed=0)
    by_bitsandbytes = disable_cpu_repacking(AutoModelForCausalLM.from_pretrained(saved_in_4_bits))
    assert torch.equal(logits(measured), logits(by_bitsandbytes))


def fp8(directory: Path, tokenizer: Any) -> dict[str, torch.Tensor]:
    """Write a Llama in FP8, in blocks of 128 by 128; returns the dequantized weights by name."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=300, num_key_value_heads=4, max_position_embeddings=64, **sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    stored, expected = {}, {}
    for name, weight in load_file(directory / "model.safetensors").items():
        if name.endswith("_proj.weight"):
            scale = weight.abs().max() / 448
            stored[name] = (weight / scale).to(torch.float8_e4m3fn)
            stored[f"{name}_scale_inv"] = scale.reshape(1, 1)
            expected[name] = stored[name].float() * scale
        else:
            stored[name] = weight
    quantization = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
    write_quantized(directory, stored, quantization, tokenizer)
    return expected


def mxfp4(directory: Path, tokenizer: Any) -> dict[str, torch.Tensor]:
    """Write a gpt-oss whose experts are in MXFP4: two numbers in a byte, and a power of two for 32 of them."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "layer_types": ["full_attention"]}
    config = GptOssConfig(vocab_size=300, num_key_value_heads=2, head_dim=16, **sizes, **experts)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    values = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    values = torch.cat([values, -values])
    stored, expected = {}, {}
    for name, weight in load_file(directory / "model.safetensors").items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            number, inputs, outputs = weight.shape
            blocks = torch.randint(0, 256, (number, outputs, inputs // 32, 16), dtype=torch.uint8)
            scales = torch.randint(118, 123, (number, outputs, inputs // 32), dtype=torch.uint8)
            stored |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
            pairs = torch.stack([values[(blocks & 15).long()], values[(blocks >> 4).long()]], dim=-1).flatten(-2)
            expected[name] = (pairs * 2.0 ** (scales.float() - 127)[..., None]).flatten(-2).transpose(1, 2)
        else:
            stored[name] = weight
    skipped = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    write_quantized(directory, stored, {"quant_method": "mxfp4", "modules_to_not_convert": skipped}, tokenizer)
    return expected


def write_quantized(directory: Path, stored: Any, quantization: dict[str, Any], tokenizer: Any) -> None:
    save_file(stored, directory / "model.safetensors", {"format": "pt"})
    config = json.loads((directory / "config.json").read_text()) | {"quantization_config": quantization}
    (directory / "config.json").write_text(json.dumps(config))
    tokenizer.save_pretrained(directory)


@pytest.mark.parametrize(("write", "matrices"), [(fp8, 7), (mxfp4, 2)])
def test_formats_that_can_be_dequantized_are_trained_and_saved_as_ordinary_weights(
    write, matrices, tmp_path, tokenizer
):
    expected = write(tmp_path / "quantized", tokenizer)
    assert len(expected) == matrices
    built = build(str(tmp_path / "quantized"), "full")
    assert built.found.quantized == QuantizedCheckpoint(write.__name__, None, dequantized=True)
    assert built.quantized_parameters == 0
    weights = dict(built.model.named_parameters())
    assert all(torch.equal(weights[name].detach(), value) for name, value in expected.items())
    train(built.model)
    built.save(tmp_path / "full")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "full")
    assert not hasattr(plain.config, "quantization_config")
    torch.testing.assert_close(logits(plain), logits(built.model), rtol=1e-5, atol=1e-5)

    adapted = build(str(tmp_path / "quantized"), "lora")
    train(adapted.model)
    adapted.save(tmp_path / "lora")
    again = load_frozen(find_model(ModelConfig(model=str(tmp_path / "lora"))), device=CPU, seed=0)
    assert torch.equal(logits(again), logits(adapted.model))
