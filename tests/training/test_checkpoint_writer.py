"""What is written of a checkpoint is a copy, and processes with shards write and fail together."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from textgen.training.checkpoint_manifest import find_damage
from textgen.training.checkpoint_writer import Place, own_copy


def test_a_copy_is_contiguous_and_stays_as_it_is():
    tensor = torch.arange(6.0).reshape(2, 3).T
    copy = own_copy(tensor)
    tensor.zero_()
    assert copy.is_contiguous()
    assert copy.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_checkpoint_has_a_place(tmp_path):
    place = Place(tmp_path, 12)
    assert (place.final.name, place.scratch.name) == ("step-00000012", ".step-00000012.partial")


def write_in_processes(directory: Path) -> None:
    """Runs in each process of the test below: a checkpoint that is whole, and one whose second process has no space."""
    import time

    import numpy as np
    import torch.distributed as dist

    from textgen.training import checkpoint_writer
    from textgen.training.checkpoint_writer import CheckpointWriter
    from textgen.training.train_state import TrainState

    dist.init_process_group("gloo")
    rank, writer = dist.get_rank(), CheckpointWriter()

    def start(step: int) -> None:
        files: Any = {f"shard-{rank}": [np.full(5, rank, np.uint8)]}
        writer.start(Place(directory, step), files, fingerprints={}, state=TrainState(step), keep=1, sharded=True)

    start(1)
    for _ in range(500):  # the processes agree in some step, at the same time
        writer.poll()
        if not writer._task.running:
            break
        time.sleep(0.01)
    assert (directory / "step-00000001" / "manifest.json").is_file()
    write = checkpoint_writer.write_verified

    def full(path: Path, pieces: Any) -> Any:
        if rank == 1:
            raise OSError(28, "No space left on device", str(path))
        return write(path, pieces)

    checkpoint_writer.write_verified = full  # type: ignore[assignment]
    start(2)
    message = ""
    try:
        writer.wait()
    except OSError as error:
        message = str(error)
    (directory / f"message-{rank}").write_text(message)
    checkpoint_writer.write_verified = write
    start(3)
    writer.wait()
    dist.barrier()


@pytest.mark.slow
def test_processes_with_shards_write_one_checkpoint_and_fail_together(python, tmp_path):
    python.run([__file__, tmp_path], processes=2, check=True)
    messages = {(tmp_path / f"message-{rank}").read_text() for rank in range(2)}
    assert len(messages) == 1
    assert "No space left on device" in messages.pop()
    left = sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("message"))
    assert left == ["step-00000003"]
    assert find_damage(tmp_path / "step-00000003") is None
    manifest = json.loads((tmp_path / "step-00000003" / "manifest.json").read_text())
    assert list(manifest["files"]) == ["shard-0", "shard-1"]


if __name__ == "__main__":
    write_in_processes(Path(sys.argv[1]))
