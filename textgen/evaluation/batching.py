"""Plan batches, and divide them among processes.

The plan does not depend on the number of processes; they divide up its batches. So every batch, and every bit of its
result, is the same on any number of processes.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from accelerate import Accelerator

from textgen.progress import progress

T = TypeVar("T")


def share_batches(accelerator: Accelerator, batches: Sequence[T]) -> Iterator[tuple[int, T]]:
    """Yield this process's batches as (index, batch).

    Processes may get different numbers of batches, so each must hold the complete model
    (:func:`textgen.training.distributed.sharding.unsharded`).
    """
    for number in range(accelerator.process_index, len(batches), accelerator.num_processes):
        yield number, batches[number]


def share_runs(sizes: Sequence[int], processes: int) -> list[range]:
    """Each process's share of items: runs of consecutive indices, of about the same total size.

    Args:
        sizes: size of each item.
        processes: number of processes.
    """
    ends = np.cumsum(sizes, dtype=np.int64)
    middles = 2 * ends - np.asarray(sizes, dtype=np.int64)  # twice the middle of each item, so that it is an integer
    total = int(ends[-1]) if len(ends) else 0
    starts = np.searchsorted(middles * processes, 2 * total * np.arange(processes)).tolist()
    return [range(first, last) for first, last in zip(starts, [*starts[1:], len(sizes)], strict=True)]


@contextmanager
def share_progress(
    work: str, sizes: Sequence[int], share: Iterable[int], *, unit: str
) -> Iterator[Callable[[float], None]]:
    """Progress of items that processes share, as far as one can tell: the others' shares are about as far as its own.

    Args:
        work: what is being done, as for :func:`textgen.progress.progress`.
        sizes: size of each item, for all processes.
        share: indices of this process's items.
        unit: what sizes are counted in.
    """
    total, own = sum(sizes), sum(sizes[index] for index in share)
    with progress(work, total=total, unit=unit) as advance:
        yield lambda size: advance(size * total / max(1, own))


def pack_batches(order: Sequence[int], spans: Sequence[tuple[int, int]], limit: int) -> list[list[int]]:
    """Pack consecutive items of ``order`` into batches with a padded area of at most ``limit``, or of a single item.

    Args:
        order: indices of items, longest first.
        spans: (start, end) of each item, by index: the positions to compute for it.
        limit: maximum of rows × (end of the first item − earliest start) per batch.
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


def same_length_batches(lengths: Sequence[int], max_size: int | None = None) -> list[list[int]]:
    """Indices of items in batches of equal length, which need no padding; at most ``max_size`` items per batch."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, length in enumerate(lengths):
        by_length[length].append(index)
    size = max_size or len(lengths) or 1
    return [same[first : first + size] for _, same in sorted(by_length.items()) for first in range(0, len(same), size)]
