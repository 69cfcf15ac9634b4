"""Seconds and memory to start a run on generated text: the first time, and from the cache; and per step.

    python benchmarks/corpus.py --megabytes 20 200 2000 --tiny-documents 3000000

Each start is a process of its own, which finds the data, loads the corpus and prepares the batches, as
recipes/finetune.py does before it loads the model. Memory is the largest resident set of the process, with what the
imports alone take in brackets.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

WORDS_AT_A_TIME = 1 << 16
STEPS = 20


def generate(path: Path, *, size: int, words_per_document: int) -> None:
    """Write documents of words drawn from the bundled Python reference, as frequent as they are there.

    Args:
        path: a .txt file.
        size: its size in bytes, about.
        words_per_document: words in each document; lines have 12.
    """
    from textgen.data.sources.bundled import python_reference

    words = np.array([word for text in python_reference() for word in text.split()])
    generator = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            drawn = words[generator.integers(len(words), size=WORDS_AT_A_TIME)].tolist()
            lines = (drawn[i : i + words_per_document] for i in range(0, len(drawn), words_per_document))
            file.write("".join(f"{_paragraph(line)}\n\n" for line in lines))


def _paragraph(words: list[str]) -> str:
    return "\n".join(" ".join(words[i : i + 12]) for i in range(0, len(words), 12))


def start(data: str, packing: bool) -> dict[str, float]:
    """Prepare the batches of a run in this process, and take a look at some; returns what that took."""
    from transformers import AutoTokenizer

    from textgen.data.blocks import GlobalBatches
    from textgen.data.config import DataConfig
    from textgen.data.corpus import load_corpus
    from textgen.data.sources import find_data
    from textgen.model.locate import BUNDLED_MODELS

    tokenizer = AutoTokenizer.from_pretrained(BUNDLED_MODELS["tiny-gpt2"])
    imported, started = _peak_memory(), time.perf_counter()
    config = DataConfig(data=data, packing="joined" if packing else "none")
    sources = find_data(config)
    found = time.perf_counter()
    corpus = load_corpus(config, tokenizer, sources)
    loaded = time.perf_counter()
    batches = GlobalBatches(
        corpus.stream,
        block_size=128,
        global_batch_size=16,
        microbatch_size=16,
        seed=0,
        packing="joined" if packing else "none",
        block_counts=corpus.block_counts,
    )
    prepared = time.perf_counter()
    for step in range(1, STEPS + 1):
        batches.targets(step)
        list(batches.process_share(step, 0, 1))
    ended = time.perf_counter()
    return {
        "find": found - started,
        "load": loaded - found,
        "prepare": prepared - loaded,
        "step": (ended - prepared) / STEPS,
        "memory": _peak_memory(),
        "imports": imported,
        "tokens": len(corpus.tokens),
        "documents": len(corpus.offsets) + len(corpus.validation),
    }


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(data: Path, environment: dict[str, str]) -> Iterator[str]:
    """Rows of the table: the first start on some data, then one from the cache with and one without packing."""
    for name, packing in (("first", True), ("cached", True), ("cached, no packing", False)):
        if name == "cached, no packing":
            _run(data, packing, environment)  # counts the blocks, once
        took = _run(data, packing, environment)
        seconds = f"{took['find']:.2f} | {took['load']:.2f} | {took['prepare']:.3f} | {1e3 * took['step']:.1f}"
        yield (
            f"| {data.stem} | {data.stat().st_size / 1e6:,.0f} MB | {took['documents']:,.0f} | {took['tokens']:,.0f} | "
            f"{name} | {seconds} | {took['memory'] / 1e6:,.0f} MB ({took['imports'] / 1e6:,.0f}) |"
        )


def _run(data: Path, packing: bool, environment: dict[str, str]) -> dict[str, float]:
    command = [sys.executable, __file__, "--start", str(data), *([] if packing else ["--no-packing"])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    took: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return took


def main() -> None:
    import os

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="*", default=[20, 200])
    parser.add_argument("--tiny-documents", type=int, default=0, help="documents of three words")
    parser.add_argument("--start", help=argparse.SUPPRESS)
    parser.add_argument("--no-packing", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.start:
        print(json.dumps(start(arguments.start, not arguments.no_packing)))
        return
    print("| data | size | documents | tokens | start | find s | load s | prepare s | ms per step | memory |")
    with tempfile.TemporaryDirectory() as directory:
        environment = os.environ | {"TEXTGEN_CACHE": f"{directory}/cache"}
        sizes = [(f"text-{megabytes}", megabytes * 10**6, 150) for megabytes in arguments.megabytes]
        if arguments.tiny_documents:
            sizes.append(("tiny-documents", 24 * arguments.tiny_documents, 3))
        for name, size, words in sizes:
            data = Path(directory) / f"{name}.txt"
            generate(data, size=size, words_per_document=words)
            time.sleep(2.5)  # a file that was written just now is not remembered
            for row in measure(data, environment):
                print(row, flush=True)
            data.unlink()


if __name__ == "__main__":
    main()
