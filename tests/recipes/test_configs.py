"""Every settings file and launch file loads, and does what its name and first line say."""

import argparse
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from running import DEEPSPEED, FSDP, ROOT

CONFIGS = sorted((ROOT / "recipes/configs").glob("*.yaml"))
LAUNCHERS = sorted((ROOT / "launch").glob("*.yaml"))


def test_every_file_is_tested() -> None:
    assert len(CONFIGS) == 4
    assert len(LAUNCHERS) == 7 == len(MEANT)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_passes_every_check(path: Path, run_recipe, tmp_path) -> None:
    ran = run_recipe("finetune", "--config", path, "--dry-run", cwd=tmp_path)
    assert "all checks passed" in ran.out
    assert not list(tmp_path.iterdir()), "a dry run writes nothing"
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert f"recipes/finetune.py --config recipes/configs/{path.name}" in first


# Launch file → Accelerate's distributed type, number of machines, number of processes.
MEANT = {
    "cpu": ("NO", 1, 1),
    "multi_cpu": ("MULTI_GPU", 1, 2),
    "one_process": ("NO", 1, 1),
    "multi_gpu": ("MULTI_GPU", 1, 2),
    "multi_node": ("MULTI_GPU", 2, 16),
    "fsdp2": ("FSDP", 1, 2),
    "deepspeed_zero2": ("DEEPSPEED", 1, 2),
}


def launched(path: Path) -> argparse.Namespace:
    """The options as `accelerate launch` reads them from a file; it rejects unknown keys."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    arguments = ["--config_file", str(path), "recipes/finetune.py"]
    return _validate_launch_command(launch_command_parser().parse_args(arguments))[0]


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.stem)
def test_a_launch_file_is_what_its_name_says(path: Path) -> None:
    loaded = load_config_from_file(str(path))
    assert (loaded.distributed_type, loaded.num_machines, loaded.num_processes) == MEANT[path.stem]
    assert loaded.use_cpu is (path.stem == "cpu")
    assert loaded.mixed_precision == "no", "precision is the recipe's own setting"
    assert launched(path).num_processes == MEANT[path.stem][2]
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert f"accelerate launch --config_file launch/{path.name} " in first
    assert first.endswith("recipes/finetune.py")


def test_fsdp2_sets_the_variables_that_tests_of_sharding_set() -> None:
    from accelerate.utils.launch import prepare_multi_gpu_env

    found = prepare_multi_gpu_env(launched(ROOT / "launch" / "fsdp2.yaml"))
    assert {name: found.get(name) for name in FSDP} == FSDP
    assert found["FSDP_OFFLOAD_PARAMS"] == "false"


def test_zero_2_sets_the_variables_that_tests_of_sharding_set() -> None:
    from accelerate.utils.launch import prepare_deepspeed_cmd_env

    arguments = launched(ROOT / "launch" / "deepspeed_zero2.yaml")
    arguments.deepspeed_fields_from_accelerate_config = ""  # `accelerate launch` sets it; it has no effect here
    _, found = prepare_deepspeed_cmd_env(arguments)
    assert {name: found.get(name) for name in DEEPSPEED} == DEEPSPEED
