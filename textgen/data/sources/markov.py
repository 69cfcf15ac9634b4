"""Synthetic text of exactly known entropy: a Markov chain over letters and the space.

For other texts, the best nll that a model could reach is unknown. Here the nll of every document under the source
itself follows from the chain, and no model can do better on average, whatever its tokenizer: token sequences that
decode to different texts are disjoint events, so a model's probabilities of all texts of one length sum to at most 1,
and the expected nll under any distribution other than the source is higher by the Kullback-Leibler divergence (Cover &
Thomas 2006, §2.6).
"""

import difflib
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from textgen.errors import UserError

NAME = "markov"
SYMBOLS = " abcdefghijklmnopqrstuvwxyz"  # ASCII, so that a character is a byte
_SYMBOL_OF_BYTE = np.array([SYMBOLS.find(chr(byte)) for byte in range(256)])  # −1: not a symbol

_MINIMUM = {"seed": 0, "states": 2, "order": 1, "documents": 2, "length": 16}
_MAXIMUM = {"states": len(SYMBOLS), "order": 3, "documents": 1_000_000, "length": 100_000}
_SHARPNESS = 6.0  # exponent of the random weights: the higher, the more predictable the next symbol
_FLOOR = 0.02  # probability spread evenly over all symbols in every context, so that every text is possible
_BATCH_CHARACTERS = 1 << 20  # drawn at a time


@dataclass(frozen=True)
class MarkovSource:
    """Documents drawn independently from a stationary Markov chain, fully determined by these five numbers.

    Attributes:
        seed: random seed of the chain and of the documents.
        states: number of different characters, including the space.
        order: number of preceding characters that the next one depends on.
        documents: number of documents; increasing it only appends documents.
        length: mean length of a document in characters; lengths are uniform from half to one and a half times that.
    """

    seed: int = 0
    states: int = 16
    order: int = 1
    documents: int = 300
    length: int = 800

    @classmethod
    def parse(cls, data: str, *, setting: str = "--data") -> "MarkovSource":
        """The source described by ``markov`` or, for example, ``markov:seed=1,states=16``; other parameters keep their
        defaults.

        Args:
            data: the description of the source.
            setting: the flag that named the source, for error messages.

        Raises:
            UserError: the description is invalid; the message lists every problem.
        """
        name, _, given = data.partition(":")
        assert name == NAME, "is_markov was true"
        known = [field.name for field in fields(cls)]
        numbers: dict[str, int] = {}
        problems = []
        for part in given.split(",") if given else []:
            key, equals, value = (piece.strip() for piece in part.partition("="))
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}."
                problems.append(f"{setting} {data}: unknown parameter {key!r} of {NAME}; {hint}")
            elif key in numbers:
                problems.append(f"{setting} {data}: {key} is specified twice.")
            elif not equals or not value.isdecimal() or not value.isascii():
                problems.append(f"{setting} {data}: {key} must be a whole number, such as {key}={getattr(cls, key)}.")
            else:
                numbers[key] = int(value)
                maximum = _MAXIMUM.get(key, math.inf)
                if not _MINIMUM[key] <= numbers[key] <= maximum:
                    limit = f"at least {_MINIMUM[key]}" if maximum == math.inf else f"from {_MINIMUM[key]} to {maximum}"
                    problems.append(f"{setting} {data}: {key} must be {limit}, not {value}.")
        if problems:
            raise UserError.of(problems)
        return cls(**numbers)

    @cached_property
    def transitions(self) -> np.ndarray:
        """Probability of each symbol after each context, [states ** order, states].

        The index of a context is the number whose base-``states`` digits are its symbols, the oldest symbol first.
        """
        random = np.random.default_rng([self.seed, 0])
        weights = random.random((self.states**self.order, self.states)) ** _SHARPNESS
        weights /= weights.sum(axis=1, keepdims=True)
        return (1 - _FLOOR) * weights + _FLOOR / self.states

    @cached_property
    def stationary(self) -> np.ndarray:
        """Probability of each context at any position of a document, [states ** order].

        The distribution is unique, since every symbol can follow every context.
        """
        contexts = self.states**self.order
        current = np.full(contexts, 1 / contexts)
        for _ in range(100_000):
            # The new symbol becomes the last digit; summing over the first digit drops the oldest symbol.
            joint = (current[:, None] * self.transitions).reshape(self.states, -1)
            following = joint.sum(axis=0)
            if np.abs(following - current).sum() < 1e-14:
                return following / following.sum()
            current = following
        raise AssertionError("power iteration converges, since every symbol can follow every context")

    @property
    def entropy_rate(self) -> float:
        """Bits per byte of long documents: the entropy of the next symbol, averaged over contexts.

        Source: Cover & Thomas 2006, theorem 4.2.4.
        """
        return float(self.stationary @ _entropy(self.transitions)) / math.log(2)

    def expected_nll(self, length: int) -> float:
        """Expected nll in nats under the source of a document of ``length`` characters: first context plus the rest."""
        assert length >= self.order, (length, self.order)
        return float(_entropy(self.stationary)) + (length - self.order) * self.entropy_rate * math.log(2)

    def nll(self, text: str) -> float:
        """Nll of a document in nats under the source; infinite if it contains other characters."""
        digits = _SYMBOL_OF_BYTE[np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8)]
        if not 0 <= digits.min(initial=0) <= digits.max(initial=0) < self.states:
            return math.inf
        known = min(len(digits), self.order)
        # A text shorter than a context has the probability of all the contexts that begin with it.
        first = self.stationary.reshape(self.states**known, -1).sum(axis=1)[self._contexts(digits, known)[0]]
        contexts = self._contexts(digits, self.order)[:-1] if len(digits) > self.order else digits[:0]
        return math.fsum([-math.log(first), *-np.log(self.transitions[contexts, digits[known:]])])

    def _contexts(self, digits: np.ndarray, size: int) -> np.ndarray:
        """The context index, as in ``transitions``, of every window of ``size`` digits."""
        windows = len(digits) - size + 1
        indices = np.zeros(windows, dtype=np.int64)
        for offset in range(size):
            indices = indices * self.states + digits[offset : offset + windows]
        return indices

    def texts(self) -> Iterator[str]:
        """The documents in order; each is drawn from its own random generator, seeded by its index."""
        longest = self.length + self.length // 2
        rows = max(1, _BATCH_CHARACTERS // longest)
        for first in range(0, self.documents, rows):
            numbers = range(first, min(first + rows, self.documents))
            uniform = np.stack([np.random.default_rng([self.seed, 1, n]).random(2 + longest) for n in numbers])
            yield from self._draw(uniform)

    def _draw(self, uniform: np.ndarray) -> Iterator[str]:
        """A document from each row of uniform numbers [documents, 2 + longest]: length, first context, then symbols."""
        shortest = self.length - self.length // 2
        lengths = shortest + (uniform[:, 0] * (2 * (self.length // 2) + 1)).astype(np.int64)
        context = _invert(np.cumsum(self.stationary)[None], uniform[:, 1])
        columns = [context // self.states**power % self.states for power in reversed(range(self.order))]
        cumulative = np.cumsum(self.transitions, axis=1)
        for position in range(self.order, int(lengths.max())):
            symbol = _invert(cumulative[context], uniform[:, 2 + position])
            columns.append(symbol)
            context = (context * self.states + symbol) % len(self.transitions)
        alphabet = np.frombuffer(SYMBOLS.encode("ascii"), dtype=np.uint8)
        for row, length in zip(alphabet[np.stack(columns, axis=1)], lengths, strict=True):
            yield row[:length].tobytes().decode("ascii")


def is_markov(data: str) -> bool:
    """Whether ``--data`` describes a synthetic source, valid or not."""
    return data.partition(":")[0] == NAME


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    """Entropy in nats along the last axis; all probabilities are positive."""
    return -(probabilities * np.log(probabilities)).sum(axis=-1)


def _invert(cumulative: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Inverse transform sampling: the outcome for each uniform number [n].

    Args:
        cumulative: cumulative probabilities, [n or 1, outcomes].
        uniform: uniform random numbers in [0, 1), [n].
    """
    outcome = (cumulative <= uniform[:, None]).sum(axis=1)
    return np.minimum(outcome, cumulative.shape[1] - 1)  # rounding can leave the last sum slightly below 1
