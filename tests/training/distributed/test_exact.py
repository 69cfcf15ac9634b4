"""Sums whose bits do not depend on how many processes added them up."""

import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textgen.training.config import is_power_of_two
from textgen.training.distributed.exact import all_reduce_in_tree, pop_gradients, tree_sum


def leaves(count: int, seed: int = 0) -> list[list[torch.Tensor]]:
    """Numbers of very different magnitudes, whose sum depends on the order."""
    generator = torch.Generator().manual_seed(seed)
    return [
        [torch.randn(40, generator=generator) * 10 ** torch.randint(-3, 6, (40,), generator=generator)]
        for _ in range(count)
    ]


@settings(max_examples=40)
@given(depth=st.integers(0, 5), seed=st.integers(0, 100))
def test_sums_over_several_processes_have_the_bits_of_one_process(depth, seed):
    count = 2**depth
    (alone,) = tree_sum(leaves(count, seed))
    for shift in range(depth + 1):
        world = 2**shift
        every = leaves(count, seed)
        share = count // world
        sums = [tree_sum(every[rank * share : (rank + 1) * share])[0] for rank in range(world)]
        distance = 1
        while distance < world:  # what all_reduce_in_tree does, without processes
            sums = [sums[rank] + sums[rank ^ distance] for rank in range(world)]
            distance *= 2
        assert all(torch.equal(total, alone) for total in sums)


def test_a_sum_in_another_order_has_other_bits():
    (alone,) = tree_sum(leaves(8))
    in_sequence = sum((leaf[0] for leaf in leaves(8)), torch.zeros(40))
    torch.testing.assert_close(in_sequence, alone, rtol=1e-4, atol=1e-2)
    assert not torch.equal(in_sequence, alone)


def test_the_number_of_partial_sums_is_the_depth_of_the_tree():
    alive, peak = [0], [0]

    class Counted(torch.Tensor):
        def __del__(self) -> None:
            alive[0] -= 1

    def one_by_one():
        for leaf in leaves(16):
            alive[0] += 1
            peak[0] = max(peak[0], alive[0])
            yield [leaf[0].as_subclass(Counted)]

    tree_sum(one_by_one())
    assert peak[0] <= 6, "16 leaves: one being computed, one carried, and at most four partial sums"


@pytest.mark.parametrize("count", [3, 6])
def test_a_number_of_leaves_that_is_not_a_power_of_two_is_an_error(count):
    with pytest.raises(AssertionError, match="power of two"):
        tree_sum(leaves(count))


def test_powers_of_two():
    assert [n for n in range(-2, 20) if is_power_of_two(n)] == [1, 2, 4, 8, 16]


def test_gradients_are_removed_and_missing_ones_are_zero():
    one, other = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    (one * 3).sum().backward()
    gradients = pop_gradients([one, other])
    assert [t.tolist() for t in gradients] == [[3.0, 3.0], [0.0, 0.0]]
    assert one.grad is None


def test_on_one_process_sums_are_not_changed():
    (mine,) = total = [torch.ones(3)]
    all_reduce_in_tree(total)
    assert mine.tolist() == [1, 1, 1]


def all_reduce_in_processes(directory: Path) -> None:
    """Runs in each process of the test below."""
    import torch.distributed as dist

    dist.init_process_group("gloo")
    every, (rank, world) = leaves(8, seed=7), (dist.get_rank(), dist.get_world_size())
    total = tree_sum(every[rank * 8 // world : (rank + 1) * 8 // world])
    all_reduce_in_tree(total)
    torch.set_printoptions(precision=20)
    (directory / f"{world}-{rank}").write_bytes(total[0].numpy().tobytes())
    dist.barrier()
    os._exit(0)  # freeing the process group may deadlock


def test_processes_compute_the_same_bits(python, tmp_path):
    for world in (2, 4):
        python.run([__file__, tmp_path], processes=world, check=True)
    written = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    assert len(written) == 6
    assert set(written) == {tree_sum(leaves(8, seed=7))[0].numpy().tobytes()}


if __name__ == "__main__":
    all_reduce_in_processes(Path(sys.argv[1]))
