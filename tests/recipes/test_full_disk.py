"""Disks that fill up, become read-only or vanish during a run, or are too small for it."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefork import Ended, Prefork
from running import LIGHT, ROOT, read_lines, tree

from textgen.training.checkpoint_manifest import find_damage

pytestmark = pytest.mark.slow

# Almost full: less than a checkpoint is free, of 16 MB, but enough for the record.
FILL = 'fallocate -l $(($(df --output=avail -k "{0}" | tail -1) - 2000))K "{0}/filler"'
FILL_ALL = 'dd if=/dev/zero of="{0}/filler" bs=4k 2> /dev/null || true'


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """``small_disk("100m")``: a directory on a file system of that size."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("file systems cannot be mounted here")
        return place

    yield mount
    while not subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True).returncode:
        pass  # one mount may be on top of another


@pytest.fixture
def faulty(python: Prefork, tmp_path: Path, text_file: Path) -> Callable[..., Ended]:
    """``faulty("3 rm -r run", directory, *flags)``: a run before whose third step a command is run."""

    def run(at: str, directory: Path, *flags: object, cache: Path | None = None, check: bool = False) -> Ended:
        environment = os.environ | {"TEXTGEN_CACHE": str(cache or tmp_path / "cache"), "AT": at, "OMP_NUM_THREADS": "1"}
        command = [ROOT / "tests" / "recipes" / "poisoned.py", *LIGHT, "--data", text_file, *flags]
        return python.run([*command, "--run-dir", directory], cwd=tmp_path, env=environment, check=check)

    return run


def leftovers(directory: Path) -> list[str]:
    return [p.name for p in directory.rglob(".*") if p.name.endswith((".partial", ".tmp", ".replaced"))]


def test_a_disk_that_fills_up_ends_the_run_with_one_message_and_the_run_goes_on_later(small_disk, faulty, tmp_path):
    disk = small_disk("100m")
    run = disk / "run"
    ran = faulty(f"3 {FILL.format(disk)}", run)
    assert ran.code == 2
    assert "Traceback" not in ran.error + ran.out
    [line] = [line for line in ran.error.splitlines() if "error:" in line]
    assert ".safetensors: cannot be written: the disk is full: about 16.2 MB is needed, and" in line
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000002"]
    assert find_damage(run / "checkpoints" / "step-00000002") is None
    assert leftovers(run) == []
    status = json.loads((run / "status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("failed", 2)
    assert "the disk is full" in status["message"]

    (disk / "filler").unlink()
    assert "after step 2" in faulty("", run, check=True).out
    faulty("", tmp_path / "whole", check=True)
    assert tree(run / "model") == tree(tmp_path / "whole" / "model")
    assert (run / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_a_full_disk_is_survived_without_checkpoints_if_the_flag_says_so(small_disk, faulty):
    disk = small_disk("100m")
    ran = faulty(f"3 {FILL.format(disk)};6 rm {disk}/filler", disk / "run", "--on-full-disk", "continue", check=True)
    assert ran.out.count("warning: training continues without a checkpoint") == 1
    assert sorted(path.name for path in (disk / "run" / "checkpoints").iterdir()) == ["step-00000002", "step-00000006"]
    assert len(read_lines(disk / "run" / "metrics.jsonl")) == 6


@pytest.mark.parametrize("kind", ["record", "read-only", "model"])
def test_what_cannot_be_written_is_named(small_disk, faulty, kind):
    disk = small_disk("100m")
    command = {
        "record": f"3 {FILL_ALL.format(disk)}",
        # Another mount on top: that of the run's open lock file cannot become read-only.
        "read-only": f"3 mount --bind {disk} {disk} && mount -o remount,ro,bind {disk}",
        "model": f"6 {FILL.format(disk)}",
    }[kind]
    ran = faulty(command, disk / "run", *(["--on-full-disk", "continue"] if kind == "model" else []))
    assert (ran.code, "Traceback" in ran.error) == (2, False)
    file, reason = {
        "record": ("run/status.json", "the disk is full"),  # a line of metrics.jsonl fits into its last page
        "read-only": ("metrics.jsonl", "the file system is read-only"),
        "model": ("/run", "the disk is full"),  # from safetensors, whose error names no file
    }[kind]
    assert f"{file}: cannot be written: {reason}" in ran.error
    if kind != "read-only":
        assert leftovers(disk / "run") == []
    if kind != "read-only":
        assert json.loads((disk / "run" / "status.json").read_text())["state"] in ("failed", "running")
    if kind == "model":
        assert not (disk / "run" / "model").exists()
        assert ran.out.count("warning: training continues without a checkpoint") == 1
    else:
        assert find_damage(disk / "run" / "checkpoints" / "step-00000002") is None


@pytest.mark.parametrize(
    ("work", "file"),
    [
        ("evaluation", "run/evaluation/records/process-0.jsonl"),
        pytest.param("report", "run/status.json", marks=pytest.mark.exhaustive),
    ],
)
def test_the_evaluation_and_the_report_are_done_again_once_there_is_space(small_disk, faulty, tmp_path, work, file):
    disk = small_disk("100m")
    ran = faulty(f"{work} {FILL_ALL.format(disk)}", disk / "run")
    assert (ran.code, "Traceback" in ran.error) == (2, False)
    assert f"{file}: cannot be written: the disk is full" in ran.error
    assert leftovers(disk / "run") == []

    (disk / "filler").unlink()
    faulty("", disk / "run", check=True)
    faulty("", tmp_path / "run", check=True)
    for name in ("model", "evaluation"):
        assert tree(disk / "run" / name).keys() == tree(tmp_path / "run" / name).keys()
    assert tree(disk / "run" / "model") == tree(tmp_path / "run" / "model")
    assert (disk / "run" / "report.html").stat().st_size > 10_000


@pytest.mark.exhaustive
def test_a_full_disk_under_the_cache_is_named_before_training(small_disk, faulty, tmp_path, text_file):
    disk = small_disk("64k")
    data = ["--data", tmp_path / "long.txt"]
    data[1].write_text("\n\n".join(f"{number} {text_file.read_text()}" for number in range(100)))
    ran = faulty("", tmp_path / "run", *data, cache=disk / "cache")
    assert (ran.code, "Traceback" in ran.error) == (2, False)
    assert f"$TEXTGEN_CACHE {disk}/cache/" in ran.error
    assert "Free some space" in ran.error
    assert not (tmp_path / "run" / "checkpoints").exists()
    subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)
    faulty("", tmp_path / "run", *data, cache=disk / "cache", check=True)
    faulty("", tmp_path / "whole", *data, check=True)
    assert tree(tmp_path / "run" / "model") == tree(tmp_path / "whole" / "model")


def test_a_run_directory_that_vanishes_is_not_created_again(faulty, tmp_path):
    ran = faulty(f"3 mv {tmp_path}/run {tmp_path}/elsewhere", tmp_path / "run")
    assert (ran.code, "Traceback" in ran.error) == (2, False)
    assert "run: the directory is gone" in ran.error
    assert not (tmp_path / "run").exists()
    assert find_damage(tmp_path / "elsewhere" / "checkpoints" / "step-00000002") is None
    (tmp_path / "elsewhere").rename(tmp_path / "run")
    assert "after step 2" in faulty("", tmp_path / "run", check=True).out


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_what_cannot_fit_is_refused_before_anything_is_written(small_disk, faulty, flags):
    disk = small_disk("30m")
    ran = faulty("", disk / "run", *flags)
    assert ran.code == 2
    assert f"--run-dir {disk}/run: about 70.2 MB is needed (4 checkpoints of 16.2 MB" in (ran.error)
    assert list(disk.iterdir()) in ([], [disk / "run"])
    assert not (disk / "run" / "config.yaml").exists()
    ran = faulty("", disk / "run", *flags, "--keep-checkpoints", "1", "--checkpoint-every", "0", check=True)
