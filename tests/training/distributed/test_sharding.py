"""Sharded tensors in files, read by any number of processes."""

import json
import os
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from textgen.training.distributed.sharding import (
    ShardedTensors,
    full_state,
    gather,
    is_sharded,
    local_shard,
    shard_as,
    shards_to_save,
    unsharded,
)

WORLDS = (1, 2, 3)


@given(rows=st.integers(1, 9), cuts=st.lists(st.integers(0, 9), max_size=4), columns=st.integers(1, 3))
def test_shards_of_any_size_are_read_as_the_full_tensor(tmp_path_factory, rows, cuts, columns):
    directory = tmp_path_factory.mktemp("shards")
    tensor = torch.arange(float(rows * columns)).reshape(rows, columns)
    edges = [0, *sorted(min(cut, rows) for cut in cuts), rows]
    paths = []
    for i, (start, end) in enumerate(pairwise(edges)):
        paths.append(directory / f"{i}.safetensors")
        metadata = {"parts": json.dumps({"x": {"start": start, "shape": [rows, columns]}})}
        save_file({"x": tensor[start:end].contiguous()}, paths[-1], metadata)
    saved = ShardedTensors(paths)
    assert saved.shapes == {"x": [rows, columns]}
    assert torch.equal(saved.read("x"), tensor)


def test_tensors_that_are_not_sharded_are_written_as_plain_files(tmp_path):
    tensors = {"a": torch.ones(2, 3), "step": torch.tensor(7.0), "same": torch.zeros(4)}
    tensors["again"] = tensors["same"]
    payload, metadata = shards_to_save(tensors, torch.clone)
    assert metadata is None
    save_file(payload, tmp_path / "x.safetensors")
    saved = ShardedTensors([tmp_path / "x.safetensors"])
    assert all(torch.equal(saved.read(name), tensor) for name, tensor in tensors.items())


def test_a_model_that_is_not_sharded_is_not_changed(accelerator, tiny_gpt2):
    model = tiny_gpt2()
    assert not is_sharded(model)
    assert full_state(model) is None
    with unsharded(accelerator, model):
        assert torch.equal(gather(model.lm_head.weight), model.lm_head.weight)
    tensor = torch.ones(2)
    assert local_shard(tensor) is tensor
    assert shard_as(tensor, tensor) is tensor


def shard_in_processes(directory: Path) -> None:
    """Runs in each process of the test below: read and check what other processes wrote before, and write it again."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    dist.init_process_group("gloo")
    world = dist.get_world_size()
    mesh = init_device_mesh("cpu", (world,))
    expected = {"matrix": torch.arange(35.0).reshape(7, 5), "few": torch.arange(2.0), "vector": torch.arange(4.0)}
    sharded = {name: distribute_tensor(t.clone(), mesh, [Shard(0)]) for name, t in expected.items()}
    earlier = sorted(directory.glob("before-*.safetensors"))
    if earlier:
        saved = ShardedTensors(earlier)
        for name, tensor in sharded.items():
            mine = saved.read(name, tensor)
            assert torch.equal(mine, local_shard(tensor)), (name, mine, local_shard(tensor))
            assert torch.equal(gather(shard_as(mine, tensor)), expected[name])
        assert saved.read("step").item() == 7.0
    dist.barrier()
    for path in earlier:
        path.unlink(missing_ok=True)
    dist.barrier()
    payload, metadata = shards_to_save(sharded | {"step": torch.tensor(7.0)})
    save_file(payload, directory / f"before-{dist.get_rank()}.safetensors", metadata)
    dist.barrier()
    os._exit(0)  # freeing the process group may deadlock


def test_any_number_of_processes_reads_what_any_number_wrote(python, tmp_path):
    for world in (2, 3, 1, 2):
        python.run([__file__, tmp_path], processes=world, check=True)
        assert len(list(tmp_path.iterdir())) == world
    with pytest.raises(KeyError):
        ShardedTensors(sorted(tmp_path.iterdir())).read("missing")


if __name__ == "__main__":
    shard_in_processes(Path(sys.argv[1]))
