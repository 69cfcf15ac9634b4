"""What a run writes is estimated, and refused where it does not fit."""

from pathlib import Path
from typing import Any

import pytest
from recipe_modules import CONFIG_CLASSES

from textgen.config import parse
from textgen.errors import UserError
from textgen.plan import disk_space
from textgen.plan.disk_space import DiskNeeds, check_disk_space, disk_needs


def config(*flags: object) -> Any:
    return parse(CONFIG_CLASSES["finetune"], list(map(str, flags)))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], DiskNeeds(12_000, 4, 4_000)),
        (["--keep-checkpoints", 5], DiskNeeds(12_000, 7, 4_000)),
        (["--checkpoint-every", 0, "--evaluate-every", 0], DiskNeeds(12_000, 1, 4_000)),
        (["--steps", 60, "--evaluate-every", 0], DiskNeeds(12_000, 2, 4_000)),
        (["--optimizer", "adamw8bit"], DiskNeeds(6_100, 4, 4_000)),
    ],
)
def test_checkpoints_have_weights_and_optimizer_state(flags, expected):
    assert disk_needs(config(*flags), 1000, 0) == expected


def test_adapters_are_small():
    """Those of GPT-2 124M, rank 16 on 48 weights, have 2.4 million parameters."""
    needs = disk_needs(config("--method", "lora", "--lora-rank", 16), 124_000_000, 48)
    assert 1.2e6 < needs.model / 4 < 4.8e6


def test_it_is_refused_with_numbers_unless_it_fits(tmp_path, monkeypatch):
    needs = DiskNeeds(1_000_000, 3, 500_000)
    assert (needs.total, str(needs)) == (3_500_000, "3 checkpoints of 1.0 MB, and the model of 500.0 kB")
    monkeypatch.setattr(disk_space, "free_bytes", lambda path: 3_400_000)
    with pytest.raises(UserError) as caught:
        check_disk_space(config(), tmp_path, needs)
    assert str(caught.value).startswith(
        f"--run-dir {tmp_path}: about 3.5 MB is needed (3 checkpoints of 1.0 MB, and the model of 500.0 kB), but 3.4 MB"
    )
    check_disk_space(config("--on-full-disk", "continue"), tmp_path, needs)
    write(tmp_path / "checkpoints" / "step-00000001" / "parameters.safetensors", 200_000)
    check_disk_space(config(), tmp_path, needs)  # what is there already needs no space
    monkeypatch.setattr(disk_space, "free_bytes", lambda path: 100_000)
    with pytest.raises(UserError, match=r"about 300\.0 kB is needed"):
        check_disk_space(config("--on-full-disk", "continue"), tmp_path, needs)


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(size))
