"""Speed of tokenizing, compared with `datasets.map`.

    python benchmarks/tokenizing.py --megabytes 20 --rounds 5

Each contestant turns the same documents into token ids on disk, in turn; nothing else computes while one is timed.
`datasets.map` begins with an Arrow file in which the documents are already; textgen begins with them in memory, and
also does what its cache needs: it hashes every document for the split, and syncs the files to disk. Numbers are medians
over the rounds, in MB of text per second, and per second of CPU time, of which other work on the machine takes nothing.
"""

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from corpus import generate

Contestant = Callable[[Path], object]  # writes into a new directory


def contestants(texts: list[str], tokenizer: Any, directory: Path) -> dict[str, Contestant]:
    import datasets

    from textgen.data.build_entries import _encoding
    from textgen.data.document import Document
    from textgen.data.tokens import bulk_encoding
    from textgen.data.tokens.build import Part, build

    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({"text": texts}).save_to_disk(str(directory))
    stored = datasets.load_from_disk(str(directory))
    documents = [Document(f"text#{i}", "text", text) for i, text in enumerate(texts)]

    def mapped(processes: int | None) -> Contestant:
        def encode(rows: dict[str, list[str]]) -> Any:
            return tokenizer(rows["text"], verbose=False)

        return lambda scratch: stored.map(
            encode,
            batched=True,
            num_proc=processes,
            remove_columns=["text"],
            load_from_cache_file=False,
            cache_file_name=str(scratch / "tokens.arrow"),
        )

    def textgen(scratch: Path) -> None:
        build(scratch, [Part(lambda: iter(documents), lambda: None, 0.1)], _encoding(tokenizer))

    def without_fastokens(scratch: Path) -> None:
        with mock.patch.object(bulk_encoding._Fast, "of", return_value=None):
            textgen(scratch)

    return {
        "textgen, with fastokens": textgen,
        "textgen": without_fastokens,
        "datasets.map, 2 processes": mapped(2),
        "datasets.map, 1 process": mapped(None),
    }


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def measure(contestant: Contestant, text_bytes: int) -> tuple[float, float]:
    """MB per second, and per second of CPU time."""
    with tempfile.TemporaryDirectory() as scratch:
        clock, cpu = time.perf_counter(), _cpu_seconds()
        contestant(Path(scratch))
        return tuple(
            text_bytes / 1e6 / (now - then) for now, then in ((time.perf_counter(), clock), (_cpu_seconds(), cpu))
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")

    from transformers import AutoTokenizer

    from textgen.model.locate import BUNDLED_MODELS

    tokenizer = AutoTokenizer.from_pretrained(BUNDLED_MODELS["tiny-gpt2"])
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "text.txt"
        generate(path, size=options.megabytes * 10**6, words_per_document=150)
        texts = path.read_text(encoding="utf-8").split("\n\n")[:-1]
        every = contestants(texts, tokenizer, Path(directory) / "arrow")
        speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in every}
        for _ in range(options.rounds):
            for name, contestant in every.items():
                speeds[name].append(measure(contestant, path.stat().st_size))
    baseline = [statistics.median(column) for column in zip(*speeds["datasets.map, 2 processes"], strict=True)]
    print("| | MB/s (range) | ratio | MB per CPU second | ratio |\n| --- | --- | --- | --- | --- |")
    for name, measured in speeds.items():
        wall, cpu = ([one[i] for one in measured] for i in (0, 1))
        ratios = [statistics.median(column) / base for column, base in zip((wall, cpu), baseline, strict=True)]
        print(
            f"| {name} | {statistics.median(wall):.2f} ({min(wall):.2f}–{max(wall):.2f}) | {ratios[0]:.2f}× | "
            f"{statistics.median(cpu):.2f} | {ratios[1]:.2f}× |"
        )


if __name__ == "__main__":
    main()
