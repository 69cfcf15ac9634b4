"""`--packing` joined, isolated and none: held-out loss after the same text, and speed in turns.

    python benchmarks/packing.py --only losses     # 15 runs of the bundled model on the bundled text
    python benchmarks/packing.py --only losses --data TEXT --steps 46    # on another text, for a part of an epoch
    python benchmarks/packing.py --only speeds     # of the same, and of GPT-2 124M (random weights) on short documents
    python benchmarks/packing.py --quick           # both in a minute, on tiny models, to see that the script works

Losses: runs of recipes/finetune.py with its default settings, one epoch each, so all train on every target of the
corpus once; with `--steps`, on about as many targets. Differences from joined are paired by document, of each
document's mean over the seeds; beside them, the range over seeds of the difference between two runs of the same seed.
Losses do not depend on other work on the machine.

Speeds: one model takes a step with each packing in turn; rates are medians over rounds, in targets per second, and
ratios are between medians. Padding is no target. Documents of the second model have random tokens and lengths from half
to one and a half times `--document-tokens`.

A block without packing is short, so `none` takes more of them per microbatch: about as many targets as the others.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from models import SHAPES, make_model
from runs import ROOT, difference, finetune, length, perplexity, scores, with_interval

from textgen.run.allocator import preload_allocator

PACKINGS = ("joined", "isolated", "none")
MICROBATCHES = 4


def rows_per_microbatch(blocks: Mapping[str, int], rows: int) -> dict[str, int]:
    """Rows per microbatch for each packing, so that all have about as many targets.

    Args:
        blocks: packing → number of blocks that the same corpus has.
        rows: rows per microbatch for "joined".
    """
    return {packing: max(1, round(rows * number / blocks["joined"])) for packing, number in blocks.items()}


def short_documents(count: int, *, mean: int, vocabulary: int) -> Any:
    """A stream of documents of random tokens; token 0 is before and after each, as for GPT-2."""
    from textgen.data.token_stream import TokenStream

    generator = np.random.default_rng(0)
    lengths = generator.integers(max(1, mean // 2), mean + mean // 2 + 1, count)
    ends = np.cumsum(lengths + 1)
    ids = generator.integers(1, vocabulary, ends[-1] + 1)
    ids[[0, *ends]] = 0
    return TokenStream(ids.astype(np.int64), np.concatenate([[0], ends[:-1]]) + 1)


class Setting:
    """A model, a corpus and the batches that each packing makes of it, as recipes/finetune.py builds them.

    Args:
        flags: flags of the recipe.
        rows: rows per microbatch with packing.
        stream: the tokenized documents; None: those of ``--data``.
    """

    def __init__(self, flags: Sequence[str], rows: int, stream: Any = None) -> None:
        sys.path.append(str(ROOT))  # recipes/ is no part of the installed package
        from recipes.finetune import FinetuneConfig
        from textgen.config import parse
        from textgen.data.blocks import GlobalBatches
        from textgen.data.mixed_corpus import load_training_data
        from textgen.data.sources import find_data
        from textgen.model.locate import find_model

        self.config = parse(FinetuneConfig, list(flags))
        self.found = find_model(self.config.model)
        if stream is None:
            data = self.config.data
            stream = load_training_data(data, self.found.tokenizer, find_data(data)).stream

        def batches(packing: str, rows: int) -> GlobalBatches:
            return GlobalBatches(
                stream, block_size=int(self.config.data.block_size), packing=packing,
                global_batch_size=rows * MICROBATCHES, microbatch_size=rows, seed=0,
            )  # fmt: skip

        self.rows = rows_per_microbatch({packing: batches(packing, 1).blocks for packing in PACKINGS}, rows)
        self.batches = {packing: batches(packing, self.rows[packing]) for packing in PACKINGS}


def measure_losses(setting: Setting, flags: Sequence[str], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Packing → the results of its runs, one for each seed."""
    runs = {packing: [options.directory / f"{packing}-{seed}" for seed in options.seeds] for packing in PACKINGS}
    with ThreadPoolExecutor(options.jobs) as pool:
        started = []
        for packing, directories in runs.items():
            rows = setting.rows[packing]
            size = ["--global-batch-size", str(rows * MICROBATCHES), "--microbatch-size", str(rows)]
            for seed, directory in zip(options.seeds, directories, strict=True):
                command = [*flags, *size, "--packing", packing, "--seed", str(seed), "--threads", "1"]
                started.append(pool.submit(finetune, command, directory))
        for run in started:
            run.result()
    return {packing: losses_of(directories, runs["joined"]) for packing, directories in runs.items()}


def losses_of(directories: Sequence[Path], joined: Sequence[Path]) -> dict[str, Any]:
    """The mean loss of the runs of one packing, and its difference from joined."""
    after = [perplexity(path)["after"]["bits_per_byte"] for path in directories]
    result: dict[str, Any] = {
        "before": perplexity(directories[0])["before"]["bits_per_byte"],
        "bits_per_byte": statistics.fmean(after),
        "documents": len(scores(directories[0])),
    } | length(directories[0])
    if directories == joined:
        return result
    each = [difference([a], [b])["bits_per_byte"] for a, b in zip(directories, joined, strict=True)]
    return result | {"difference": difference(directories, joined), "range_over_seeds": [min(each), max(each)]}


def measure_speeds(setting: Setting, *, rounds: int, steps: int, threads: int) -> dict[str, dict[str, Any]]:
    """Packing → targets per second: the median and the range over rounds of some steps, and the ratio to joined."""
    from textgen.model.build import build_model
    from textgen.training.distributed.processes import compute_dtype, start_process
    from textgen.training.prepare import prepare
    from textgen.training.step import training_step

    config = setting.config
    accelerator = start_process(threads, precision=config.engine.precision, exact=False)
    trainable = build_model(
        setting.found, config.adapters, device=accelerator.device, dtype=compute_dtype(accelerator), seed=0,
        gradient_checkpointing=False,
    )  # fmt: skip
    prepared = prepare(accelerator, trainable, config.training, config.engine, config.adapters)

    def targets_per_second(batches: Any, first: int) -> float:
        steps_taken = [
            training_step(
                accelerator, prepared.training_model, prepared.optimizer, batches, step=step,
                learning_rate=1e-5, max_grad_norm=1.0,
            )
            for step in range(first, first + steps)
        ]  # fmt: skip
        return sum(step.targets for step in steps_taken) / sum(step.seconds for step in steps_taken)

    rates: dict[str, list[float]] = {packing: [] for packing in PACKINGS}
    for number in range(rounds + 1):
        measured = {p: targets_per_second(batches, number * steps + 1) for p, batches in setting.batches.items()}
        print(f"round {number} of {rounds}: {measured}", file=sys.stderr, flush=True)
        for packing in PACKINGS if number else ():  # the first round is a warm-up
            rates[packing].append(measured[packing])
    return summarize(rates)


def summarize(rates: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """The median and range of each packing's rates, and the ratio of its median to that of joined."""
    medians = {packing: statistics.median(found) for packing, found in rates.items()}
    return {
        packing: {
            "targets_per_second": medians[packing],
            "range": [min(found), max(found)],
            "ratio": medians[packing] / medians["joined"],
        }
        for packing, found in rates.items()
    }


def table(result: Mapping[str, Any]) -> str:
    """One row for each packing, with a column for each thing that was measured."""
    columns: dict[str, dict[str, str]] = {"`--packing`": {packing: f"`{packing}`" for packing in PACKINGS}}
    if losses := result.get("losses"):
        columns["steps"] = {packing: str(row["steps"]) for packing, row in losses.items()}
        columns["targets"] = {packing: f"{row['targets']:,}" for packing, row in losses.items()}
        columns["bits per byte"] = {packing: f"{row['bits_per_byte']:.4f}" for packing, row in losses.items()}
        compared = {packing: row for packing, row in losses.items() if "difference" in row}
        columns["difference from joined"] = {
            packing: with_interval(row["difference"], signed=True, digits=4) for packing, row in compared.items()
        }
        columns["over seeds"] = {
            packing: "{:+.4f} to {:+.4f}".format(*row["range_over_seeds"]).replace("-", "−")
            for packing, row in compared.items()
        }
    for name, speeds in result.get("speeds", {}).items():
        columns[f"{name}: targets/s (range)"] = {
            packing: "{targets_per_second:,.0f} ({range[0]:,.0f}–{range[1]:,.0f}), {ratio:.2f} ×".format(**row)
            for packing, row in speeds.items()
        }
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[cells.get(packing, "") for cells in columns.values()] for packing in PACKINGS]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    # The block size is the one that auto chooses for the bundled text; without packing, it could choose another.
    flags = ["--data", options.data, "--block-size", "128"]
    name = f"tiny-gpt2, {Path(options.data).stem}"
    quickstart = Setting(flags, 4)
    result: dict[str, Any] = {"rows_per_microbatch": {name: quickstart.rows}}
    if options.only != "speeds":
        more = ["--steps", str(options.steps)] if options.steps else []
        result["losses"] = measure_losses(quickstart, [*flags, *more], options)
    if options.only != "losses":
        vocabulary = SHAPES[options.shape].get("vocab_size", 50257)
        stream = short_documents(20_000, mean=options.document_tokens, vocabulary=vocabulary)
        model = str(make_model(scratch, options.shape))
        short = Setting(["--model", model, "--block-size", str(options.tokens)], options.rows, stream)
        result["rows_per_microbatch"]["short documents"] = short.rows
        result["speeds"] = {
            name: measure_speeds(
                quickstart, rounds=options.rounds, steps=options.quickstart_steps, threads=options.threads
            ),
            f"GPT-2 {options.shape}, short documents": measure_speeds(
                short, rounds=options.rounds, steps=1, threads=options.threads
            ),
        }
    return result


def main() -> None:
    preload_allocator(__file__)  # as the recipes do
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["losses", "speeds"], help="default: both")
    parser.add_argument("--data", default="python-reference", help="what the bundled model is trained on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, help="steps of each run for the losses. Default: one epoch")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the speeds, after one to warm up")
    parser.add_argument("--quickstart-steps", type=int, default=5, help="steps of the bundled model in a round")
    parser.add_argument("--rows", type=int, default=1, help="rows per microbatch of short documents")
    parser.add_argument("--tokens", type=int, default=512, help="tokens per row of short documents")
    parser.add_argument("--document-tokens", type=int, default=100, help="mean length of short documents")
    parser.add_argument("--shape", choices=SHAPES, default="124m")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="two steps of everything, to see that it works")
    parser.add_argument("--directory", type=Path, help="where the runs go, and stay. Default: a temporary directory")
    parser.add_argument("--output", type=Path, help="also write everything measured to this JSON file")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.steps, options.rounds, options.quickstart_steps = [0, 1], 2, 1, 1
        options.shape, options.tokens, options.document_tokens, options.threads = "tiny", 64, 20, 1
    with tempfile.TemporaryDirectory(prefix="textgen-packing-") as scratch:
        options.directory = options.directory or Path(scratch) / "runs"
        result = measure(options, Path(scratch))
    print(table(result))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
