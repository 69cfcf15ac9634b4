"""Time and memory of a training step of GPT-2 124M (random weights), with one memory option at a time.

    python benchmarks/levers.py            # a table, in about 15 minutes on two cores
    python benchmarks/levers.py --shape tiny --steps 1 --rows 2 --tokens 64

Each row is a separate process, whose peak resident memory (on a GPU: allocated memory) is read after some steps. It
takes its steps in turn with the first row of the same number of threads, which stays alive: seconds are medians, and
ratios are between medians of the same minutes.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from models import SHAPES, make_model
from step import PEERS, Contestant

# Name, method, flags of recipes/finetune.py, threads (0: all).
LEVERS = (
    ("full", "full", "", 0),
    ("full, microbatches of 1 row", "full", "--microbatch-size 1", 0),
    ("full, --gradient-checkpointing", "full", "--gradient-checkpointing", 0),
    ("full, --optimizer adamw8bit", "full", "--optimizer adamw8bit", 0),
    ("full, --dropout 0.1 --attention-dropout 0.1", "full", "--dropout 0.1 --attention-dropout 0.1", 0),
    ("full, --dropout 0.1", "full", "--dropout 0.1", 0),
    ("full, --precision bf16", "full", "--precision bf16", 0),
    ("LoRA", "lora", "", 0),
    ("LoRA, --gradient-checkpointing", "lora", "--gradient-checkpointing", 0),
    ("LoRA, --precision bf16", "lora", "--precision bf16", 0),
    ("QLoRA, 8 bits", "qlora", "--qlora-bits 8", 0),
    ("QLoRA, 4 bits", "qlora", "--qlora-bits 4", 0),
    ("full, 1 thread, microbatches of 1 row", "full", "--microbatch-size 1", 1),
    ("the same, --exact", "full", "--microbatch-size 1 --exact", 1),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5, help="steps to measure, after one to warm up")
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shape", choices=SHAPES, default="124m")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    options.peers_python, options.precision = PEERS, "fp32"
    all_threads = options.threads
    baselines: dict[int, Contestant] = {}
    print("| | seconds per step | ratio | peak memory | ratio |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="textgen-levers-") as scratch:
        model = make_model(Path(scratch), options.shape)
        try:
            for name, method, flags, threads in LEVERS:
                if options.only in name:
                    options.threads = threads or all_threads
                    contestant = Contestant("textgen", model, options, method, flags)
                    baseline = baselines.setdefault(threads, contestant)
                    print(row(name, contestant, baseline, options.steps), flush=True)
                    if contestant is not baseline:
                        contestant.stop()
        finally:
            for baseline in baselines.values():
                baseline.stop()


def row(name: str, contestant: Contestant, baseline: Contestant, steps: int) -> str:
    """The row of a contestant, which takes steps in turn with the baseline, or alone if it is the baseline."""
    turns = list(dict.fromkeys([baseline, contestant]))
    seconds: dict[Contestant, list[float]] = {one: [] for one in turns}
    for number in range(steps + 1):
        for one in turns:
            elapsed = one.step()["seconds"]
            if number:  # the first step is a warm-up
                seconds[one].append(elapsed)
    print(f"{name}: {list(seconds.values())}", file=sys.stderr, flush=True)
    median, baseline_median = (statistics.median(seconds[one]) for one in (contestant, baseline))
    peak, ratio = contestant.peak / 1e9, contestant.peak / baseline.peak
    return f"| {name} | {median:.2f} | {median / baseline_median:.2f} | {peak:.2f} GB | {ratio:.2f} |"


if __name__ == "__main__":
    main()
