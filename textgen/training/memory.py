"""How much memory a microbatch takes, and the largest one that fits, decided by all processes together.

Running until something breaks is no way to find out: a CPU process that takes too much is killed, and of many GPU
processes one may run out where another does not. Two small passes are measured instead. Everything that grows with the
number of rows grows in proportion to it, so they say what any number of rows takes.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from textgen.errors import UserError
from textgen.model.loss import ScoredModel
from textgen.training.config import TrainingConfig

MARGIN = 0.15  # of what is available, left for fragmentation, evaluation and everyone else


def microbatch_sizes(global_batch_size: int, world_size: int) -> list[int]:
    """The microbatch sizes that divide a global batch into equal shares of whole microbatches, ascending."""
    return [size for size in range(1, global_batch_size + 1) if global_batch_size % (size * world_size) == 0]


def largest_that_fits(sizes: Sequence[int], peaks: tuple[int, int], later: int, available: int) -> int | None:
    """The largest of some microbatch sizes whose step fits into memory, or None.

    Args:
        sizes: ascending.
        peaks: bytes that a pass of one row and a pass of two rows took on top of what was there.
        later: bytes that a step will need besides, such as the optimizer's state.
        available: bytes that there are; a share of :data:`MARGIN` of them is left alone.
    """
    row = max(0, peaks[1] - peaks[0])
    fixed = peaks[0] - row + later
    fitting = [size for size in sizes if fixed + size * row <= available * (1 - MARGIN)]
    return fitting[-1] if fitting else None


def resolve_microbatch_size(
    accelerator: Accelerator, model: Any, training: TrainingConfig, *, block_size: int, before: int | None = None
) -> int:
    """``--microbatch-size`` as a number: the one given or, with ``auto``, the largest that fits; arguments as for
    :func:`fit_microbatch`."""
    if training.microbatch_size != "auto":
        return training.microbatch_size
    size = fit_microbatch(
        accelerator,
        ScoredModel(model),
        block_size=block_size,
        global_batch_size=training.global_batch_size,
        before=before,
    )
    accelerator.print(f"--microbatch-size auto: {size}")
    return size


def fit_microbatch(
    accelerator: Accelerator,
    model: torch.nn.Module,
    *,
    block_size: int,
    global_batch_size: int,
    before: int | None = None,
) -> int:
    """The largest microbatch size that fits on every process; the same number on all of them.

    Args:
        accelerator: whose processes decide.
        model: a :class:`textgen.model.loss.ScoredModel` on its device, not wrapped yet, so that trying it sends
            nothing. It is left as it was, and so are the random generators.
        block_size: tokens in a row.
        global_batch_size: rows in a step of all processes.
        before: what was decided when this run began, on the main process; taken as it is, since going on must give
            the same numbers.

    Raises:
        UserError: not even one row fits, or what was decided before does not divide among these processes.
    """
    sizes = microbatch_sizes(global_batch_size, accelerator.num_processes)
    (decided,) = broadcast_object_list([before])
    if decided is not None:
        if decided not in sizes:
            raise UserError(
                f"--microbatch-size auto: this run began with {decided}, which does not divide "
                f"--global-batch-size {global_batch_size} among {accelerator.num_processes} processes. Go on with as "
                "many processes as before."
            )
        return int(decided)
    optimizer_state = sum(8 * p.numel() for p in model.parameters() if p.requires_grad)
    free = available_bytes(accelerator.device)
    start = _in_use(accelerator.device)
    _peak_of_a_pass(model, 1, block_size, accelerator)  # the first one also fills the libraries' own buffers
    one, two = (_peak_of_a_pass(model, rows, block_size, accelerator) - start for rows in (1, 2))
    peaks = (one, two)
    mine = largest_that_fits(sizes, peaks, optimizer_state, free) or 0
    everyone = accelerator.gather(torch.tensor([mine], device=accelerator.device))
    smallest = int(everyone.min())
    if smallest == 0:
        raise UserError(
            f"--microbatch-size auto: a single block of --block-size {block_size} takes "
            f"{(peaks[0] + optimizer_state) / 2**30:.1f} GiB on top of the model, and {free / 2**30:.1f} GiB are "
            "free. Use --gradient-checkpointing, a smaller --block-size, or --method lora."
        )
    return smallest


def available_bytes(device: torch.device) -> int:
    """Memory that this process may still take: of its GPU, or its even share of what the machine has left."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = min([psutil.virtual_memory().available, *_cgroup_limits()])
    return free // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _cgroup_limits() -> list[int]:
    # Version 2 and version 1; in a container these are the container's own.
    found = []
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            limit, current = (Path("/sys/fs/cgroup", name).read_text().strip() for name in (most, used))
            found.append(int(limit) - int(current))
        except (OSError, ValueError):  # no such limit, or "max"
            continue
    return found


def _peak_of_a_pass(model: torch.nn.Module, rows: int, block_size: int, accelerator: Accelerator) -> int:
    """The most bytes in use during a forward and a backward pass."""
    device = accelerator.device
    ids = torch.zeros(rows, block_size, dtype=torch.long, device=device)
    was_training = model.training
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        _reset_peak(device)
        try:
            with accelerator.autocast():
                loss = model.train()(ids, ids)
            loss.backward()
            peak = _peak(device)
        except torch.OutOfMemoryError:
            peak = 2**62  # more than there is, on any device
        finally:
            model.train(was_training)
            for parameter in model.parameters():
                parameter.grad = None
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return peak


def _in_use(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak of resident memory back to the present
    except OSError:
        return  # not Linux, or not allowed: the peak so far stands, and the estimate is on the safe side


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return psutil.Process().memory_info().rss
