"""The manifest of a finished run names the files that are no longer what the run wrote."""

import pytest

from textgen.errors import UserError
from textgen.run.manifest import check_model, damaged_files, hash_model, read_manifest, write_manifest


@pytest.fixture
def model(tmp_path):
    directory = tmp_path / "model"
    (directory / "deep").mkdir(parents=True)
    for name in ("weights.bin", "deep/config.json", "README.md"):
        (directory / name).write_bytes(name.encode())
    return directory


def test_every_file_of_a_model_but_its_card_is_hashed(model):
    assert sorted(hash_model(model)) == ["model/deep/config.json", "model/weights.bin"]


def test_files_that_changed_or_went_are_named(model, tmp_path):
    files = hash_model(model)
    write_manifest(tmp_path, files, {"state": "done"})
    assert read_manifest(tmp_path) == {"files": files, "status": {"state": "done"}, "settings": {}}
    assert damaged_files(tmp_path, files) == []
    (model / "README.md").write_text("edited by its owner")
    assert damaged_files(tmp_path, files) == []
    (model / "weights.bin").write_bytes(b"weights.bim")
    (model / "deep/config.json").unlink()
    assert sorted(damaged_files(tmp_path, files)) == sorted(files)


def test_a_model_of_a_finished_run_is_used_only_if_it_is_intact(model, tmp_path):
    check_model(model, setting="--model")  # of no run
    write_manifest(tmp_path, hash_model(model) | {"metrics.jsonl": "0"}, {"state": "done"})
    check_model(model, setting="--model")
    check_model(model / "deep", setting="--model")
    (model / "weights.bin").write_bytes(b"weights.bim")
    with pytest.raises(UserError, match=r"--baseline .*model/weights\.bin: missing or damaged: .* to restore it\."):
        check_model(model, setting="--baseline")
    (tmp_path / "manifest.json").unlink()
    check_model(model, setting="--model")


def test_a_damaged_manifest_is_none(model, tmp_path):
    assert read_manifest(tmp_path) is None
    write_manifest(tmp_path, hash_model(model), {"state": "done"})
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace("done", "dome"))
    assert read_manifest(tmp_path) is None
