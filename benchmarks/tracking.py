"""What Weights & Biases costs a run, with a server that works, fails or dies.

    python benchmarks/tracking.py --only rows --trackers tensorboard trackio mlflow
    python benchmarks/tracking.py --only runs --rounds 5

Rows: what the tracker alone costs, in CPU time of this process and of W&B's own: once, for its start, and for each row,
sent 20 times a second; and how long a call keeps the caller. The same for other trackers, which need no server. Runs:
the bundled model is fine-tuned on the bundled text, with a row of metrics in every step, ten times as many as by
default. Runs take turns; training is timed from step 21, without W&B's start, to the last row, and the ending is how
long a run waits for W&B after that (at most 5 s here).
Ratios to a run with `--track none` are those of the medians, with the range over rounds in brackets.

The server is the stub of the tests, in a process of its own.
"""

import argparse
import contextlib
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "finetune.py"
STUB = ROOT / "tests/reporting/tracking/wandb_stub.py"
FLAGS = "--skip-decoding --evaluation-tokens 1000 --evaluate-every 0 --checkpoint-every 0 --log-every 1 --threads 1"
ROW = {"train/loss": 2.5, "train/learning_rate": 1e-3, "train/grad_norm": 0.5, "train/tokens": 4096}
ROW |= {"system/tokens_per_second": 900.0, "system/seconds_per_step": 0.5, "system/peak_memory_bytes": 1e9}
ROW |= {"system/evaluation_share": 0.1, "system/saving_share": 0.01}
FIRST = 21  # step from which training is timed: W&B has started by then, unless its server does not answer
SERVERS: dict[str, list[str] | None] = {
    "works": [],
    "refuses": None,
    "answers 500": ["--fail", ""],
    "hangs": ["--hang", ""],
    "answers 500 to rows": ["--fail", "file_stream"],
    "hangs on rows": ["--hang", "file_stream"],
    "dies in mid-run": ["--die-after", "20"],
}


def cpu_seconds() -> float:
    """CPU time of this process and of its children."""
    import psutil

    children = [child.cpu_times() for child in psutil.Process().children()]
    return time.process_time() + sum(times.user + times.system for times in children)


def timed_rows(rows: int, tracker: str) -> None:
    """Send rows to the tracker in this process, and print what its start, the rows and the ending took."""
    from textgen.reporting.config import TrackingConfig
    from textgen.reporting.tracking.rows import TrackedRun
    from textgen.reporting.tracking.tracker import start_mirrors

    with tempfile.TemporaryDirectory() as folder:
        start = cpu_seconds()
        config = TrackingConfig(track=tracker, wandb_project="p", wandb_mode="online", wandb_timeout=5)
        [mirror] = start_mirrors(TrackedRun(Path(folder) / "run", {}, {}, "abc"), config, lambda line: None)
        while not mirror.has_started:
            time.sleep(0.1)
        time.sleep(5)  # until the service is idle
        began, calls = cpu_seconds(), []
        for step in range(rows):
            time.sleep(0.05)
            called = time.perf_counter()
            mirror.log({"step": step, **ROW})
            calls.append(time.perf_counter() - called)
        time.sleep(5)
        cpu = cpu_seconds() - began
        ending = time.perf_counter()
        mirror._end({"state": "done", "exit_code": 0}, 5)
        found = {"start": began - start, "row": cpu / rows, "call": statistics.median(calls), "longest": max(calls)}
        print(json.dumps(found | {"ending": time.perf_counter() - ending}), flush=True)
        os._exit(0)


def timed_run(flags: list[str]) -> None:
    """Run the recipe in this process, and print what training and the ending took."""
    import textgen.training.step as step
    from textgen.reporting.run_log import RunLog

    training_step, log, finish = step.training_step, RunLog.log, RunLog.finish
    began: dict[str, float] = {}
    last: dict[str, float] = {}

    def clocks() -> dict[str, float]:
        return {"seconds": time.perf_counter(), "cpu": cpu_seconds()}

    def first_step(*args: Any, **kwargs: Any) -> Any:
        if kwargs["step"] == FIRST:
            began.update(clocks())
        return training_step(*args, **kwargs)

    def last_row(self: RunLog, row: Any) -> None:
        log(self, row)
        last.update(clocks() if row["step"] == self.total_steps else {})

    def timed_finish(self: RunLog) -> None:
        tracker = self._tracker
        end = tracker.finish
        waited = {}

        def wait(run_dir: Path) -> None:
            start = time.perf_counter()
            end(run_dir)
            waited["ending"] = time.perf_counter() - start

        tracker.finish = wait  # type: ignore[method-assign]
        finish(self)
        print(json.dumps({name: last[name] - began[name] for name in began} | waited), flush=True)

    step.training_step, RunLog.log, RunLog.finish = first_step, last_row, timed_finish  # type: ignore[method-assign]
    sys.argv = [str(RECIPE), *flags]
    runpy.run_path(str(RECIPE), run_name="__main__")


@contextlib.contextmanager
def server(options: list[str] | None) -> Iterator[str]:
    """The address of a server; with None, of one that refuses connections."""
    if options is None:
        yield "http://127.0.0.1:9"
        return
    with subprocess.Popen([sys.executable, str(STUB), *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        with contextlib.suppress(BrokenPipeError):
            subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)  # a full pipe would stop it
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def measure(server_name: str, work: list[str]) -> dict[str, float]:
    """Run this script again, on ``work`` with a server of that name; what it printed last."""
    with tempfile.TemporaryDirectory() as home, server(SERVERS.get(server_name)) as address:
        environment = os.environ | {"WANDB_BASE_URL": address, "WANDB_API_KEY": "a" * 40, "HOME": home}
        environment |= {"TEXTGEN_CACHE": str(Path(tempfile.gettempdir()) / "textgen-benchmark-tracking")}
        command = [sys.executable, __file__, *work]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads([line for line in done.stdout.splitlines() if line.startswith('{"')][-1])
    return found


def measure_run(name: str, steps: int) -> dict[str, float]:
    tracking = ["--track", "none"] if name == "none" else ["--wandb-mode", "online", "--wandb-timeout", "5"]
    with tempfile.TemporaryDirectory() as folder:
        return measure(name, ["--run", *FLAGS.split(), "--steps", str(steps), "--run-dir", f"{folder}/run", *tracking])


def print_rows(names: list[str], trackers: list[str], rows: int) -> None:
    print("| server | start, CPU s | a row, CPU ms | a call, median | the longest call | waited at the end |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in (*names, *trackers):
        tracker = ["--tracker", name] if name in trackers else []
        found = measure(name, ["--rows", str(rows), *tracker])
        call, longest = (f"{1000 * found[key]:.3f} ms" for key in ("call", "longest"))
        print(
            f"| {name} | {found['start']:.1f} | {1000 * found['row']:.2f} | {call} | {longest} "
            f"| {found['ending']:.1f} s |",
            flush=True,
        )


def ratio(found: list[dict[str, float]], baseline: list[dict[str, float]], clock: str) -> str:
    base = statistics.median(one[clock] for one in baseline)
    ratios = sorted(one[clock] / base for one in found)
    return f"{statistics.median(ratios):.3f} ({ratios[0]:.3f}–{ratios[-1]:.3f})"


def print_runs(names: list[str], steps: int, rounds: int) -> None:
    names = ["none", *names]
    measure_run("none", FIRST)  # the tokens are cached for all rounds
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            found[name].append(measure_run(name, steps))
            print(name, found[name][-1], file=sys.stderr, flush=True)
    print(
        "| server | training, s | ratio to `--track none` | CPU time, ratio | the most that it waited at the end, s |"
    )
    print("| --- | --- | --- | --- | --- |")
    for name in names:
        seconds = statistics.median(one["seconds"] for one in found[name])
        waited = max(one.get("ending", 0.0) for one in found[name])
        ratios = [ratio(found[name], found["none"], clock) for clock in ("seconds", "cpu")]
        print(f"| {name} | {seconds:.1f} | {' | '.join(ratios)} | {waited:.1f} |")


def main() -> None:
    if "--run" in sys.argv:
        timed_run(sys.argv[sys.argv.index("--run") + 1 :])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("rows", "runs"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--servers", nargs="*", default=list(SERVERS), choices=list(SERVERS))
    parser.add_argument("--trackers", nargs="*", default=[], choices=("tensorboard", "trackio", "mlflow"))
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--tracker", default="wandb", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rows:
        timed_rows(arguments.rows, arguments.tracker)
    if arguments.only != "runs":
        print_rows(arguments.servers, arguments.trackers, 600)
    if arguments.only != "rows":
        print_runs(arguments.servers, arguments.steps, arguments.rounds)


if __name__ == "__main__":
    main()
