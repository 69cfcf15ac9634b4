"""How often a 95 % interval contains the truth, where the truth is known: on documents of a synthetic source.

Independent sets of documents are drawn from a Markov chain, and textgen's own functions compute an interval from each.
The true values follow from the chain by arithmetic.

Sums and ratios, by the bootstrap:

bits_per_byte    of the chain itself, from `textgen.evaluation.perplexity.summary.perplexity_summary`
difference       in bits_per_byte between the chain and a model that knows only the symbol frequencies, paired
nll of samples   mean nats of continuations, two per prompt, from `estimate_of_mean` over prompts
length           of those continuations, which end at the first space or after 64 symbols

Rates, by `textgen.evaluation.uncertainty.rates`:

ended early      share of the continuations that ended within eight symbols
ended at once    share of the continuations that ended with their first symbol
ended at 63      share of the continuations that ended with their 63rd symbol
top 1, top 5     share of a document's symbols that were the chain's most probable one, or among its five most probable
top 13           the same for 13 of 16: what a truncation strategy keeps

    python benchmarks/coverage.py --draws 4000 --trials 0

prints two tables for several numbers of documents or prompts. The first has the share of intervals that contain the
truth with its standard error, and in brackets the share for the percentile interval that is not widened for their
number. The second has, for the bootstrap → for the interval of a rate, the share and the mean width of the intervals.

    python benchmarks/coverage.py --draws 0 --trials 400

prints the size and power of the test that compares strategies, and the coverage of its interval: see `label_swaps.py`.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import label_swaps
import numpy as np

from textgen.data.sources.markov import SYMBOLS, MarkovSource
from textgen.evaluation.perplexity.document_sums import DocumentScore
from textgen.evaluation.perplexity.summary import paired_difference, perplexity_summary
from textgen.evaluation.perplexity.windows import WindowSettings
from textgen.evaluation.uncertainty.bootstrap import (
    Interval,
    bootstrap_ratio,
    percentile_interval,
    ratio,
    resampled_sums,
)
from textgen.evaluation.uncertainty.estimate import estimate_of_mean, estimate_of_rate
from textgen.evaluation.uncertainty.rates import rate_interval

SIZES = (15, 30, 60, 120, 200)
LENGTH = 100
SAMPLES = 2  # continuations per prompt
LIMIT = 64  # maximum length of a continuation in symbols
LENGTHS = {"ended early": (1, 8), "ended at once": (1, 1), "ended at 63": (63, 63)}  # in symbols, the space included
TOP = {"top 1": 1, "top 5": 5, "top 13": 13}
SETTINGS = WindowSettings.resolve("rolling", 1024)

Pair = tuple[Interval, Interval]  # for SUMS: in use, plain percentiles; for rates: bootstrap, in use


@dataclass(frozen=True)
class ScoredDocument:
    """A document under the chain and under the frequencies of its symbols, and its number of hits for each of TOP."""

    chain: DocumentScore
    plain: DocumentScore
    top: dict[str, int]


def score_documents(source: MarkovSource, *, documents: int) -> Iterator[ScoredDocument]:
    frequencies = dict(zip(SYMBOLS, symbol_shares(source), strict=False))
    ranks = np.argsort(np.argsort(-source.transitions, axis=1), axis=1)
    numbers = np.array([SYMBOLS.find(chr(byte)) for byte in range(256)])
    for number, text in zip(range(documents), source.texts(), strict=True):
        digits = numbers[np.frombuffer(text.encode(), dtype=np.uint8)]
        rank = ranks[digits[:-1], digits[1:]]
        top = {name: int(np.count_nonzero(rank < k)) for name, k in TOP.items()}
        plain = -math.fsum(math.log(frequencies[symbol]) for symbol in text)
        # The first symbol has no predecessor, so it does not count as a scored token.
        sizes = {"tokens": len(rank), "words": len(text.split()) or 1, "bytes": len(text)}
        sizes |= {"top_1": top["top 1"], "top_5": top["top 5"]}
        chain = DocumentScore(str(number), source.nll(text), **sizes)
        yield ScoredDocument(chain, DocumentScore(str(number), plain, **sizes), top)


def symbol_shares(source: MarkovSource) -> np.ndarray:
    """The frequency of each symbol, [states]."""
    return source.stationary.reshape(-1, source.states).sum(axis=0)


def document_intervals(documents: list[ScoredDocument], seed: int) -> tuple[dict[str, Pair], dict[str, Pair]]:
    """By name, the two intervals of each sum or ratio, and of each rate."""
    chain, plain = [one.chain for one in documents], [one.plain for one in documents]
    columns = [[s.nll for s in chain], [s.nll for s in plain], [s.bytes * math.log(2) for s in chain]]
    sums = resampled_sums(columns, seed=seed)
    alone = ratio(sums[:, 0], sums[:, 2])
    summary = perplexity_summary(chain, SETTINGS, seed=seed)
    paired = paired_difference(chain, plain, seed=seed)["bits_per_byte_interval"]
    tokens = [score.tokens for score in chain]
    hits = {name: [one.top[name] for one in documents] for name in TOP}
    current = {name: summary[f"{name.replace(' ', '_')}_accuracy_interval"] for name in ("top 1", "top 5")}
    current["top 13"] = rate_interval(hits["top 13"], tokens)
    return (
        {
            "bits_per_byte": (summary["bits_per_byte_interval"], percentile_interval(alone)),
            "difference": (paired, percentile_interval(ratio(sums[:, 1], sums[:, 2]) - alone)),
        },
        {name: (bootstrap_ratio(hits[name], tokens, seed=seed), current[name]) for name in TOP},
    )


def draw_continuations(
    source: MarkovSource, prompts: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Nats and lengths of continuations, [prompts × SAMPLES] each: symbols up to the first space, which counts."""
    assert source.order == 1
    state = np.repeat(random.choice(source.states, size=prompts, p=source.stationary), SAMPLES)
    nll, length = np.zeros(len(state)), np.zeros(len(state))
    running = np.ones(len(state), dtype=bool)
    for _ in range(LIMIT):
        following = (np.cumsum(source.transitions, axis=1)[state] <= random.random(len(state))[:, None]).sum(axis=1)
        following = np.minimum(following, source.states - 1)
        nll += running * -np.log(source.transitions[state, following])
        length += running
        running &= following != 0
        state = following
    return nll, length


def true_values(source: MarkovSource) -> tuple[dict[str, float], dict[str, float]]:
    """By name, the expectation of each sum or ratio, and of each rate."""
    shares = symbol_shares(source)
    chain = source.expected_nll(LENGTH)
    plain = -LENGTH * float(shares @ np.log(shares))
    sums = {"bits_per_byte": chain / LENGTH / math.log(2), "difference": (plain - chain) / LENGTH / math.log(2)}
    # For continuations, follow the shares of states that have not met a space.
    running = source.stationary.copy()
    entropies = -(source.transitions * np.log(source.transitions)).sum(axis=1)
    nll = length = 0.0
    left = [1.0]
    for _ in range(LIMIT):
        nll, length = nll + float(running @ entropies), length + float(running.sum())
        running = running @ source.transitions
        running[0] = 0.0
        left.append(float(running.sum()))
    rates = {name: left[first - 1] - left[last] for name, (first, last) in LENGTHS.items()}
    cumulative = np.cumsum(-np.sort(-source.transitions, axis=1), axis=1)
    rates |= {name: float(source.stationary @ cumulative[:, k - 1]) for name, k in TOP.items()}
    return sums | {"nll of samples": nll, "length": length}, rates


def continuation_intervals(
    source: MarkovSource, prompts: int, random: np.random.Generator, seed: int
) -> tuple[dict[str, Pair], dict[str, Pair]]:
    """By name, the two intervals of each mean, and of each rate."""
    nll, length = draw_continuations(source, prompts, random)
    clusters = np.repeat(np.arange(prompts), SAMPLES).tolist()
    means, rates = {}, {}
    for name, values in {"nll of samples": nll, "length": length}.items():
        estimate = estimate_of_mean(values, clusters=clusters, seed=seed)
        means[name] = estimate.interval(), percentile_interval(estimate.replicates)
    for name, (first, last) in LENGTHS.items():
        estimate = estimate_of_rate((first <= length) & (length <= last), clusters=clusters, seed=seed)
        rates[name] = percentile_interval(estimate.replicates, items=prompts), estimate.interval()
    return means, rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=4000, help="independent sets of documents per size")
    parser.add_argument("--trials", type=int, default=400, help="pairs of strategies per number of prompts")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.draws:
        intervals(options)
    if options.trials:
        label_swaps.main(options.trials, options.seed)


def intervals(options: argparse.Namespace) -> None:
    """Print the two tables of intervals."""
    source = MarkovSource(options.seed, documents=options.draws * max(SIZES), length=LENGTH)
    sums, rates = true_values(source)
    truths = sums | rates
    print("truth:", ", ".join(f"{name} {value:.4f}" for name, value in truths.items()))
    lines = {"sums": [heading(sums, 24)], "rates": [heading(rates, 34)]}
    for size in SIZES:
        covered = {name: np.zeros(2) for name in truths}
        width = {name: np.zeros(2) for name in truths}
        documents = score_documents(source, documents=options.draws * max(SIZES))
        random = np.random.default_rng([options.seed, 2, size])
        for draw in range(options.draws):
            found = document_intervals(list(islice(documents, size)), draw)
            found += continuation_intervals(source, size, random, draw)
            for name, pair in {name: pair for group in found for name, pair in group.items()}.items():
                covered[name] += [low <= truths[name] <= high for low, high in pair]
                width[name] += [high - low for low, high in pair]
        cells = []
        for name in sums:
            in_use, plain = covered[name] / options.draws
            error = math.sqrt(in_use * (1 - in_use) / options.draws)
            cells.append(f"{in_use:7.1%} ± {error:.1%} ({plain:.1%})".rjust(24))
        lines["sums"].append(f"{size:4} " + " ".join(cells))
        cells = []
        for name in rates:
            (before, after), (narrow, wide) = covered[name] / options.draws, width[name] / options.draws
            cells.append(f"{before:.1%} ({narrow:.4f}) → {after:.1%} ({wide:.4f})".rjust(34))
        lines["rates"].append(f"{size:4} " + " ".join(cells))
        print(f"{size} done", flush=True)
    for table in lines.values():
        print("\n".join(table), end="\n\n", flush=True)


def heading(names: dict[str, float], width: int) -> str:
    return f"{'n':>4} " + " ".join(f"{name:>{width}}" for name in names)


if __name__ == "__main__":
    main()
