"""The files that a run reads, recorded so that a change has a name."""

from dataclasses import replace
from pathlib import Path

import pytest

from textgen.data.sources.source import DataSources, Source
from textgen.model.config import ModelConfig
from textgen.model.locate import FoundModel, Location
from textgen.plan import inputs as inputs_module
from textgen.plan.inputs import run_inputs


def found(base: Path, **config) -> FoundModel:
    return FoundModel(ModelConfig(str(base), **config), "--model", Location(str(base)), None, 64, "GPT2LMHeadModel", 1)


def source(path: Path, fingerprint: str = "f" * 64) -> Source:
    return Source(path.name, "text", str(path), fingerprint)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "README.md"):
        (path / name).write_text(name)
    return path


def test_each_kind_has_its_files_with_size_and_content(tmp_path, model):
    text, held_out = tmp_path / "a.txt", tmp_path / "sub/a.txt"
    held_out.parent.mkdir()
    text.write_text("four")
    held_out.write_text("sixsix")
    inputs = run_inputs(DataSources([source(text)], [source(held_out, "e" * 64)]), found(model))
    assert inputs["data"] == {"a.txt": [4, "f" * 16], "--validation-data a.txt": [6, "e" * 16]}
    assert list(inputs["tokenizer"]) == ["tokenizer.json"]
    assert list(inputs["model"]) == ["config.json", "model.safetensors"]
    (model / "model.safetensors").write_text("MODEL.safetensors")
    again = run_inputs(DataSources([source(text)]), found(model))
    assert again["tokenizer"] == inputs["tokenizer"]
    assert again["model"]["config.json"] == inputs["model"]["config.json"]
    assert again["model"]["model.safetensors"] != inputs["model"]["model.safetensors"]


def test_weights_that_are_not_read_are_no_input(model):
    inputs = run_inputs(DataSources([]), found(model, from_scratch=True))
    assert list(inputs["model"]) == ["config.json"]


def test_what_is_no_file_is_known_by_its_fingerprint_alone():
    bundled = Source("docstrings", "bundled", "docstrings", "a" * 64)
    inputs = run_inputs(DataSources([bundled]), found(Path("some/hub-id")))
    assert inputs == {"data": {"docstrings": [None, "a" * 16]}, "tokenizer": {}, "model": {}}


def test_of_very_many_files_only_the_number_is_recorded(tmp_path, model, monkeypatch):
    monkeypatch.setattr(inputs_module, "_MOST_FILES", 2)
    sources = DataSources([source(tmp_path / f"{i}.txt") for i in range(3)])
    assert run_inputs(sources, found(model))["data"] == {"files": [3, sources.fingerprint[:16]]}
    fewer = replace(sources, train=sources.train[:2])
    assert len(run_inputs(fewer, found(model))["data"]) == 2
