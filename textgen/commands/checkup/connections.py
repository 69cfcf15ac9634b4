"""Connections: between processes, to Weights & Biases, and to the hub."""

import os
import socket
import subprocess
import sys
from typing import Any

from textgen.commands.checkup.finding import Finding
from textgen.hub import hub_address, is_offline, unreachable_host

_SECONDS = 60  # for processes to start and to exchange a number


def check_processes() -> list[Finding]:
    """Whether processes of this machine can exchange numbers: two with gloo and, with several GPUs, one a GPU."""
    import torch

    findings = [_exchange("gloo", 2)]
    if torch.cuda.is_available() and torch.cuda.device_count() > 1:
        findings.append(_exchange("nccl", torch.cuda.device_count()))
    return findings


def _exchange(backend: str, processes: int) -> Finding:
    port = _free_port()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", "from textgen.commands.checkup.connections import exchange; exchange()", backend],
            env=os.environ | _place(rank, processes, port), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace",
        )
        for rank in range(processes)
    ]  # fmt: skip
    said = []
    try:
        for process in started:
            said.append(process.communicate(timeout=_SECONDS)[0])
    except subprocess.TimeoutExpired:
        said.append(f"nothing after {_SECONDS} s")
    finally:
        for process in started:
            process.kill()
            process.wait()
    if all(process.returncode == 0 for process in started):
        return Finding("ok", f"{processes} processes exchange numbers with {backend}")
    last = next((text.strip().splitlines()[-1] for text in reversed(said) if text.strip()), "they ended")
    mend = "Let them connect to 127.0.0.1 (firewall?)"
    if backend == "gloo":
        mend += ", or set GLOO_SOCKET_IFNAME to a network interface that works, such as lo."
    else:
        mend += ", and run with NCCL_DEBUG=INFO to see which GPU or link fails."
    return Finding("fault", f"{processes} processes cannot exchange numbers with {backend}: {last}", mend)


def _place(rank: int, processes: int, port: int) -> dict[str, str]:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    return {name: str(value) for name, value in names.items()} | {"MASTER_ADDR": "127.0.0.1"}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def exchange() -> None:
    """One of the processes: sum the ranks over all of them, and fail if the sum is wrong."""
    from datetime import timedelta

    import torch
    import torch.distributed as dist

    backend, rank, processes = sys.argv[1], int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = torch.device("cpu")
    if backend == "nccl":
        device = torch.device("cuda", rank)
        torch.cuda.set_device(device)
    dist.init_process_group(backend, timeout=timedelta(seconds=_SECONDS / 2))
    total = torch.tensor(float(rank), device=device)
    dist.all_reduce(total)
    right = total.item() == sum(range(processes))
    sys.stdout.flush()
    os._exit(0 if right else 1)  # at once: on the usual way out, gloo's threads can hang


def check_wandb() -> list[Finding]:
    """Whether a run would be tracked online: a key, and a server that can be reached."""
    try:
        import wandb
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        return [Finding("note", f"wandb cannot be imported: {lines[0]}", "pip install wandb, or use --track none.")]
    offline = "runs are tracked offline"
    mode = os.environ.get("WANDB_MODE", "").lower()
    if mode in ("offline", "disabled", "dryrun"):
        return [Finding("ok", f"{offline if mode != 'disabled' else 'runs are not tracked'} (WANDB_MODE={mode})")]
    wandb.setup(settings=wandb.Settings(silent=True, quiet=True))
    server = str(_settings(wandb).base_url)
    try:
        has_key = bool(wandb.login(prompt=False, verify=False))
    except Exception as error:
        return [Finding("note", f"{offline}: {error}", "`wandb login --relogin` stores another key.")]
    if not has_key:
        mend = "`wandb login` stores one; `wandb sync` and `textgen replay` upload runs later."
        return [Finding("note", f"no key, so {offline}", mend)]
    if host := unreachable_host(server):
        mend = "Check the network, or WANDB_BASE_URL; `textgen replay` uploads runs later."
        return [Finding("note", f"{host} cannot be reached, so {offline}", mend)]
    return [Finding("ok", f"a key is stored, and {server} can be reached")]


def _settings(wandb: Any) -> Any:
    return wandb.setup().settings


def check_hub() -> list[Finding]:
    """Whether models and datasets can be downloaded."""
    if is_offline():
        return [Finding("note", "HF_HUB_OFFLINE is set: only what was downloaded before is found", "Unset it.")]
    if host := unreachable_host(hub_address()):
        mend = "Check the network or HF_ENDPOINT, or name local paths: --model and --data take directories."
        return [Finding("note", f"{host} cannot be reached: only what was downloaded before is found", mend)]
    return [Finding("ok", f"{hub_address()} can be reached")]
