"""How often a 95 % interval contains the truth, where the truth is known: on documents of a synthetic source.

Independent sets of documents are drawn from a Markov chain, and the harness's own code computes an interval from each.
The truths follow from the chain by arithmetic:

bits_per_byte    of the chain itself, from `textgen.evaluation.perplexity.summary.summarise`
difference       in bits_per_byte between the chain and a model that knows the symbols' frequencies only, paired
nll of samples   mean nats of continuations, two of each prompt, from `bootstrap_mean` over prompts
length           of those continuations, which the first space ends, and 64 symbols do
ended early      share of the continuations that ended within eight symbols
ended at once    share of the continuations that ended with their first symbol, which is rare

    python benchmarks/coverage.py --draws 4000

prints a table for several numbers of documents or prompts: the share of the intervals that contain the truth, and its
standard error; beside it, in brackets, the share for the percentile interval that is not widened for their number.
"""

import argparse
import math
from collections.abc import Iterator
from itertools import islice

import numpy as np

from textgen.data.markov import SYMBOLS, MarkovSource
from textgen.evaluation.perplexity.summary import DocumentScore, paired_difference, summarise
from textgen.evaluation.uncertainty.bootstrap import bootstrap_mean, percentile_interval, ratio, resampled_sums

SIZES = (15, 30, 60, 120, 200)
LENGTH = 100
SAMPLES = 2  # continuations of a prompt
LIMIT = 64  # symbols of a continuation that nothing ends earlier
EARLY = {"ended early": 8, "ended at once": 1}  # symbols, the space among them

Interval = tuple[float, float]


def scores(source: MarkovSource, *, documents: int) -> Iterator[tuple[DocumentScore, DocumentScore]]:
    """Each document under the chain, and under the frequencies of its symbols."""
    frequencies = dict(zip(SYMBOLS, symbol_shares(source), strict=False))
    for number, text in zip(range(documents), source.texts(), strict=True):
        sizes = {"tokens": len(text), "words": len(text.split()) or 1, "bytes": len(text)}
        plain = -math.fsum(math.log(frequencies[symbol]) for symbol in text)
        yield DocumentScore(str(number), source.nll(text), **sizes), DocumentScore(str(number), plain, **sizes)


def symbol_shares(source: MarkovSource) -> np.ndarray:
    """How often each symbol occurs, [states]."""
    return source.stationary.reshape(-1, source.states).sum(axis=0)


def perplexity_intervals(
    pairs: list[tuple[DocumentScore, DocumentScore]], seed: int
) -> dict[str, tuple[Interval, Interval]]:
    """Name → the interval as it is offered, and the plain percentile interval."""
    chain, plain = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    columns = [[s.nll for s in chain], [s.nll for s in plain], [s.bytes * math.log(2) for s in chain]]
    sums = resampled_sums(columns, seed=seed)
    alone = ratio(sums[:, 0], sums[:, 2])
    offered = summarise(chain, convention="rolling", stride=None, seed=seed)["bits_per_byte_interval"]
    paired = paired_difference(chain, plain, seed=seed)["bits_per_byte_interval"]
    return {
        "bits_per_byte": (offered, percentile_interval(alone)),
        "difference": (paired, percentile_interval(ratio(sums[:, 1], sums[:, 2]) - alone)),
    }


def continuations(source: MarkovSource, prompts: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Nats and lengths of continuations, [prompts, SAMPLES] each: symbols up to the first space, which counts."""
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
    return nll.reshape(prompts, SAMPLES), length.reshape(prompts, SAMPLES)


def continuation_truths(source: MarkovSource) -> dict[str, float]:
    """The expectations of what `continuations` draws: by following the shares of states that have not met a space."""
    going = source.stationary.copy()
    entropies = -(source.transitions * np.log(source.transitions)).sum(axis=1)
    nll = length = 0.0
    early = {}
    for position in range(LIMIT):
        nll, length = nll + float(going @ entropies), length + float(going.sum())
        going = going @ source.transitions
        going[0] = 0.0
        early |= {name: 1 - float(going.sum()) for name, symbols in EARLY.items() if position == symbols - 1}
    return {"nll of samples": nll, "length": length} | {name: early[name] for name in EARLY}


def sample_intervals(
    source: MarkovSource, prompts: int, random: np.random.Generator, seed: int
) -> dict[str, tuple[Interval, Interval]]:
    """Name → the interval as it is offered, and the plain percentile interval."""
    nll, length = continuations(source, prompts, random)
    clusters = np.repeat(np.arange(prompts), SAMPLES).tolist()
    drawn = {"nll of samples": nll, "length": length}
    drawn |= {name: (length <= symbols) * 1.0 for name, symbols in EARLY.items()}
    found = {}
    for name, values in drawn.items():
        offered = bootstrap_mean(values.ravel(), seed=seed, clusters=clusters)
        means = resampled_sums([values.ravel()], seed=seed, clusters=clusters)[:, 0] / values.size
        found[name] = offered, percentile_interval(means)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=4000, help="independent sets of documents of each size")
    parser.add_argument("--seed", type=int, default=1)
    draws, seed = (arguments := parser.parse_args()).draws, arguments.seed
    source = MarkovSource(seed, documents=draws * max(SIZES), length=LENGTH)
    shares = symbol_shares(source)
    chain = source.expected_nll(LENGTH)
    plain = -LENGTH * float(shares @ np.log(shares))
    truths = {"bits_per_byte": chain / LENGTH / math.log(2), "difference": (plain - chain) / LENGTH / math.log(2)}
    truths |= continuation_truths(source)
    print("truth:", ", ".join(f"{name} {value:.4f}" for name, value in truths.items()))
    print(f"{'n':>4} " + " ".join(f"{name:>24}" for name in truths))
    for size in SIZES:
        hits = {name: np.zeros(2) for name in truths}
        stream = scores(source, documents=draws * max(SIZES))
        random = np.random.default_rng([seed, 2, size])
        for draw in range(draws):
            found = perplexity_intervals(list(islice(stream, size)), draw)
            found |= sample_intervals(source, size, random, draw)
            for name, pair in found.items():
                hits[name] += [low <= truths[name] <= high for low, high in pair]
        cells = []
        for name in truths:
            offered, unwidened = hits[name] / draws
            error = math.sqrt(offered * (1 - offered) / draws)
            cells.append(f"{offered:7.1%} ± {error:.1%} ({unwidened:.1%})".rjust(24))
        print(f"{size:4} " + " ".join(cells), flush=True)


if __name__ == "__main__":
    main()
