"""What a checkpoint costs training: GPT-2 124M (random weights), full fine-tuning with AdamW, 1.5 GB per checkpoint.

    python benchmarks/checkpoints.py       # a table, in about 10 minutes on two cores
    python benchmarks/checkpoints.py --shape tiny --tokens 64 --steps 2 --rounds 1

Some steps are timed without a checkpoint, after one that was written at once, and after one that is written in the
background, in turn. What they take longer is what a checkpoint costs, wherever that is: in the call, or in the steps
that share the processor and the memory with the thread. Processor time is that of all threads of the process, which
other processes on the machine change less.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from models import SHAPES, make_model

EVERY = 50  # --checkpoint-every

Steps = Callable[[int], None]
Save = Callable[[str], Callable[[], None]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="steps after each checkpoint: more than it takes to write")
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shape", choices=SHAPES, default="124m")
    parser.add_argument("--directory", help="where checkpoints are written; default: a temporary directory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="textgen-checkpoints-", dir=options.directory) as scratch:
        steps, save = trainer(options, Path(scratch))
        rounds: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ("none", "at once", "background")}
        for number in range(options.rounds + 1):
            for way, found in rounds.items():
                started, processor = time.perf_counter(), time.process_time()
                finish = save(way)
                called = time.perf_counter() - started
                steps(options.steps)
                seconds = time.perf_counter() - started
                finish()
                waited = time.perf_counter() - started - seconds
                processor = time.process_time() - processor
                print(
                    f"round {number}, {way}: call {called:.2f} s, with {options.steps} steps {seconds:.2f} s, then "
                    f"waited {waited:.2f} s; {processor:.2f} s of processor time",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
                if number:  # the first round is a warm-up
                    found.append((called, seconds, processor))
    print(table(rounds, options.steps))


def trainer(
    options: argparse.Namespace, scratch: Path
) -> tuple[Callable[[int], None], Callable[[str], Callable[[], None]]]:
    """Functions that take some steps, and that save a checkpoint in one way and return what waits for it."""
    import numpy as np

    from recipes.finetune import FinetuneConfig
    from textgen.config import parse
    from textgen.data.blocks import GlobalBatches
    from textgen.data.token_stream import TokenStream
    from textgen.model.build import build_model
    from textgen.model.locate import find_model
    from textgen.training.checkpoints import Checkpoints
    from textgen.training.distributed.processes import compute_dtype, start_process
    from textgen.training.prepare import prepare
    from textgen.training.step import training_step
    from textgen.training.train_state import TrainState

    flags = ["--model", str(make_model(scratch, options.shape)), "--precision", "fp32"]
    config = parse(FinetuneConfig, flags)
    accelerator = start_process(options.threads)
    trainable = build_model(
        find_model(config.model), config.adapters, device=accelerator.device, dtype=compute_dtype(accelerator), seed=0
    )
    prepared = prepare(accelerator, trainable, config.training, config.engine, config.adapters)
    ids = np.random.default_rng(0).integers(1, 4000, 1 << 16).astype(np.uint16)
    batches = GlobalBatches(
        TokenStream(ids, np.array([1])), block_size=options.tokens, global_batch_size=options.rows,
        microbatch_size=options.rows, seed=0,
    )  # fmt: skip
    checkpoints = {
        background: Checkpoints(
            scratch / "checkpoints", prepared.model, prepared.optimizer.optimizer, {}, background=background
        )
        for background in (False, True)
    }
    taken = 0

    def steps(number: int) -> None:
        nonlocal taken
        for _ in range(number):
            taken += 1
            training_step(
                accelerator, prepared.training_model, prepared.optimizer, batches, step=taken, learning_rate=1e-5,
                max_grad_norm=1.0,
            )  # fmt: skip

    def save(way: str) -> Callable[[], None]:
        if way == "none":
            return lambda: None
        chosen = checkpoints[way == "background"]
        chosen.save(TrainState(taken))
        return chosen.wait

    steps(1)
    return steps, save


def table(rounds: dict[str, list[tuple[float, float, float]]], steps: int) -> str:
    """Medians over rounds, and what a checkpoint costs as a share of the steps between two."""
    medians = {way: [statistics.median(column) for column in zip(*found, strict=True)] for way, found in rounds.items()}
    plain = medians["none"]
    lines = ["| | call | call and steps | share at every 50 steps | processor time | share |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for way, (called, seconds, processor) in medians.items():
        share, busy = (
            (mine - own) / (own / steps * EVERY) for mine, own in ((seconds, plain[1]), (processor, plain[2]))
        )
        lines.append(f"| {way} | {called:.2f} s | {seconds:.1f} s | {share:.1%} | {processor:.1f} s | {busy:.1%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
