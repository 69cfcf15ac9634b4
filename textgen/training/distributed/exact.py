"""Sums of gradients whose bits do not depend on the number of processes.

Floating-point addition is not associative: a sum has the same bits everywhere only if it is computed in the same order
everywhere. Here the order is one binary tree over the microbatches of a global batch:

    microbatch   0   1   2   3   4   5   6   7
                  \\ /     \\ /     \\ /     \\ /
                    \\  +  /         \\  +  /
                         \\_____+_____/

A process with 2^n consecutive microbatches sums its own subtree. Then processes r and r ^ 1 exchange their sums, then r
and r ^ 2, and so on (a butterfly all-reduce): each level adds two terms, and a + b has the bits of b + a, so all
processes arrive at the same root, and so does a single process.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist

from textgen.training.config import is_power_of_two

Tensors = list[torch.Tensor]


def tree_sum(leaves: Iterable[Tensors]) -> Tensors:
    """The sum of 2^n lists of tensors, added pairwise; at most n + 1 partial sums exist at a time.

    Args:
        leaves: lists of tensors of the same shapes. Sums are computed in place: the first of each pair is overwritten.
    """
    pending: list[tuple[int, Tensors]] = []  # (number of leaves, partial sum), like the digits of a binary counter
    for leaf in leaves:
        size, carry = 1, leaf
        while pending and pending[-1][0] == size:
            _, left = pending.pop()
            for mine, other in zip(left, carry, strict=True):
                mine.add_(other)
            size, carry = 2 * size, left
        pending.append((size, carry))
    assert len(pending) == 1, "the number of microbatches is a power of two, which the settings check ensures"
    return pending[0][1]


def all_reduce_in_tree(tensors: Tensors) -> None:
    """Sum tensors over processes, level by level of the tree, in place; all processes get the same bits."""
    if not dist.is_initialized():
        return
    rank, world_size = dist.get_rank(), dist.get_world_size()
    assert is_power_of_two(world_size), "the settings check ensures this"
    distance = 1
    while distance < world_size:
        peer = rank ^ distance
        for tensor in tensors:
            theirs = torch.empty_like(tensor)
            both = [dist.P2POp(dist.isend, tensor, peer), dist.P2POp(dist.irecv, theirs, peer)]
            for request in dist.batch_isend_irecv(both):
                request.wait()
            tensor.add_(theirs)
        distance *= 2


def pop_gradients(parameters: Iterable[torch.nn.Parameter]) -> Tensors:
    """Remove and return the parameters' gradients; zeros for a parameter without one."""
    gradients = []
    for parameter in parameters:
        gradients.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
        parameter.grad = None
    return gradients


def broadcast_parameters(model: torch.nn.Module) -> None:
    """Copy the first process's parameters and buffers to all others, as DDP would."""
    if dist.is_initialized():
        for tensor in [*model.parameters(), *model.buffers()]:
            dist.broadcast(tensor.detach(), src=0)
