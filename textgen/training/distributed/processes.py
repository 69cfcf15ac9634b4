"""Starting this process as one of however many there are."""

import ctypes
import os
import sys

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, FullyShardedDataParallelPlugin

from textgen.device import launcher_uses, on_cpu, world_size
from textgen.errors import UserError
from textgen.training.distributed import deepspeed_zero
from textgen.training.precision import COMPUTE_DTYPES, describe, resolve_precision


def start_process(threads: int = 0, *, precision: str = "fp32", exact: bool = False) -> Accelerator:
    """Set this process up: device, process group, precision, and a thread count that was chosen and not inherited.

    `accelerate launch` sets OMP_NUM_THREADS by rules of its own; the count changes the speed by half and the last bits
    of every sum, so it is set here, and recorded.

    Args:
        threads: CPU threads of this process; 0 shares the cores that it may run on out evenly, or is 1 if ``exact``.
        precision: fp32, bf16, fp16, or auto (:func:`textgen.training.precision.resolve_precision`).
        exact: take deterministic kernels only.

    Raises:
        UserError: the launcher asked for another number of processes than it started, or the device cannot compute in
            that precision.
    """
    _hide_progress_bars()
    _set_allocator()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(threads or (1 if exact else max(1, len(os.sched_getaffinity(0)) // local)))
    if exact:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
        torch.use_deterministic_algorithms(True)
    cpu = on_cpu()
    if cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed, wherever it is imported, warns of that
    resolved = resolve_precision(precision, "cpu" if cpu else "cuda")
    mixed = {"fp32": "no"}.get(resolved, resolved)
    if launcher_uses("DEEPSPEED"):
        deepspeed_zero.check(resolved)
    not_accelerates = launcher_uses("DEEPSPEED") or (cpu and mixed == "fp16")
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision="no" if not_accelerates else mixed,
        # Else DDP copies what was summed back into gradients that are kept beside its buckets.
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )
    accelerator.computes_in = resolved
    if cpu:
        _what_accelerate_leaves_out_on_cpu(accelerator, mixed)
    if accelerator.num_processes != world_size():
        raise UserError(
            f"the launcher announced {world_size()} processes, but {accelerator.num_processes} found each other. "
            "On CPU, launch with: accelerate launch --config_file launch/multi_cpu.yaml recipes/finetune.py"
        )
    return accelerator


def _set_allocator() -> None:
    """Large arrays in pages of 2 MB, and back to the system as soon as they are freed.

    Left alone, glibc raises the size from which it does the latter as it goes, and keeps the holes between what a step
    leaves: a sixth of a step's memory with LoRA, for which a step takes 7 % longer (docs/log.md).
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first large array
    if sys.platform == "linux" and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in every C library
        if mallopt is not None:
            mallopt(-3, 1 << 20)  # M_MMAP_THRESHOLD, in bytes


def _what_accelerate_leaves_out_on_cpu(accelerator: Accelerator, mixed_precision: str) -> None:
    """Make DeepSpeed, FSDP2 and fp16 with loss scaling, which Accelerate does on GPUs alone, run on a CPU by its code.

    It is slow there; it is what lets a laptop, and the tests, go through what will run on a cluster.
    """
    state = accelerator.state
    if launcher_uses("DEEPSPEED") and accelerator.num_processes > 1:
        deepspeed_zero.start_on_cpu(accelerator)
    if mixed_precision == "fp16":
        state._mixed_precision = "fp16"
        accelerator.native_amp = True
        accelerator.scaler = torch.amp.GradScaler("cpu")
    if launcher_uses("FSDP") and accelerator.num_processes > 1:
        state.fsdp_plugin = FullyShardedDataParallelPlugin()  # from what the launch file put into the environment
        if state.fsdp_plugin.fsdp_version != 2:
            raise UserError("the launch file asks for FSDP 1; set fsdp_version: 2, as launch/fsdp2.yaml does.")
        if mixed_precision != "no":
            state.fsdp_plugin.set_mixed_precision(mixed_precision)
        state.distributed_type = DistributedType.FSDP
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


def precision_of(accelerator: Accelerator) -> str:
    """The precision that this process computes in: fp32, bf16 or fp16."""
    wanted = accelerator.mixed_precision  # DeepSpeed is not told; start_process noted it
    return str(getattr(accelerator, "computes_in", "fp32" if wanted == "no" else wanted))


def compute_dtype(accelerator: Accelerator) -> torch.dtype:
    """The same as a dtype."""
    return COMPUTE_DTYPES[precision_of(accelerator)]


def describe_precision(accelerator: Accelerator, wanted: str) -> str:
    """The precision in words, given what ``--precision`` said; with a hint if another one would be faster."""
    return describe(precision_of(accelerator), wanted, accelerator.device.type)


def threads() -> int:
    """CPU threads that this process computes with."""
    return torch.get_num_threads()


def _hide_progress_bars() -> None:
    # The libraries' own bars tell of milliseconds, and clutter every log that is not a terminal.
    from transformers.utils import logging

    logging.disable_progress_bar()
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"  # importing it only to say so would cost a second
