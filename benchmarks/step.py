"""Time and memory of a training step of GPT-2 124M (random weights), compared with Accelerate, Trainer and TRL.

    python benchmarks/step.py                     # full and LoRA, five rounds
    python benchmarks/step.py --install-peers     # first: TRL and the rest, in an environment of their own
    python benchmarks/step.py --precision bf16    # all of them in mixed precision

Contestants are processes that stay alive and take one optimizer step at a time, in turn, on the same tokens; nothing
else computes while one is timed. They run in groups that fit into memory together, with textgen in each, and are
compared within their group. All use the same precision, two rows of 512 tokens per step, AdamW, and clipping at 1. The
tables have medians over rounds, and ratios of medians. "share" is the fraction of the machine's matrix-multiply speed,
measured in every round in the same precision, that a step reaches: its floating-point operations (6 per parameter and
token, or 4 where weights are frozen, plus attention's), divided by its seconds and that speed.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from models import SHAPES, make_model

from textgen.run.allocator import preload_variables

HERE = Path(__file__).parent
PEERS = HERE / ".peers" / "bin" / "python"
IN_OWN_ENVIRONMENT = ("plain", "plain, no dropout", "textgen", "matmul")
GROUPS = (("plain", "plain, no dropout", "SFTTrainer"), ("textgen 2 x 1", "Trainer"))


class Contestant:
    """One loop, in one process or, for "textgen 2 x 1", in two of one thread each."""

    def __init__(self, name: str, model: Path, options: argparse.Namespace, method: str, levers: str = "") -> None:
        self.name, self.seconds, self.losses, self.peak = name, [], [], 0
        kind = "textgen" if name.startswith("textgen") else name
        python = sys.executable if kind in IN_OWN_ENVIRONMENT else options.peers_python
        processes = 2 if name == "textgen 2 x 1" else 1
        command = [str(python), str(HERE / "contestants.py"), kind, "--model", str(model)]
        command += ["--scratch", str(model.parent / "scratch"), "--method", method, "--rows", str(options.rows)]
        command += ["--tokens", str(options.tokens), "--threads", str(max(1, options.threads // processes))]
        command += ["--precision", options.precision, *(["--levers=" + levers] if levers else [])]
        command += ["--vocabulary", str(SHAPES[options.shape].get("vocab_size", 50257))]
        # Waiting threads must not use the cores of the process that is measured.
        environment = os.environ | {"OMP_WAIT_POLICY": "passive", "PYTHONPATH": str(HERE.parent), "HF_HUB_OFFLINE": "1"}
        environment |= preload_variables(environment) if kind == "textgen" else {}  # as the recipes do by themselves
        self.processes = []
        port = _free_port()
        for rank in range(processes):
            if processes > 1:
                environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
                environment |= {"LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            with (model.parent / f"{name}-{rank}.log").open("w", encoding="utf-8") as log:
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
                )
            self.processes.append(process)
        for process in self.processes:
            assert self._answer(process)["ready"]

    def step(self) -> dict[str, Any]:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("step\n")
            process.stdin.flush()
        answers = [self._answer(process) for process in self.processes]
        self.peak = sum(answer["peak_bytes"] for answer in answers)
        self.losses.append(answers[0]["loss"])
        return answers[0]

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def _answer(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended with {process.wait()}; see its log in the directory named above")
        return json.loads(line)


def _free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def operations(shape: str, method: str, rows: int, tokens: int) -> float:
    """Floating-point operations of a step's matrix multiplications.

    Per parameter and token: 2 in the forward pass, 2 for gradients of activations, 2 for those of weights (Kaplan et
    al., arXiv 2001.08361, section 2.1). Causal attention has two more multiplications, over half the length on average.
    """
    size = {"n_embd": 768, "n_layer": 12, "vocab_size": 50257} | SHAPES[shape]
    width, layers = size["n_embd"], size["n_layer"]
    parameters = 12 * layers * width**2 + size["vocab_size"] * width
    attention = 3 * layers * 4 * width * tokens / 2
    return rows * tokens * ((6 if method == "full" else 4) * parameters + attention)


def measure(method: str, options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """The results of one method: textgen's over all groups, and the others' relative to textgen's in their group."""
    model = make_model(directory, options.shape)
    groups = [[name for name in group if name in options.contestants] for group in GROUPS]
    measured = [run_group(["textgen", *group, "matmul"], method, model, options) for group in groups if group]
    speed = statistics.median(s for group in measured for s in group["matmul"].losses[1:])
    work = operations(options.shape, method, options.rows, options.tokens)

    def results(seconds: list[float], peak: int, beside: Contestant) -> dict[str, Any]:
        rates = sorted(options.rows * options.tokens / s for s in seconds)
        return {
            "tokens_per_second": statistics.median(rates),
            "range": [rates[0], rates[-1]],
            "peak_gb": peak / 1e9,
            "share": work / statistics.median(seconds) / 1e9 / speed,
            "textgen_speed_ratio": statistics.median(seconds) / statistics.median(beside.seconds),
            "textgen_memory_ratio": beside.peak / peak,
        }

    own = [group["textgen"] for group in measured]
    rows = {"textgen": results([s for o in own for s in o.seconds], max(o.peak for o in own), own[0])}
    for group in measured:
        others = {name: c for name, c in group.items() if name not in ("textgen", "matmul")}
        rows |= {name: results(c.seconds, c.peak, group["textgen"]) for name, c in others.items()}
    return {"matmul_gflops": speed, "rounds": options.rounds, "contestants": rows}


def run_group(names: list[str], method: str, model: Path, options: argparse.Namespace) -> dict[str, Contestant]:
    """Run contestants together: after a warm-up step each, one step each per round."""
    contestants = {name: Contestant(name, model, options, method) for name in names}
    try:
        for round_number in range(options.rounds + 1):
            for name, contestant in contestants.items():
                answer = contestant.step()
                if round_number:
                    contestant.seconds.append(answer["seconds"])
                print(f"{method} round {round_number} {name}: {answer}", file=sys.stderr, flush=True)
    finally:
        for contestant in contestants.values():
            contestant.stop()
    check_losses({name: c.losses for name, c in contestants.items()}, 1e-4 if options.precision == "fp32" else 1e-3)
    return contestants


def check_losses(losses: dict[str, list[float]], tolerance: float) -> None:
    """Check that the contestants without dropout have the same losses."""
    alike = [losses[name] for name in ("textgen", "plain, no dropout", "textgen 2 x 1") if name in losses]
    for one in alike[1:]:
        for a, b in zip(alike[0], one, strict=True):
            assert abs(a - b) <= tolerance * abs(a), f"the losses differ: {alike}"


def table(method: str, result: dict[str, Any]) -> str:
    lines = [
        f"| {method} | tokens/s (range) | peak memory | share of {result['matmul_gflops']:.0f} GFLOP/s | textgen is |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in result["contestants"].items():
        low, high = row["range"]
        faster, memory = row["textgen_speed_ratio"], row["textgen_memory_ratio"]
        versus = "" if name == "textgen" else f"{faster:.2f}× as fast, {memory:.2f}× the memory"
        lines.append(
            f"| {name} | {row['tokens_per_second']:.0f} ({low:.0f}–{high:.0f}) | {row['peak_gb']:.2f} GB "
            f"| {row['share']:.2f} | {versus} |"
        )
    return "\n".join(lines)


def install_peers() -> None:
    subprocess.run([sys.executable, "-m", "venv", str(HERE / ".peers")], check=True)
    pip = [str(PEERS), "-m", "pip", "install", "--quiet", "-r", str(HERE / "peers" / "requirements.txt")]
    subprocess.run(pip, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["textgen", "textgen 2 x 1", "plain", "plain, no dropout", "Trainer", "SFTTrainer"]
    parser.add_argument("--install-peers", action="store_true", help="only create the environment of the other tools")
    parser.add_argument("--method", choices=["full", "lora", "both"], default="both")
    parser.add_argument("--contestants", type=lambda text: text.split(";"), default=names, help="separated by ;")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--shape", choices=SHAPES, default="124m")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--peers-python", type=Path, default=PEERS)
    parser.add_argument("--output", type=Path, help="also write everything measured to this JSON file")
    options = parser.parse_args()
    if options.install_peers:
        install_peers()
        return
    needs_peers = [name for name in options.contestants if name in ("Trainer", "SFTTrainer")]
    if needs_peers and not options.peers_python.exists():
        parser.error(f"{', '.join(needs_peers)}: run with --install-peers first, or leave them out of --contestants")
    results = {}
    with tempfile.TemporaryDirectory(prefix="textgen-benchmark-") as scratch:
        print(f"logs are in {scratch}", file=sys.stderr)
        for method in ["full", "lora"] if options.method == "both" else [options.method]:
            (Path(scratch) / method).mkdir()
            results[method] = measure(method, options, Path(scratch) / method)
            print(table(method, results[method]) + "\n", flush=True)
    if options.output:
        options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
