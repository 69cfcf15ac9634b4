"""``--microbatch-size auto``: the largest microbatch that fits into memory, decided by all processes together.

Trying sizes until one fails is not an option: a CPU process that exceeds its memory is killed, and of several GPU
processes one may run out of memory while another does not. Instead, two small passes are measured, with one row and
with two. Memory grows linearly with the number of rows, so they predict what any number of rows takes.
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
from textgen.model.loss import ModelWithLoss
from textgen.training.config import TrainingConfig, microbatch_sizes

MARGIN = 0.15  # fraction of the available memory that is left for fragmentation, evaluation and other processes


def resolve_microbatch_size(
    accelerator: Accelerator, model: Any, training: TrainingConfig, *, block_size: int, previous: int | None = None
) -> int:
    """``--microbatch-size`` as a number: the one given or, with auto, the largest that fits into memory.

    Args:
        accelerator: this process's Accelerator; all processes decide together.
        model: a transformers or peft model on its device, not wrapped yet.
        training: batch sizes.
        block_size: tokens per row.
        previous: the size that this run started with, if it is resumed.

    Raises:
        UserError: not even one row fits, or ``previous`` does not divide the global batch on this number of processes.
    """
    if training.microbatch_size != "auto":
        return training.microbatch_size
    size = fit_microbatch_size(
        accelerator,
        ModelWithLoss(model),
        block_size=block_size,
        global_batch_size=training.global_batch_size,
        previous=previous,
    )
    accelerator.print(f"--microbatch-size auto: {size}")
    return size


def fit_microbatch_size(
    accelerator: Accelerator,
    model: torch.nn.Module,
    *,
    block_size: int,
    global_batch_size: int,
    previous: int | None = None,
) -> int:
    """The largest microbatch size that fits on every process; the same on all of them.

    Args:
        accelerator: this process's Accelerator; all processes decide together.
        model: a :class:`textgen.model.loss.ModelWithLoss` on its device, not wrapped yet, so that measuring it does not
            communicate. The model and the random state are restored afterwards.
        block_size: tokens per row.
        global_batch_size: rows per step, over all processes.
        previous: the size that this run started with, as known to the main process. It is used again, since a resumed
            run must compute the same numbers.

    Raises:
        UserError: not even one row fits, or ``previous`` does not divide the global batch on this number of processes.
    """
    sizes = microbatch_sizes(global_batch_size, accelerator.num_processes)
    (previous,) = broadcast_object_list([previous])
    if previous is not None:
        if previous not in sizes:
            raise UserError(
                f"--microbatch-size auto: this run started with {previous}, which does not divide "
                f"--global-batch-size {global_batch_size} on {accelerator.num_processes} processes. Use the previous "
                "number of processes."
            )
        return previous
    optimizer_state = sum(8 * p.numel() for p in model.parameters() if p.requires_grad)
    available = available_bytes(accelerator.device)
    in_use = _memory_in_use(accelerator.device)
    _peak_memory_of_pass(model, 1, block_size, accelerator)  # the first pass also allocates the libraries' buffers
    peaks = [_peak_memory_of_pass(model, rows, block_size, accelerator) for rows in (1, 2)]
    one_row, two_rows = (max(0, peak - in_use) for peak in peaks)  # on a CPU, freed memory may go back meanwhile
    largest = largest_that_fits(
        sizes, one_row=one_row, two_rows=two_rows, optimizer_state=optimizer_state, available=available
    )
    on_each_process = accelerator.gather(torch.tensor([largest or 0], device=accelerator.device))
    smallest = int(on_each_process.min())
    if smallest == 0:
        raise UserError(
            f"--microbatch-size auto: one block of --block-size {block_size} takes "
            f"{(one_row + optimizer_state) / 2**30:.1f} GiB in addition to the model, but only "
            f"{available / 2**30:.1f} GiB are available. Use --gradient-checkpointing, a smaller --block-size, or "
            "--method lora."
        )
    return smallest


def largest_that_fits(
    sizes: Sequence[int], *, one_row: int, two_rows: int, optimizer_state: int, available: int
) -> int | None:
    """The largest microbatch size whose step fits into memory, or None.

    Args:
        sizes: candidates, ascending.
        one_row: peak bytes of a pass with one row, minus what was in use before.
        two_rows: peak bytes of a pass with two rows, minus what was in use before.
        optimizer_state: bytes of the optimizer's state, which a step needs in addition.
        available: bytes available, of which the fraction :data:`MARGIN` is left free.
    """
    per_row = max(0, two_rows - one_row)
    fixed = one_row - per_row + optimizer_state
    fitting = [size for size in sizes if fixed + size * per_row <= available * (1 - MARGIN)]
    return fitting[-1] if fitting else None


def available_bytes(device: torch.device) -> int:
    """Free memory of this process: of its GPU, or an even share of what the machine has left."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = min([psutil.virtual_memory().available, *_cgroup_limits()])
    return free // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _cgroup_limits() -> list[int]:
    # The files of cgroup version 2 and version 1; in a container, these are the container's limits.
    found = []
    for limit_file, usage_file in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            limit, usage = (
                Path("/sys/fs/cgroup", name).read_text(encoding="utf-8").strip() for name in (limit_file, usage_file)
            )
            found.append(int(limit) - int(usage))
        except (OSError, ValueError):  # no limit, or "max"
            continue
    return found


def _peak_memory_of_pass(model: torch.nn.Module, rows: int, block_size: int, accelerator: Accelerator) -> int:
    """Peak bytes in use during a forward and a backward pass."""
    device = accelerator.device
    ids = torch.zeros(rows, block_size, dtype=torch.long, device=device)
    was_training = model.training
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        _reset_peak_memory(device)
        try:
            with accelerator.autocast():
                loss = model.train()(ids, ids)
            loss.backward()
            peak = _peak_memory(device)
        except torch.OutOfMemoryError:
            peak = 2**62  # more than any device has
        finally:
            model.train(was_training)
            for parameter in model.parameters():
                parameter.grad = None
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return peak


def _memory_in_use(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def _reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets the peak of resident memory
    except OSError:
        return  # not Linux, or not allowed: the old peak remains, so the estimate is conservative


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return psutil.Process().memory_info().rss
