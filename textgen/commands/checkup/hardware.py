"""Devices, precision, threads, and the memory allocator."""

import logging
import os
import sys
from pathlib import Path

from textgen.commands.checkup.finding import Finding
from textgen.disk import in_words
from textgen.run.allocator import preload_variables

_DRIVERS = {"/dev/nvidiactl": "NVIDIA", "/dev/kfd": "AMD"}  # a device file of the driver → the maker of the GPU
_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of CPU time in a period


def check_devices() -> list[Finding]:
    """The GPUs that torch sees, and the precision that ``--precision auto`` is on them."""
    import torch

    from textgen.training.precision import describe, resolve_precision

    if torch.cuda.is_available():
        precision = resolve_precision("auto", "cuda")
        findings = []
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            findings.append(Finding("ok", f"{device.name}, {in_words(device.total_memory)}, {precision}"))
        return findings
    on_cpu = describe(resolve_precision("auto", "cpu"), "auto", "cpu")
    makers = [maker for path, maker in _DRIVERS.items() if Path(path).exists()]
    if makers:
        mend = "Install the torch build for this driver: https://pytorch.org/get-started/locally"
        return [Finding("fault", f"torch {torch.__version__} cannot use the {makers[0]} GPU of this machine", mend)]
    return [Finding("ok", f"no GPU; a CPU, in {on_cpu}")]


def check_quantization() -> list[Finding]:
    """Whether bitsandbytes, which ``--method qlora`` needs, can be imported."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it says what it would like to have, too
    try:
        import bitsandbytes
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        return [Finding("note", f"bitsandbytes cannot be imported: {lines[0]}", "--method qlora needs it.")]
    return [Finding("ok", f"bitsandbytes {bitsandbytes.__version__}, for --method qlora")]


def check_threads() -> list[Finding]:
    """The cores that a run would use, and whether a container grants as much."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = cpu_quota(_QUOTA.read_text(encoding="ascii")) if _QUOTA.is_file() else None
    if granted is not None and granted < cores:
        number = max(1, int(granted))
        return [
            Finding(
                "note", f"{cores} cores, but this container gets the time of {granted:g}", f"Use --threads {number}."
            )
        ]
    return [Finding("ok", f"{cores} {'core' if cores == 1 else 'cores'}, which the processes of a run share evenly")]


def cpu_quota(text: str) -> float | None:
    """The number of cores in the contents of a control group's ``cpu.max``; None if there is no limit."""
    words = text.split()
    if len(words) != 2 or words[0] == "max":
        return None
    return int(words[0]) / int(words[1])


def check_allocator() -> list[Finding]:
    """The memory allocator that a recipe would start with."""
    if sys.platform != "linux" or any(Path(path).exists() for path in _DRIVERS):
        return [Finding("ok", "that of the system")]
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    found = os.environ.get("LD_PRELOAD") or preload_variables(environment).get("LD_PRELOAD")
    if not found:
        mend = "pip install cmeel-mimalloc: a training step on a CPU takes 0.7 to 0.9 of the time with it."
        return [Finding("note", "that of the system, which is slow here", mend)]
    return [Finding("ok", Path(found).name)]
