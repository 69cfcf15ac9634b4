"""Starting this process as one of however many there are."""

import ctypes
import os
import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, FullyShardedDataParallelPlugin

from textgen.device import asked_for, on_cpu
from textgen.errors import UserError
from textgen.model.contexts import evaluating
from textgen.training.allocator import allocator
from textgen.training.config import world_size
from textgen.training.distributed import deepspeed_zero
from textgen.training.distributed.exact import same_start
from textgen.training.distributed.sharding import is_sharded, reshard
from textgen.training.precision import COMPUTE_DTYPES, resolve_precision

_PACKAGES = ("torch", "transformers", "accelerate", "peft", "bitsandbytes", "datasets", "wandb", "tokenizers", "numpy")


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
    if asked_for("DEEPSPEED"):
        deepspeed_zero.check(resolved)
    not_accelerates = asked_for("DEEPSPEED") or (cpu and mixed == "fp16")
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
    if asked_for("DEEPSPEED") and accelerator.num_processes > 1:
        deepspeed_zero.start_on_cpu(accelerator)
    if mixed_precision == "fp16":
        state._mixed_precision = "fp16"
        accelerator.native_amp = True
        accelerator.scaler = torch.amp.GradScaler("cpu")
    if asked_for("FSDP") and accelerator.num_processes > 1:
        state.fsdp_plugin = FullyShardedDataParallelPlugin()  # from what the launch file put into the environment
        if state.fsdp_plugin.fsdp_version != 2:
            raise UserError("the launch file asks for FSDP 1; set fsdp_version: 2, as launch/fsdp2.yaml does.")
        if mixed_precision != "no":
            state.fsdp_plugin.set_mixed_precision(mixed_precision)
        state.distributed_type = DistributedType.FSDP
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


def prepare(
    accelerator: Accelerator,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    max_grad_norm: float = 1.0,
    exact: bool = False,
) -> tuple[torch.nn.Module, Any]:
    """Put model and optimizer where the launcher wants them: replicated (DDP), sharded (FSDP2, DeepSpeed), or alone.

    Args:
        accelerator: of :func:`start_process`.
        model: a :class:`textgen.model.loss.ScoredModel`.
        optimizer: over its parameters.
        max_grad_norm: that steps will clip to, which DeepSpeed has to know from the start.
        exact: replicate the model without DDP, whose order of summation depends on the number of processes.
    """
    if exact:
        alone = accelerator.prepare_model(model, evaluation_mode=True)
        same_start(alone)
        return alone, accelerator.prepare_optimizer(optimizer)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        deepspeed_zero.configure(accelerator, max_grad_norm=max_grad_norm)
        dtype = COMPUTE_DTYPES[precision_of(accelerator)]
        if dtype != torch.float32:
            model.forward = torch.autocast(accelerator.device.type, dtype)(model.forward)
    model, optimizer = accelerator.prepare(model, optimizer)
    if is_sharded(model):  # the first module to run takes itself for the outermost; it had better be that
        ids = torch.zeros(1, 2, dtype=torch.long, device=accelerator.device)
        with evaluating(model), torch.no_grad():
            model(ids, ids)
        reshard(model)  # which leaves the outermost gathered; a checkpoint would then be read into what is thrown away
    return model, optimizer


def _hide_progress_bars() -> None:
    # The libraries' own bars tell of milliseconds, and clutter every log that is not a terminal.
    from transformers.utils import logging

    logging.disable_progress_bar()
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"  # importing it only to say so would cost a second


def peak_memory_bytes(accelerator: Accelerator) -> int:
    """The most memory that this process has used so far: allocated on its GPU, or resident on a CPU."""
    if accelerator.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(accelerator.device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def precision_of(accelerator: Accelerator) -> str:
    """What this process computes in: fp32, bf16 or fp16."""
    asked = accelerator.mixed_precision  # under DeepSpeed, which is told nothing of it, what start_process noted
    return str(getattr(accelerator, "computes_in", "fp32" if asked == "no" else asked))


def threads() -> int:
    """CPU threads that this process computes with."""
    return torch.get_num_threads()


def environment(accelerator: Accelerator) -> dict[str, Any]:
    """What computed: versions, processes, threads, device and the command; the part of a run that may vary."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "processes": accelerator.num_processes,
        "threads": threads(),
        "precision": precision_of(accelerator),
        "allocator": allocator(),
        "device": torch.cuda.get_device_name() if accelerator.device.type == "cuda" else f"cpu ({platform.machine()})",
        "command": " ".join(sys.argv),
    }
