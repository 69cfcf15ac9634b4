"""Speed and memory of looking for held-out n-grams in generated training text, and of counting near-duplicates.

    python benchmarks/contamination.py --megabytes 20 200 1000

The text is random words of the frequencies of a natural language (Zipf's law), with punctuation and capitals, in
documents of 500 words: ten different megabytes, again and again. One held-out document in ten contains 40 words of a
training document, and the benchmark fails unless exactly these are found. "seconds" are of processor time on one core,
and "memory" is the growth of the process's peak, of which the first line has the held-out text. With --near-duplicates,
these are counted in the same pass, as recipes do; here, nearly every document is one.
"""

import argparse
import itertools
import random
import resource
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from textgen.data.document import Document
from textgen.data.overlap.contamination import find_contamination
from textgen.data.overlap.near_duplicates import NearDuplicateSearch

DOCUMENT_WORDS = 500


def vocabulary(size: int = 50_000) -> list[str]:
    letters = random.Random(0)
    words = ["".join(letters.choices("etaoinshrdlucmfwypvbgk", k=letters.randint(2, 9))) for _ in range(size)]
    return [f"{word}," if i % 12 == 0 else word.capitalize() if i % 15 == 0 else word for i, word in enumerate(words)]


def documents(name: str, characters: int, seed: int) -> Iterator[Document]:
    """Documents of about this many characters in total; the same for the same seed."""
    words = np.array(vocabulary(), dtype=object)
    probabilities = 1 / (np.arange(len(words)) + 5)
    cumulative = np.cumsum(probabilities / probabilities.sum())
    generator = np.random.default_rng(seed)
    total = number = 0
    while total < characters:
        drawn = np.searchsorted(cumulative, generator.random(DOCUMENT_WORDS))
        text = " ".join(words[np.minimum(drawn, len(words) - 1)])
        yield Document(f"{name}#{number}", name, text)
        total, number = total + len(text), number + 1


def held_out(characters: int, training: list[Document]) -> list[Document]:
    """Held-out documents, every tenth with words of a training document."""
    found = list(documents("held-out", characters, seed=1))
    for i in range(0, len(found), 10):
        copied = " ".join(training[i % len(training)].text.split()[100:140])
        found[i] = replace(found[i], text=f"{found[i].text} {copied}")
    return found


def peak_memory() -> float:
    """In MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def repeated(pool: list[Document], characters: int) -> Iterator[Document]:
    """The documents of the pool, again and again."""
    total = 0
    for document in itertools.cycle(pool):
        if total >= characters:
            return
        yield document
        total += len(document.text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--held-out-megabytes", type=float, default=4)
    parser.add_argument("--words", type=int, default=13)
    parser.add_argument("--near-duplicates", action="store_true")
    arguments = parser.parse_args()
    pool = list(documents("train", 10_000_000, seed=0))
    texts = held_out(int(arguments.held_out_megabytes * 1e6), pool)
    copied = {document.id for document in texts[::10]}
    find_contamination(texts[:50], pool[:50], arguments.words)  # tables that are filled the first time
    for megabytes in arguments.megabytes:
        before, started = peak_memory(), time.process_time()
        training: Iterator[Document] = repeated(pool, megabytes * 10**6)
        near_duplicates = NearDuplicateSearch()
        if arguments.near_duplicates:
            training = near_duplicates.watch(training)
        found = find_contamination(texts, training, arguments.words)
        near_duplicates.result()
        seconds = time.process_time() - started
        assert found.ids == copied, (len(found.ids), len(copied))
        print(
            f"{megabytes:5} MB of training text, {arguments.held_out_megabytes:g} MB held out: {seconds:.1f} s, "
            f"{megabytes / seconds:.0f} MB/s, memory {peak_memory() - before:.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
