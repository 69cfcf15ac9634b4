"""Gradients whose bits do not depend on the number of processes.

Floating-point addition is not associative, so a sum has the same bits everywhere only if it is added up in the same
order everywhere. Here the order is one binary tree over the microbatches of a global batch:

    microbatch   0   1   2   3   4   5   6   7
                  \\ /     \\ /     \\ /     \\ /
                    \\  +  /         \\  +  /
                         \\_____+_____/

A process that holds 2^n neighbouring microbatches adds up its own subtree. Processes r and r ^ 1 then exchange their
sums, then r and r ^ 2, and so on: each level adds two terms, and a + b has the bits of b + a, so all processes arrive
at the same root, and one process alone at the same root too.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist

from textgen.training.config import is_power_of_two

Sum = list[torch.Tensor]


def tree_sum(leaves: Iterable[Sum]) -> Sum:
    """The sum of 2^n lists of tensors, added pairwise; at most n + 1 partial sums are held at a time.

    Args:
        leaves: lists of tensors of the same shapes. They are added up in place: the first of each pair is overwritten.
    """
    pending: list[tuple[int, Sum]] = []  # (leaves in it, partial sum), like the digits of a binary counter
    for leaf in leaves:
        size, carry = 1, leaf
        while pending and pending[-1][0] == size:
            _, left = pending.pop()
            for mine, other in zip(left, carry, strict=True):
                mine.add_(other)
            size, carry = 2 * size, left
        pending.append((size, carry))
    assert len(pending) == 1, "the number of microbatches is a power of two; checked with the configuration"
    return pending[0][1]


def exchange_sums(mine: Sum) -> None:
    """Add up the processes' sums, level by level of the tree, in place and to the same bits on all of them."""
    if not dist.is_initialized():
        return
    rank, world_size = dist.get_rank(), dist.get_world_size()
    assert is_power_of_two(world_size), "checked with the configuration"
    distance = 1
    while distance < world_size:
        peer = rank ^ distance
        for tensor in mine:
            theirs = torch.empty_like(tensor)
            both = [dist.P2POp(dist.isend, tensor, peer), dist.P2POp(dist.irecv, theirs, peer)]
            for request in dist.batch_isend_irecv(both):
                request.wait()
            tensor.add_(theirs)
        distance *= 2


def take_gradients(parameters: Iterable[torch.nn.Parameter]) -> Sum:
    """The parameters' gradients, which are then theirs no more; zeros where there is none."""
    taken = []
    for parameter in parameters:
        taken.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
        parameter.grad = None
    return taken


def same_start(model: torch.nn.Module) -> None:
    """Give every process the first one's parameters and buffers, which is what DDP would have done."""
    if dist.is_initialized():
        for tensor in [*model.parameters(), *model.buffers()]:
            dist.broadcast(tensor.detach(), src=0)
