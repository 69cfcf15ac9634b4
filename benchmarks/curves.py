"""Loss curves of every optimizer, adapter variant and kind of dropout, from runs of recipes/finetune.py.

    python benchmarks/curves.py            # a table, in about ten minutes on two cores
    python benchmarks/curves.py --only muon pissa --steps 20

The bundled model on the bundled text, with the same batches in the same order; runs differ only in the flags of the
first column. The learning rate of each was chosen from a few, as a user would. Two runs at a time, one thread each.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
LORA = "--method lora --learning-rate 5e-3"

# Name → flags.
RUNS = {
    "adamw": "",
    "adamw8bit": "--optimizer adamw8bit",
    "muon": "--optimizer muon --learning-rate 2e-3",
    "schedule_free": "--optimizer schedule_free --schedule constant --learning-rate 2e-3",
    "lora": LORA,
    "rslora": f"{LORA} --lora-variant rslora",
    "dora": f"{LORA} --lora-variant dora",
    "pissa": f"{LORA} --lora-variant pissa --learning-rate 2e-3",
    "lora+": f"{LORA} --lora-plus-ratio 4 --learning-rate 3e-3",
    "qlora, 8 bits": f"{LORA} --method qlora --qlora-bits 8",
    "qlora, 4 bits": f"{LORA} --method qlora",
    "dropout": "--dropout 0.1",
    "dropout, in attention too": "--dropout 0.1 --attention-dropout 0.1",
}


def run(name: str, directory: Path, options: argparse.Namespace) -> list[dict[str, float]]:
    """The metrics of one run, one dictionary per logged step."""
    path = directory / name.replace(" ", "-").replace(",", "")
    flags = [*RUNS[name].split(), "--steps", str(options.steps), "--seed", str(options.seed), "--log-every", "1"]
    flags += ["--evaluate-every", "0", "--checkpoint-every", "0", "--skip-decoding", "--wandb-mode", "disabled"]
    command = [sys.executable, str(ROOT / "recipes" / "finetune.py"), *flags, "--threads", "1", "--run-dir", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=92, help="two epochs of the bundled text")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="names of some of the runs")
    parser.add_argument("--output", type=Path, help="also write all metrics to this JSON file")
    options = parser.parse_args()
    fifth = max(1, options.steps // 5)
    ends = [fifth * i for i in range(1, 5)] + [options.steps]
    names = [name for name in RUNS if name in options.only]
    with tempfile.TemporaryDirectory(prefix="textgen-curves-") as scratch, ThreadPoolExecutor(2) as pool:
        records = dict(zip(names, pool.map(lambda name: run(name, Path(scratch), options), names), strict=True))
    columns = " | ".join(f"steps {end - fifth + 1}–{end}" for end in ends)
    print(f"| | {columns} | held-out bits per byte |\n|{' --- |' * (len(ends) + 2)}")
    for name, record in records.items():
        losses = [row["train/loss"] for row in record]
        means = [sum(part) / len(part) for end in ends if (part := losses[end - fifth : end])]
        after = record[-1]["eval/bits_per_byte"]
        print(f"| {name} | {' | '.join(f'{mean:.3f}' for mean in means)} | {after:.3f} |")
    if options.output:
        options.output.write_text(json.dumps(records), encoding="utf-8")


if __name__ == "__main__":
    main()
