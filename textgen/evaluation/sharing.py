"""Cutting work into batches, and sharing the batches out over processes.

A plan of batches does not depend on the number of processes: they share out its batches, so that a batch, and with it
the last bit of its result, is the same on any number of them.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TypeVar

from accelerate import Accelerator

T = TypeVar("T")


def share_batches(accelerator: Accelerator, batches: Sequence[T]) -> Iterator[tuple[int, T, bool]]:
    """This process's batches, as (number, batch, whether its result counts).

    A process that has no batch left repeats one, whose result does not count: where parameters are sharded, every
    process must take part in every forward pass, or the others would wait forever.
    """
    rank, world_size = accelerator.process_index, accelerator.num_processes
    for number in range(rank, math.ceil(len(batches) / world_size) * world_size, world_size):
        yield number, batches[number % len(batches)], number < len(batches)


def pack_batches(order: Sequence[int], spans: Sequence[tuple[int, int]], limit: int) -> list[list[int]]:
    """Consecutive items of ``order`` in batches whose padded area is at most ``limit``, or of a single item.

    Args:
        order: indices of items, longest first.
        spans: (start, end) of each item, by index: the positions that it needs computed.
        limit: of rows × (end of the longest − earliest start) in a batch.
    """
    batches: list[list[int]] = []
    earliest = end = 0
    for index in order:
        start = spans[index][0]
        if batches and (len(batches[-1]) + 1) * (end - min(earliest, start)) <= limit:
            batches[-1].append(index)
            earliest = min(earliest, start)
        else:
            batches.append([index])
            earliest, end = spans[index]
    return batches


def same_length_batches(lengths: Sequence[int], most: int | None = None) -> list[list[int]]:
    """Indices of items in batches of one length, so that there is no padding; at most ``most`` in a batch."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, length in enumerate(lengths):
        by_length[length].append(index)
    size = most or len(lengths) or 1
    return [
        alike[first : first + size] for _, alike in sorted(by_length.items()) for first in range(0, len(alike), size)
    ]
