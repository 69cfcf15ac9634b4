"""Size and power of the label-swap test, and coverage of its interval, on synthetic texts; `coverage.py` runs it.

A *human* text is 40 words: from a vocabulary of 500 with frequencies ∝ 1 / (rank + 2), a third of them from ten words
that are the prompt's topic. Each text of a strategy repeats its last five words from a random place on with a
probability: 0, a quarter (most of its texts are as good as the human ones), or nine in ten (like greedy decoding by a
small model).

The test is compared with Student's t over the standard error of a paired bootstrap (a jackknife for distinct-n and
Zipf), which needs no arrangements. Both are textgen's own estimates of the same texts.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from textgen.evaluation.quality.ngrams import distinct_n, diversity, zipf_coefficient
from textgen.evaluation.quality.self_bleu import self_bleu_scores
from textgen.evaluation.quality.text_metrics import TEXT_METRICS, TextSet
from textgen.evaluation.uncertainty.bootstrap import Interval, jackknife_error
from textgen.evaluation.uncertainty.estimate import Estimate, estimate_of_mean, estimate_of_ratio
from textgen.evaluation.uncertainty.label_swap import Difference, Effort, arrangements
from textgen.evaluation.uncertainty.significance import difference, holm, step_down
from textgen.evaluation.uncertainty.student_t import two_sided_p, two_sided_quantile

PROMPTS = {8: 1, 16: 1, 64: 2, 256: 4}  # number of prompts → share of the trials
METRICS = ("nll", "diversity", "distinct_2", "self_bleu_4", "zipf")
WORDS, VOCABULARY, TOPIC, LOOP = 40, 500, 10, 5
LOOPING = {"equal": 0.0, "a quarter loops": 0.25, "nine in ten loop": 0.9}  # share of the strategy's texts
EFFORT = Effort(8, 199)  # so that thousands of tests take minutes; the size does not depend on it
FREQUENCIES = 1 / (np.arange(VOCABULARY) + 3)
FREQUENCIES /= FREQUENCIES.sum()

Estimates = dict[str, Estimate]


@dataclass
class Count:
    """Of a test and its interval: rejections, intervals that contain the truth, and their widths."""

    rejected: list[bool] = field(default_factory=list)
    covered: list[bool] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)

    def add(self, p: float, interval: Interval, truth: float) -> None:
        self.rejected.append(p < 0.05)
        self.covered.append(interval[0] <= truth <= interval[1])
        self.widths.append(interval[1] - interval[0])


def draw_texts(random: np.random.Generator, topics: np.ndarray, looping: float) -> tuple[list[str], np.ndarray]:
    """A text for each topic [prompts, TOPIC], and its nats under the word frequencies [prompts]."""
    prompts = len(topics)
    words = random.choice(VOCABULARY, size=(prompts, WORDS), p=FREQUENCIES)
    own = topics[np.arange(prompts)[:, None], random.integers(TOPIC, size=words.shape)]
    words = np.where(random.random(words.shape) < 1 / 3, own, words)
    for row in np.flatnonzero(random.random(prompts) < looping):
        start = random.integers(LOOP, WORDS - LOOP)
        words[row, start:] = np.resize(words[row, start - LOOP : start], WORDS - start)
    return [" ".join(map(str, row)) for row in words], -np.log(FREQUENCIES)[words].sum(axis=1)


def draw_pair(random: np.random.Generator, prompts: int, looping: float) -> list[tuple[list[str], np.ndarray]]:
    topics = random.integers(VOCABULARY, size=(prompts, TOPIC))
    return [draw_texts(random, topics, share) for share in (0.0, looping)]


def estimates(texts: list[str], nats: np.ndarray, seed: int) -> Estimates:
    clusters = list(range(len(texts)))
    given = TextSet(texts, [WORDS] * len(texts), clusters)
    found = {name: TEXT_METRICS[name](given, seed) for name in METRICS if name in TEXT_METRICS}
    return found | {"nll": estimate_of_ratio(nats, [WORDS] * len(texts), clusters=clusters, seed=seed)}


def label_swap(a: Estimate, b: Estimate, seed: int) -> tuple[float, Interval]:
    """p value and interval in some of the arrangements, the observed one among them."""
    assert a.parts is not None
    assert b.parts is not None
    swapped = arrangements(a.prompts, seed, EFFORT)
    first, second = a.parts.exchanged(a.parts.parts, b.parts.parts, swapped)
    found = Difference(b.value - a.value, a.prompts, second - first, swapped.sum(axis=1))
    p = found.p_value()
    assert p is not None
    return p, found.interval()


def student(a: Estimate, b: Estimate) -> tuple[float, Interval]:
    """p value and interval from the standard error of the paired bootstrap or jackknife."""
    value, n = b.value - a.value, a.prompts
    if a.replicates is not None and b.replicates is not None:
        error = float((b.replicates - a.replicates).std() * math.sqrt(n / (n - 1)))
    else:
        assert a.left_out is not None
        assert b.left_out is not None
        error = jackknife_error(b.left_out - a.left_out)
    reach = two_sided_quantile(n - 1) * error
    p = two_sided_p(value / error, n - 1) if error else float(value == 0)
    return max(p, 2.0 ** (1 - n)), (value - reach, value + reach)


def true_differences(prompts: int, looping: float, seed: int, draws: int) -> dict[str, float]:
    """The expected difference of each metric over this number of prompts."""
    random = np.random.default_rng([seed, prompts, 99])
    sums = dict.fromkeys(METRICS, 0.0)
    for _ in range(draws if looping else 0):
        human, other = (values(*one) for one in draw_pair(random, prompts, looping))
        for name in METRICS:
            sums[name] += (other[name] - human[name]) / draws
    return sums


def values(texts: list[str], nats: np.ndarray) -> dict[str, float]:
    found = {"nll": float(nats.mean()) / WORDS, "diversity": diversity(texts), "distinct_2": distinct_n(texts, 2)}
    return found | {"self_bleu_4": float(self_bleu_scores(texts, 4).mean()), "zipf": zipf_coefficient(texts)}


def simulate(prompts: int, looping: float, trials: int, seed: int) -> dict[str, tuple[Count, Count]]:
    """By metric: Student's t, the label-swap test."""
    truth = true_differences(prompts, looping, seed, draws=max(100, 4 * trials * 8 // prompts))
    found = {name: (Count(), Count()) for name in METRICS}
    for trial in range(trials):
        random = np.random.default_rng([seed, prompts, round(100 * looping), trial])
        human, other = (estimates(*one, trial) for one in draw_pair(random, prompts, looping))
        for name, counts in found.items():
            counts[0].add(*student(human[name], other[name]), truth[name])
            counts[1].add(*label_swap(human[name], other[name], trial), truth[name])
    return found


Draw = Callable[[np.random.Generator, int], np.ndarray]
SKEWED: dict[str, tuple[Draw, int]] = {
    "half spread": (lambda random, size: random.normal(0, 0.5, size), 1),
    "skewed": (lambda random, size: random.exponential(1, size) - 1, 1),
    "skewed, 4 samples": (lambda random, size: random.exponential(1, size) - 1, 4),
}
"""Strategies with the mean of a human text whose values are normal, but another distribution; samples per prompt."""


def sizes_of_unequal_texts(prompts: int, trials: int, seed: int) -> Iterator[tuple[str, Count, Count]]:
    """Texts that cannot be exchanged but have equal means: how often the tests reject that."""
    clusters = list(range(prompts))
    for name, (draw, samples) in SKEWED.items():
        counts = Count(), Count()
        for trial in range(trials):
            random = np.random.default_rng([seed, prompts, 7, trial])
            values = draw(random, prompts * samples)
            human = estimate_of_mean(random.normal(0, 1, prompts), clusters=clusters, seed=trial)
            other = estimate_of_mean(values, clusters=np.repeat(clusters, samples).tolist(), seed=trial)
            counts[0].add(*student(human, other), 0.0)
            counts[1].add(*label_swap(human, other, trial), 0.0)
        yield (name, *counts)


def families(prompts: int, looping: int, trials: int, seed: int) -> list[list[bool]]:
    """Ten strategies against one human text, of which so many loop: whether any of the others is called different, and
    whether the first that loops is; each with Holm's correction of the test, and by step-down maxT."""
    any_false: list[list[bool]] = [[], []]
    found: list[list[bool]] = [[], []]
    for trial in range(trials):
        random = np.random.default_rng([seed, prompts, 31, looping, trial])
        topics = random.integers(VOCABULARY, size=(prompts, TOPIC))
        human = _diversity(draw_texts(random, topics, 0.0)[0])
        texts = [draw_texts(random, topics, 0.9 if number < looping else 0.0)[0] for number in range(10)]
        differences = [difference(human, _diversity(one), seed=trial) for one in texts]
        corrected = holm([one.p_value() for one in differences]), step_down(differences)
        for way, p_values in enumerate(corrected):
            significant = [p is not None and p < 0.05 for p in p_values]
            any_false[way].append(any(significant[looping:]))
            found[way].append(significant[0])
    return [*any_false, *found]


def _diversity(texts: list[str]) -> Estimate:
    clusters = list(range(len(texts)))
    return TEXT_METRICS["diversity"](TextSet(texts, [WORDS] * len(texts), clusters), 0)


def rate(values: list[bool]) -> str:
    return f"{100 * np.mean(values):.1f}"


def main(trials: int, seed: int) -> None:
    """Print the tables, in percent; a cell is Student's t over the bootstrap → the label-swap test, if not titled."""
    for title, looping in LOOPING.items():
        print(f"\n{title}: rejected at 5 %; in brackets, intervals that contain the true difference")
        print("| prompts | trials | " + " | ".join(METRICS) + " |\n| ---: | ---: |" + " ---: |" * len(METRICS))
        for prompts, share in PROMPTS.items():
            found = simulate(prompts, looping, trials // share, seed)
            cells = [
                f"{rate(old.rejected)} → {rate(new.rejected)} ({rate(old.covered)} → {rate(new.covered)})"
                for old, new in found.values()
            ]
            print(f"| {prompts} | {trials // share} | " + " | ".join(cells) + " |", flush=True)
    print("\ntexts of equal mean but another distribution: rejected at 5 %")
    print("| prompts | trials | " + " | ".join(SKEWED) + " |\n| ---: | ---: |" + " ---: |" * len(SKEWED))
    for prompts in PROMPTS:
        rows = sizes_of_unequal_texts(prompts, 4 * trials, seed)
        cells = [f"{rate(a.rejected)} → {rate(b.rejected)}" for _, a, b in rows]
        print(f"| {prompts} | {4 * trials} | " + " | ".join(cells) + " |", flush=True)
    print("\nten strategies, diversity, two looping or none: Holm → step-down")
    print("| prompts | trials | any false, none loop | any false, two loop | the first that loops |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for prompts in (8, 16, 64):
        alone, some = (families(prompts, looping, trials, seed) for looping in (0, 2))
        cells = [f"{rate(a)} → {rate(b)}" for a, b in (alone[:2], some[:2], some[2:])]
        print(f"| {prompts} | {trials} | " + " | ".join(cells) + " |", flush=True)
