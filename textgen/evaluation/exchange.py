"""What the processes of an evaluation exchange: partial results go to the main process, and figures from it to all."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from accelerate.utils import broadcast_object_list, gather_object

from textgen import signals
from textgen.errors import Preempted, UserError

T = TypeVar("T")


def all_gather(processes: Any, value: T) -> list[T]:
    """The value of each process, in their order, on every process.

    Args:
        processes: an Accelerator, or accelerate's ``PartialState``.
        value: this process's value, which is pickled.
    """
    return list(gather_object([value])) if processes.num_processes > 1 else [value]


def gather(processes: Any, value: T) -> list[T] | None:
    """The value of each process, in their order, on the main process; None on the others. Arguments as above."""
    if processes.num_processes == 1:
        return [value]
    found: list[Any] | None = [None] * processes.num_processes if processes.is_main_process else None
    torch.distributed.gather_object(value, found, dst=0)
    return found


def deliver(processes: Any, parcels: list[T]) -> list[T]:
    """Send each process a value of its own, and return what this process got from each, in their order.

    Args:
        processes: an Accelerator, or accelerate's ``PartialState``.
        parcels: what to send to each process, which is pickled.
    """
    if processes.num_processes == 1:
        return parcels
    received: list[Any] = []
    for source in range(processes.num_processes):
        found: list[Any] = [None]
        torch.distributed.scatter_object_list(found, parcels if processes.process_index == source else None, src=source)
        received += found
    return received


def on_main(processes: Any, compute: Callable[[], T]) -> T:
    """What the main process computes, on every process.

    Args:
        processes: an Accelerator, or accelerate's ``PartialState``.
        compute: called on the main process only; its result is pickled.

    Raises:
        UserError: ``compute`` raised it; it is raised on every process, so that none waits for the others.
    """
    if processes.num_processes == 1:
        return compute()
    found: list[Any] = [None, None]
    if processes.is_main_process:
        try:
            found[0] = compute()
        except UserError as error:
            found[1] = str(error)
    broadcast_object_list(found)
    result, message = found
    if message is not None:
        raise UserError(message)
    return result


def stop_together(processes: Any) -> None:
    """Give up on all processes if any was told to stop. One that notices before the others may skip its own work.

    Args:
        processes: an Accelerator, or accelerate's ``PartialState``.

    Raises:
        Preempted: on every process alike.
    """
    if any(all_gather(processes, signals.requested())):
        raise Preempted(signals.reason())
