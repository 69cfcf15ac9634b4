"""A run on two machines: as two launches on one host, and on two hosts with addresses of their own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from running import LIGHT, ROOT, curve, read_lines, same_numbers, tree

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def launch_on_both(
    text_file: Path, directory: Path, port: int, *, address: str, inside: Sequence[Sequence[str]], **environment: str
) -> None:
    """Start the recipe on both machines, and wait for both.

    ``inside`` has, for each machine, the words that run a command there when they precede it.
    """
    accelerate = Path(sys.executable).with_name("accelerate")
    command = [accelerate, "launch", "--config_file", ROOT / "launch" / "multi_node.yaml", "--num_processes", 2]
    command += ["--main_process_ip", address, "--main_process_port", port, "--machine_rank"]
    script = [ROOT / "recipes" / "finetune.py", *LIGHT, "--data", text_file, "--run-dir", directory]
    machines = [
        subprocess.Popen(
            [str(part) for part in (*there, *command, rank, *script)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | environment,
        )
        for rank, there in enumerate(inside)
    ]  # fmt: skip
    said = [machine.communicate(timeout=300)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    assert json.loads((directory / "environment.json").read_text())["processes"] == 2


def test_two_launches_are_one_run(text_file, tmp_path, plain):
    launch_on_both(text_file, tmp_path / "run", free_port(), address="127.0.0.1", inside=[[], []])
    same_numbers(curve(tmp_path / "run"), curve(plain), 1e-5)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two network namespaces, connected to each other and to nothing else: 10.77.0.1 and 10.77.0.2."""
    tag = uuid.uuid4().hex[:6]
    names = [f"textgen-{tag}-{i}" for i in (0, 1)]
    cards = [f"tg{tag}{i}" for i in (0, 1)]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", cards[0], "type", "veth", "peer", "name", cards[1])
        for i, (name, card) in enumerate(zip(names, cards, strict=True)):
            ip("link", "set", card, "netns", name)
            ip("-n", name, "link", "set", card, "name", "cable")
            ip("-n", name, "addr", "add", f"10.77.0.{i + 1}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="network namespaces need the superuser and iproute2"
)
def test_two_hosts_are_one_run(text_file, tmp_path, plain, hosts):
    inside = [["ip", "netns", "exec", name] for name in hosts]
    launch_on_both(text_file, tmp_path / "run", 29500, address="10.77.0.1", inside=inside, GLOO_SOCKET_IFNAME="cable")
    same_numbers(curve(tmp_path / "run"), curve(plain), 1e-5)


@pytest.mark.exhaustive  # torchrun waits half a minute for another machine to come
@pytest.mark.parametrize("what", ["machine", "launcher"])
def test_with_elastic_launchers_a_run_goes_on_with_fewer_machines(text_file, tmp_path, run_recipe, what):
    """Another machine, or its launcher only, is killed; the other one goes on to the same bytes."""
    flags = [*LIGHT, "--steps", "60", "--checkpoint-every", "4", "--exact", "--data", str(text_file)]
    torchrun = [str(Path(sys.executable).with_name("torchrun")), "--nnodes", "1:2", "--nproc_per_node", "1"]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--max-restarts", "3"]
    command = [*torchrun, str(ROOT / "recipes" / "finetune.py"), *flags, "--run-dir", str(tmp_path / "run")]
    environment = os.environ | {"TEXTGEN_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}

    def start(name: str) -> subprocess.Popen[bytes]:
        with (tmp_path / name).open("wb") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )

    first = start("first.log")  # it has the store in which they meet
    time.sleep(5)
    second = start("second.log")
    deadline = time.monotonic() + 120
    while not (record := tmp_path / "run" / "metrics.jsonl").exists() or len(read_lines(record)) < 12:
        assert first.poll() is None, (tmp_path / "first.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(second.pid, signal.SIGKILL) if what == "machine" else second.kill()
    second.wait()
    assert first.wait(timeout=200) == 0, (tmp_path / "first.log").read_text()
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["processes"] == 1
    run_recipe("finetune", *flags, "--run-dir", tmp_path / "whole")
    assert tree(tmp_path / "run" / "model") == tree(tmp_path / "whole" / "model")
    assert record.read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
