"""Models that are used late are loaded and probed early, and in a dry run if their weights are on this machine."""

from pathlib import Path
from typing import Any

import psutil
import pytest
from families import tiny_model

from textgen.errors import UserError
from textgen.model.config import ModelConfig
from textgen.model.locate import FoundModel, Location, find_model
from textgen.plan.probe_models import probe_in_dry_run, probe_models


@pytest.fixture
def bidirectional(tmp_path: Path, tokenizer: Any) -> FoundModel:
    """A judge that sees later tokens."""
    tiny_model("bert", vocab_size=300).save_pretrained(tmp_path)  # type: ignore[operator]
    tokenizer.save_pretrained(tmp_path)
    return find_model(ModelConfig(model=str(tmp_path)), setting="--judge")


def test_every_model_is_probed_and_none_means_none(bidirectional: FoundModel, accelerator: Any) -> None:
    bundled = find_model(ModelConfig())
    probe_models([None, bundled, None], accelerator, seed=0)
    with pytest.raises(UserError, match=r"--judge .* BertLMHeadModel is not a causal language model: later tokens"):
        probe_models([None, bundled, bidirectional], accelerator, seed=0)


def test_a_dry_run_probes_local_weights_and_random_ones(bidirectional: FoundModel, tmp_path: Path) -> None:
    done = "loaded, and predicts each token from those before it"
    assert probe_in_dry_run(find_model(ModelConfig()), seed=0) == done
    assert probe_in_dry_run(find_model(ModelConfig(from_scratch=True)), seed=0) == done
    with pytest.raises(UserError, match=r"--judge .* is not a causal language model"):
        probe_in_dry_run(bidirectional, seed=0)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="the weights cannot be loaded"):
        probe_in_dry_run(bidirectional, seed=0)


def test_a_dry_run_asks_the_model_to_train_for_what_training_needs(tmp_path: Path, tokenizer: Any) -> None:
    tiny_model("mamba", vocab_size=300).save_pretrained(tmp_path)  # type: ignore[operator]
    tokenizer.save_pretrained(tmp_path)
    mamba = find_model(ModelConfig(model=str(tmp_path)))
    probe_in_dry_run(mamba, seed=0, trained=True)
    probe_in_dry_run(mamba, seed=0, isolated=True)
    with pytest.raises(UserError, match=r"--packing isolated: .* does not keep documents in one row apart"):
        probe_in_dry_run(mamba, seed=0, trained=True, isolated=True)


def test_a_dry_run_loads_nothing_from_elsewhere_and_nothing_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_model(ModelConfig())
    elsewhere = FoundModel(**vars(found) | {"location": Location("some-one/some-model")})
    assert probe_in_dry_run(elsewhere, seed=0) == "not loaded, since its weights are not on this machine"
    large = FoundModel(**vars(found) | {"parameters": psutil.virtual_memory().total})
    assert probe_in_dry_run(large, seed=0).startswith("not loaded, since its weights take ")
