"""Settings of the model and its adapters: an invalid value or combination is refused with a remedy."""

import math

import pytest

from textgen.model import config
from textgen.model.config import AdapterConfig, ModelConfig


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        ({"dropout": 1.0}, "--dropout 1.0: must be at least 0 and below 1."),
        ({"attention_dropout": -0.1}, "--attention-dropout -0.1: must be at least 0 and below 1."),
        (
            {"from_scratch": True, "method": "lora"},
            "--from-scratch with --method lora: adapters need pretrained weights. Use --method full.",
        ),
    ],
)
def test_an_invalid_model_setting_is_named(invalid, message):
    assert ModelConfig(**invalid).problems() == [message]


@pytest.mark.parametrize(
    ("invalid", "start"),
    [
        ({"lora_rank": 0}, "--lora-rank 0: must be at least 1"),
        ({"lora_alpha": 0.0}, "--lora-alpha 0.0: must be positive"),
        ({"lora_dropout": 1.0}, "--lora-dropout 1.0: must be at least 0 and below 1"),
        ({"lora_plus_ratio": 0.0}, "--lora-plus-ratio 0.0: must be positive"),
        ({"lora_plus_ratio": math.inf}, "--lora-plus-ratio inf: must be positive and finite"),
    ],
)
def test_an_invalid_adapter_setting_is_named(invalid, start):
    [problem] = AdapterConfig(**invalid).problems("lora")
    assert problem.startswith(start)


def test_all_problems_are_reported_at_once():
    assert len(ModelConfig(dropout=2.0, attention_dropout=2.0).problems()) == 2
    assert len(AdapterConfig(lora_rank=0, lora_alpha=-1.0, lora_variant="pissa").problems("qlora")) == 3


@pytest.mark.parametrize("bits", [4, 8])
def test_pissa_needs_unquantized_weights(bits):
    adapters = AdapterConfig(lora_variant="pissa", qlora_bits=bits)
    [problem] = adapters.problems("qlora")
    assert problem.startswith("--method qlora with --lora-variant pissa: pissa needs unquantized weights. Use ")
    assert adapters.problems("lora") == adapters.problems("full") == []


@pytest.mark.parametrize(("cpu", "bits", "refused"), [(True, 8, True), (False, 8, False), (True, 4, False)])
def test_8_bit_dora_is_refused_on_a_cpu_only(monkeypatch, cpu, bits, refused):
    monkeypatch.setattr(config, "on_cpu", lambda: cpu)
    adapters = AdapterConfig(lora_variant="dora", qlora_bits=bits)
    problems = adapters.problems("qlora")
    assert bool(problems) is refused
    assert all(
        "weights in 8 bits: not supported on CPU. Use weights in 4 bits (--qlora-bits 4)" in problem
        for problem in problems
    )
    assert adapters.problems("lora") == []
