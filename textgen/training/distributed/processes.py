"""Starting this process as one of all that the launcher started: device, process group, precision, threads."""

import ctypes
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    FullyShardedDataParallelPlugin,
    InitProcessGroupKwargs,
    broadcast_object_list,
)

from textgen.errors import UserError, first_line
from textgen.launch_environment import launcher_uses, on_cpu, world_size
from textgen.run.ending import this_process
from textgen.run.peers import Peers, process_name, silent_seconds
from textgen.training.distributed import deepspeed_zero
from textgen.training.precision import COMPUTE_DTYPES, describe, resolve_precision


def start_process(threads: int = 0, *, precision: str = "fp32", exact: bool = False) -> Accelerator:
    """Set up this process: device, process group, precision and number of threads.

    `accelerate launch` sets OMP_NUM_THREADS by its own rules. The number of threads can halve the speed, and it changes
    the last bits of every sum, so it is set explicitly here, and recorded.

    Args:
        threads: CPU threads of this process; 0: an even share of the cores that it may run on, or 1 if ``exact``.
        precision: fp32, bf16, fp16, or auto (:func:`textgen.training.precision.resolve_precision`).
        exact: use deterministic kernels only.

    Raises:
        UserError: the launcher started another number of processes than it announced, or the device does not support
            the precision.
    """
    _hide_progress_bars()
    _configure_allocator()
    local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(threads or (1 if exact else max(1, len(os.sched_getaffinity(0)) // local_processes)))
    if exact:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is not deterministic without it
        torch.use_deterministic_algorithms(True)
    cpu = on_cpu()
    if cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # otherwise DeepSpeed warns whenever it is imported
    resolved = resolve_precision(precision, "cpu" if cpu else "cuda")
    mixed_precision = {"fp32": "no"}.get(resolved, resolved)
    if launcher_uses("DEEPSPEED"):
        deepspeed_zero.check_settings(resolved)
    # Accelerate refuses fp16 on a CPU, and with DeepSpeed would convert the weights as well.
    outside_accelerate = launcher_uses("DEEPSPEED") or (cpu and mixed_precision == "fp16")
    with _environment_errors():
        accelerator = Accelerator(
            cpu=cpu,
            mixed_precision="no" if outside_accelerate else mixed_precision,
            # Otherwise DDP stores gradients twice: in its buckets and in the parameters' own tensors.
            kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True), *_after_restart()],
        )
    accelerator.resolved_precision = resolved
    if cpu:
        with _environment_errors():
            _enable_gpu_features_on_cpu(accelerator, mixed_precision)
    if accelerator.num_processes != world_size():
        raise UserError(
            f"the launcher announced {world_size()} processes, but {accelerator.num_processes} started. "
            "On CPU, launch with: accelerate launch --config_file launch/multi_cpu.yaml recipes/finetune.py"
        )
    _meet_peers(accelerator)
    return accelerator


def _after_restart() -> list[InitProcessGroupKwargs]:
    """What lets processes find each other that a launcher started again after a failure (``--max-restarts``).

    With its static rendezvous, torchrun keeps the store of the first attempt, which has the addresses of the processes
    that ended. Processes that read those could not connect; with a prefix for each attempt, they read their own.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if attempt == "0":
        return []

    def rendezvous(url: str, timeout: timedelta, **settings: Any) -> Iterator[tuple[Any, int, int]]:
        for store, *place in torch.distributed.rendezvous("env://", timeout=timeout, **settings):
            yield torch.distributed.PrefixStore(f"textgen/attempt-{attempt}", store), *place

    torch.distributed.register_rendezvous_handler("textgen", rendezvous)
    return [InitProcessGroupKwargs(init_method="textgen://")]


def _meet_peers(accelerator: Accelerator) -> None:
    """Watch the other processes, and be watched, if a recipe runs in several."""
    ending = this_process()
    if ending is None or accelerator.num_processes == 1 or not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return
    session = [uuid.uuid4().hex, process_name()]
    broadcast_object_list(session)
    seconds = silent_seconds()
    store = torch.distributed.TCPStore(
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False,
        timeout=timedelta(seconds=seconds), wait_for_workers=False,
    )  # fmt: skip
    peers = Peers(
        store, rank=accelerator.process_index, world_size=accelerator.num_processes, session=session[0],
        main_name=session[1], silent_seconds=seconds, on_news=ending.on_news,
    )  # fmt: skip
    ending.meet(peers)


@contextmanager
def _environment_errors() -> Iterator[None]:
    """Accelerate reads its settings from the environment, where a launcher put them, or somebody else."""
    try:
        yield
    except UserError:
        raise
    except (ValueError, KeyError) as error:
        found = sorted(name for name in os.environ if name.startswith(("ACCELERATE_", "FSDP_")))
        if not found:
            raise
        raise UserError(
            f"Accelerate cannot start: {first_line(error)}. Correct or unset what is wrong of the variables "
            f"{', '.join(found)}."
        ) from None


def _configure_allocator() -> None:
    """Allocate large arrays in pages of 2 MB, and return them to the system as soon as they are freed.

    By default, glibc raises its mmap threshold over time and keeps freed arrays on its heap, whose gaps take a sixth of
    the memory of a LoRA step. A fixed threshold avoids that, and makes a step 8 % slower (docs/log.md).
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first large array
    if sys.platform == "linux" and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in every C library
        if mallopt is not None:
            mallopt(-3, 1 << 20)  # M_MMAP_THRESHOLD, in bytes


def _enable_gpu_features_on_cpu(accelerator: Accelerator, mixed_precision: str) -> None:
    """Make DeepSpeed, FSDP2 and fp16 with loss scaling, which Accelerate allows on GPUs only, run on a CPU.

    They are slow there, but a laptop and the tests can run the code that will run on a cluster.
    """
    state = accelerator.state
    if launcher_uses("DEEPSPEED") and accelerator.num_processes > 1:
        deepspeed_zero.start_on_cpu(accelerator)
    if mixed_precision == "fp16":
        state._mixed_precision = "fp16"
        accelerator.native_amp = True
        accelerator.scaler = torch.amp.GradScaler("cpu")
    if launcher_uses("FSDP") and accelerator.num_processes > 1:
        state.fsdp_plugin = FullyShardedDataParallelPlugin()  # configured by the launch file's environment variables
        if state.fsdp_plugin.fsdp_version != 2:
            raise UserError("the launch file uses FSDP 1. Set fsdp_version: 2, as in launch/fsdp2.yaml.")
        if mixed_precision != "no":
            state.fsdp_plugin.set_mixed_precision(mixed_precision)
        state.distributed_type = DistributedType.FSDP
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


def precision_of(accelerator: Accelerator) -> str:
    """The precision that this process computes in: fp32, bf16 or fp16."""
    mixed_precision = accelerator.mixed_precision  # not set with DeepSpeed, hence the attribute of start_process
    return str(getattr(accelerator, "resolved_precision", "fp32" if mixed_precision == "no" else mixed_precision))


def compute_dtype(accelerator: Accelerator) -> torch.dtype:
    """The dtype that this process computes in."""
    return COMPUTE_DTYPES[precision_of(accelerator)]


def describe_launch(accelerator: Accelerator, requested: str) -> str:
    """The processes and their precision, given ``--precision``: "2 processes in fp32"."""
    return f"{describe_processes(accelerator)} in {describe_precision(accelerator, requested)}"


def describe_processes(accelerator: Accelerator) -> str:
    """The number of processes, such as "1 process" or "8 processes"."""
    number = accelerator.num_processes
    return f"{number} process" if number == 1 else f"{number} processes"


def describe_precision(accelerator: Accelerator, requested: str) -> str:
    """A description of the precision, given ``--precision``, with a hint if another one is faster."""
    return describe(precision_of(accelerator), requested, accelerator.device.type)


def _hide_progress_bars() -> None:
    # The libraries' progress bars show work of milliseconds, and clutter logs.
    from transformers.utils import logging

    logging.disable_progress_bar()
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"  # importing datasets just to set this would take a second
