"""A prepared model: training mode, the weights to evaluate, fingerprints of a resumed run, and saving."""

from typing import Any

import pytest
import torch

from textgen.data.tokenization import tokenizer_fingerprint
from textgen.errors import UserError
from textgen.model.build import TrainableModel, build_model, load_frozen
from textgen.model.config import AdapterConfig, ModelConfig
from textgen.model.locate import find_model
from textgen.model.loss import ModelWithLoss
from textgen.training.config import EngineConfig, TrainingConfig
from textgen.training.prepare import PreparedModel, prepare

CPU, IDS = torch.device("cpu"), torch.arange(5, 45).reshape(2, 20)
SCHEDULE_FREE = TrainingConfig(optimizer="schedule_free", schedule="constant")


def build(**config: Any) -> TrainableModel:
    found = find_model(ModelConfig(**config))
    return build_model(found, AdapterConfig(), device=CPU, dtype=torch.float32, seed=0)


def prepared_model(
    accelerator: Any,
    trainable: TrainableModel | None = None,
    training: TrainingConfig | None = None,
    *,
    adapters: AdapterConfig | None = None,
    **engine: Any,
) -> PreparedModel:
    training = training or TrainingConfig()
    return prepare(accelerator, trainable or build(), training, EngineConfig(**engine), adapters or AdapterConfig())


def take_steps(prepared: PreparedModel, steps: int) -> None:
    for group in prepared.optimizer.param_groups:
        group["lr"] = 1e-3
    for _ in range(steps):
        prepared.accelerator.backward(prepared.training_model(IDS, IDS))
        prepared.optimizer.step()
        prepared.optimizer.zero_grad()


def weights(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_the_model_is_in_training_mode_and_returns_its_loss(accelerator):
    trainable = build()
    trainable.model.eval()
    prepared = prepared_model(accelerator, trainable)
    assert prepared.model is trainable.model
    assert all(module.training for module in prepared.training_model.modules())
    expected = ModelWithLoss(trainable.model)(IDS, IDS)
    assert torch.equal(prepared.training_model(IDS, IDS), expected)


def test_the_optimizer_is_that_of_the_settings(accelerator):
    prepared = prepared_model(accelerator, build(method="lora"), adapters=AdapterConfig(lora_plus_ratio=16.0))
    assert isinstance(prepared.optimizer.optimizer, torch.optim.AdamW)
    scales = [group["lr_scale"] for group in prepared.optimizer.param_groups]
    assert scales == [1.0, 16.0]
    parameters = {id(p) for group in prepared.optimizer.param_groups for p in group["params"]}
    assert parameters == {id(p) for p in prepared.model.parameters() if p.requires_grad}


def test_evaluation_uses_averaged_weights_and_restores_the_trained_ones_to_the_bit(accelerator):
    prepared = prepared_model(accelerator, training=SCHEDULE_FREE)
    take_steps(prepared, 4)
    trained = weights(prepared.model)
    with prepared.evaluation_weights():
        averaged = weights(prepared.model)
    assert not torch.equal(averaged, trained)
    assert torch.equal(weights(prepared.model), trained)

    def fail_inside() -> None:
        with prepared.evaluation_weights():
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert torch.equal(weights(prepared.model), trained)


def test_other_optimizers_are_evaluated_with_the_trained_weights(accelerator):
    prepared = prepared_model(accelerator)
    take_steps(prepared, 2)
    trained = weights(prepared.model)
    with prepared.evaluation_weights():
        assert torch.equal(weights(prepared.model), trained)


def test_fingerprints_are_of_the_base_weights_the_tokenizer_and_the_precision(accelerator):
    trainable = build()
    prepared = prepared_model(accelerator, trainable)
    expected = {"model": trainable.base_fingerprint, "precision": "fp32"}
    expected["tokenizer"] = tokenizer_fingerprint(trainable.found.tokenizer)
    assert prepared.fingerprints() == expected
    take_steps(prepared, 1)
    assert prepared.fingerprints() == expected, "training does not change them"
    scratch = prepared_model(accelerator, build(from_scratch=True))
    assert scratch.fingerprints()["model"] != expected["model"]


@pytest.mark.parametrize(("precision", "exact"), [("bf16", False), ("fp32", True)])
def test_fingerprints_of_an_exact_run_include_the_number_of_threads(start, precision, exact):
    fingerprints = prepared_model(start(precision, threads=2, exact=exact), exact=exact).fingerprints()
    assert fingerprints["precision"] == precision
    assert fingerprints.get("threads") == ("2" if exact else None)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_evaluated_weights_are_saved(accelerator, tmp_path, method):
    prepared = prepared_model(accelerator, build(method=method), SCHEDULE_FREE)
    take_steps(prepared, 4)
    trained = weights(prepared.model)
    with prepared.evaluation_weights():
        averaged = weights(prepared.model)
    prepared.save(tmp_path / "model")
    assert torch.equal(weights(prepared.model), trained), "saving does not change them"
    saved = load_frozen(find_model(ModelConfig(model=str(tmp_path / "model"))), device=CPU, seed=0)
    assert torch.equal(weights(saved), averaged)


def test_an_exact_model_is_not_wrapped_and_trains_to_the_same_weights(accelerator):
    plain, exact = prepared_model(accelerator), prepared_model(accelerator, exact=True)
    assert type(exact.training_model) is ModelWithLoss
    for prepared in (plain, exact):
        take_steps(prepared, 2)
    assert torch.equal(weights(plain.model), weights(exact.model))


def test_layers_are_compiled_if_requested(accelerator, monkeypatch):
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    prepared_model(accelerator)
    assert compiled == []
    prepared = prepared_model(accelerator, compile=True)
    assert compiled == list(prepared.model.transformer.h)


def test_a_model_without_layers_to_compile_is_refused(accelerator):
    trainable = build()
    trainable.model.transformer.h = torch.nn.ModuleList()
    with pytest.raises(UserError, match="--compile: GPT2LMHeadModel has no list of layers"):
        prepared_model(accelerator, trainable, compile=True)


def test_checkpoints_belong_to_the_run_and_to_the_prepared_model(accelerator, tmp_path):
    found = prepared_model(accelerator)
    checkpoints = found.checkpoints(tmp_path, fingerprints={"settings": "s", "data": "d"}, keep=3)
    assert checkpoints.fingerprints == {"settings": "s", "data": "d"} | found.fingerprints()
    assert checkpoints.model is found.model
    assert checkpoints.optimizer is found.optimizer.optimizer
    assert (checkpoints.directory, checkpoints.keep, checkpoints.scaler) == (tmp_path, 3, accelerator.scaler)
