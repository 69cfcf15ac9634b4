"""Runs Python scripts in processes that fork from a server, which has imported the heavy libraries already.

Importing torch and other libraries takes five seconds of CPU time per script, and the test itself usually one. The
server imports them once and computes nothing. For each script it forks, and the child runs the script as `python
script.py arguments` would: with a command line, environment, working directory, standard streams, exit code and process
id of its own. Several ranks get the variables that torchrun sets.

    with Prefork() as python:
        ended = python.run(["recipes/finetune.py", "--help"], cwd=…, env=…, processes=2)

It does not cover how a process starts: the launcher, the memory allocator, the order of imports. Tests of those start
real processes.
"""

import atexit
import contextlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Imports of the recipes, except libraries that read the environment when imported (DeepSpeed, bitsandbytes, wandb).
LIBRARIES = ("torch", "torch.distributed.fsdp", "torch.optim", "transformers", "transformers.models.gpt2", "accelerate")
LIBRARIES += ("peft", "datasets", "tyro", "rich.console", "matplotlib.figure", "matplotlib.backends.backend_agg")
LIBRARIES += ("jinja2", "huggingface_hub", "safetensors.torch", "yaml", "filelock", "psutil")
_GRACE = 30.0  # seconds from SIGTERM to SIGKILL, as torchrun has it


@dataclass(frozen=True)
class Ended:
    """The result of a script: exit code, standard output and standard error, of all ranks together."""

    code: int
    out: str
    error: str


@dataclass(frozen=True)
class Strike:
    """A signal to send to a script while it runs.

    Attributes:
        signal: its number.
        rank: the process that gets it; None: all.
        file: a file that must have some lines first; empty: none.
        lines: that number of lines.
        seconds: time to wait then.
        again: time after which the same signal is sent once more; None: never.
    """

    signal: int
    rank: int | None = None
    file: str = ""
    lines: int = 0
    seconds: float = 0.0
    again: float | None = None


class Prefork:
    """The client of the server, which is started by the first :meth:`run`."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Prefork":
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            assert self._server.stdin is not None
            self._server.stdin.close()
            self._server.wait(timeout=30)

    def run(
        self,
        argv: Sequence[object],
        *,
        processes: int | None = None,
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 600,
        check: bool = False,
        strike: Strike | None = None,
    ) -> Ended:
        """Run a script to its end.

        Args:
            argv: the script and its arguments.
            processes: number of ranks, with torchrun's variables; the exit code is then 1 if any of them failed. None
                starts one process without these variables.
            cwd: working directory.
            env: the whole environment.
            timeout: seconds after which all ranks are killed, and the code is that of SIGKILL.
            check: raise AssertionError with the output if it fails.
            strike: a signal to send meanwhile.
        """
        if self._server is None:
            command = [sys.executable, "-u", __file__]
            self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with tempfile.TemporaryDirectory() as scratch:
            request = {
                "argv": [str(word) for word in argv],
                "ranks": processes,
                "cwd": str(cwd or Path.cwd()),
                "env": dict(os.environ if env is None else env),
                "timeout": timeout,
                "strike": asdict(strike) if strike else None,
                "streams": scratch,
            }
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            codes = json.loads(self._server.stdout.readline())
            out, error = (
                "".join(path.read_text(errors="replace") for path in sorted(Path(scratch).glob(f"*.{stream}")))
                for stream in ("out", "err")
            )
        code = codes[0] if processes is None else int(any(codes))
        assert not check or code == 0, out + error
        return Ended(code, out, error)


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries must not be taken for an answer
    for library in LIBRARIES:
        __import__(library)
    for line in sys.stdin:
        answers.write(json.dumps(_run_all(json.loads(line))) + "\n")
        answers.flush()


def _run_all(request: dict[str, Any]) -> list[int]:
    """Exit codes of all ranks; once one has failed, the others get SIGTERM and then SIGKILL, as from torchrun."""
    ranks = request["ranks"] or 1
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    children: dict[int, int] = {}
    for rank in range(ranks):
        pid = os.fork()
        if pid == 0:
            _become(request, rank, port)
        children[pid] = rank
    codes, deadline = [0] * ranks, time.monotonic() + request["timeout"]
    strikes = _strikes(Strike(**request["strike"]), children) if request["strike"] else iter(())
    while children:
        next(strikes, None)
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            if time.monotonic() > deadline:
                for child in children:
                    os.kill(child, signal.SIGKILL)
            time.sleep(0.005)
        elif pid in children:
            codes[children.pop(pid)] = code = os.waitstatus_to_exitcode(status)
            if code:
                deadline = min(deadline, time.monotonic() + _GRACE)
                for child in children:
                    os.kill(child, signal.SIGTERM)
    return codes


def _strikes(strike: Strike, children: Mapping[int, int]) -> Iterator[None]:
    """Sends the signals; to be advanced now and then."""
    while strike.file and not (
        os.path.exists(strike.file) and Path(strike.file).read_bytes().count(b"\n") >= strike.lines
    ):
        yield
    for wait in (strike.seconds, *([] if strike.again is None else [strike.again])):
        start = time.monotonic()
        while time.monotonic() - start < wait:
            yield
        for child, rank in children.items():
            if strike.rank in (None, rank):
                os.kill(child, strike.signal)


def _become(request: dict[str, Any], rank: int, port: int) -> None:
    """Turn this forked process into one that runs the script; does not return."""
    code = 1
    try:
        for number in (signal.SIGHUP, signal.SIGINT):  # ignored if the tests run under nohup or in the background
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        sys.stdin.close()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for stream, descriptor in (("out", 1), ("err", 2)):
            path = Path(request["streams"], f"{rank:03}.{stream}")
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(fd, mode) for fd, mode in ((0, "r"), (1, "w"), (2, "w")))
        os.environ.clear()
        os.environ |= request["env"]
        if request["ranks"]:
            size = str(request["ranks"])
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.chdir(request["cwd"])
        sys.argv = request["argv"]
        sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
