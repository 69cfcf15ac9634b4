"""What the probe of a model costs, as a share of the time from the command to the first training step.

    python benchmarks/probe.py --rounds 3

GPT-2 124M (random weights, float32) is fine-tuned on the bundled text, up to its first step: with the default
evaluation; with little (4 prompts, greedy and sampled texts of 16 tokens, 5,000 held-out tokens); and with hardly any
(no decoding, 1,000 tokens). The probe is the check that later tokens do not change earlier logits, that the model reads
a text in training mode (`textgen.model.probe`) and, if texts are decoded, that the cache gives the logits of reading
the whole text (`…decoding.prefix.cache_support`). Shares are medians of the rounds, with the range in brackets.
"""

import argparse
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RECIPE = Path(__file__).parents[1] / "recipes" / "finetune.py"
LITTLE = "--prompts 4 --max-new-tokens 16 --strategies greedy,temperature --evaluation-tokens 5000"
HARDLY_ANY = "--skip-decoding --evaluation-tokens 1000"
STARTS = {"default": "", "little evaluation": LITTLE, "hardly any evaluation": HARDLY_ANY}
KINDS = ("causal", "training", "cache")


def start(flags: list[str]) -> None:
    """Run the recipe in this process up to its first step, and print what that and the probe took."""
    import psutil

    import textgen.evaluation.decoding.prefix.cache_support as cache_support
    import textgen.model.probe as probe
    import textgen.training.step as step

    took = {kind: {"seconds": 0.0, "cpu": 0.0} for kind in KINDS}

    def timed(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            began, cpu = time.perf_counter(), time.process_time()
            result = function(*args, **kwargs)
            took[kind]["seconds"] += time.perf_counter() - began
            took[kind]["cpu"] += time.process_time() - cpu
            return result

        return run

    def first_step(*_: Any, **__: Any) -> None:
        seconds = time.time() - psutil.Process().create_time()
        print(json.dumps(took | {"start": {"seconds": seconds, "cpu": time.process_time()}}), flush=True)
        os._exit(0)

    probe.check_causal = timed("causal", probe.check_causal)
    probe.check_trains = timed("training", probe.check_trains)
    cache_support._is_right = timed("cache", cache_support._is_right)
    step.training_step = first_step  # type: ignore[assignment]
    sys.argv = [str(RECIPE), *flags]
    runpy.run_path(str(RECIPE), run_name="__main__")


def save_model(folder: Path) -> Path:
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    from textgen.model.locate import BUNDLED_MODELS

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config()).save_pretrained(folder)
    AutoTokenizer.from_pretrained(BUNDLED_MODELS["tiny-gpt2"]).save_pretrained(folder)
    return folder


def measure(model: Path, evaluation: str, folder: Path) -> dict[str, dict[str, float]]:
    flags = ["--model", str(model), "--track", "none", "--steps", "1", *evaluation.split()]
    with tempfile.TemporaryDirectory(dir=folder) as run:
        command = [sys.executable, __file__, "--start", *flags, "--run-dir", f"{run}/run"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(name: str, rounds: list[dict[str, dict[str, float]]]) -> str:
    cells = [name, f"{statistics.median(found['start']['seconds'] for found in rounds):.1f}"]
    cells += [f"{statistics.median(found[kind]['seconds'] for found in rounds):.2f}" for kind in KINDS]
    for clock in ("seconds", "cpu"):
        shares = [sum(found[kind][clock] for kind in KINDS) / found["start"][clock] for found in rounds]
        cells.append(f"{statistics.median(shares):.2%} ({min(shares):.2%}–{max(shares):.2%})")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    if "--start" in sys.argv:
        start(sys.argv[sys.argv.index("--start") + 1 :])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--starts", nargs="*", default=list(STARTS), choices=list(STARTS))
    arguments = parser.parse_args()
    print(f"| start | seconds | {' | '.join(f'probe: {kind}' for kind in KINDS)} | share | share of CPU time |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        model = save_model(folder / "gpt2-124m")
        measure(model, HARDLY_ANY, folder)  # the tokens are cached for all rounds
        found: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in arguments.starts}
        for _ in range(arguments.rounds):
            for name in arguments.starts:
                found[name].append(measure(model, STARTS[name], folder))
        for name in arguments.starts:
            print(row(name, found[name]), flush=True)


if __name__ == "__main__":
    main()
