"""A source of text whose entropy is known exactly: a Markov chain over letters and the space.

On any other text, nobody knows how good a model could become. Here the nll of every document under the source itself
follows from the chain, and no model of any tokenisation can do better on average: the token sequences that stand for
different texts of one length exclude each other, so that a model's probabilities of them sum to 1 at most, and the
expected nll under anything but the source is higher by the Kullback-Leibler divergence (Cover & Thomas 2006, §2.6).
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
# Byte → number of the symbol, −1 for what is none.
_DIGITS = np.array([SYMBOLS.find(chr(byte)) for byte in range(256)])

_LEAST = {"seed": 0, "states": 2, "order": 1, "documents": 2, "length": 16}
_MOST = {"states": len(SYMBOLS), "order": 3, "documents": 1_000_000, "length": 100_000}
_SHARPNESS = 6.0  # the higher, the more the next letter is decided by the ones before it
_FLOOR = 0.02  # shared out evenly in every context: whatever came before, every text is possible
_AT_ONCE = 1 << 20  # characters drawn at a time


@dataclass(frozen=True)
class MarkovSource:
    """Documents drawn independently from a stationary Markov chain; a function of these five numbers.

    Attributes:
        seed: decides the chain and the documents.
        states: how many different characters there are, the space among them.
        order: how many characters the next one depends on.
        documents: how many documents there are; the first ones are the same however many follow.
        length: their mean length in characters; each has its own, from half of that to one and a half times.
    """

    seed: int = 0
    states: int = 16
    order: int = 1
    documents: int = 300
    length: int = 800

    @classmethod
    def parse(cls, data: str, *, setting: str = "--data") -> "MarkovSource":
        """The source that ``markov`` or ``markov:seed=1,states=16`` names; what is left out has its default.

        Raises:
            UserError: it names something else; every wrong part of it is in the message.
        """
        name, _, given = data.partition(":")
        assert name == NAME, "see is_markov"
        known = [field.name for field in fields(cls)]
        numbers: dict[str, int] = {}
        problems = []
        for part in given.split(",") if given else []:
            key, equals, value = (piece.strip() for piece in part.partition("="))
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}."
                problems.append(f"{setting} {data}: {key!r} is no parameter of {NAME}; {hint}")
            elif key in numbers:
                problems.append(f"{setting} {data}: {key} is there twice; give it once.")
            elif not equals or not value.isdecimal() or not value.isascii():
                problems.append(f"{setting} {data}: {key} takes a whole number, such as {key}={getattr(cls, key)}.")
            else:
                numbers[key] = int(value)
                most = _MOST.get(key, math.inf)
                if not _LEAST[key] <= numbers[key] <= most:
                    limit = f"at least {_LEAST[key]}" if most == math.inf else f"{_LEAST[key]} to {most}"
                    problems.append(f"{setting} {data}: {key} takes {limit}, not {value}.")
        if problems:
            raise UserError.of(problems)
        return cls(**numbers)

    @cached_property
    def transitions(self) -> np.ndarray:
        """Probability of each symbol after each context, [states ** order, states].

        Context c is the number whose digits, to the base of ``states``, are its symbols; the oldest is the first.
        """
        random = np.random.default_rng([self.seed, 0])
        weights = random.random((self.states**self.order, self.states)) ** _SHARPNESS
        weights /= weights.sum(axis=1, keepdims=True)
        return (1 - _FLOOR) * weights + _FLOOR / self.states

    @cached_property
    def stationary(self) -> np.ndarray:
        """Probability of each context at any place of a document, [states ** order]; there is one such distribution,
        since every symbol can follow every context.
        """
        contexts = self.states**self.order
        share = np.full(contexts, 1 / contexts)
        for _ in range(100_000):
            # The oldest symbol is forgotten, and the new one becomes the last digit.
            joint = (share[:, None] * self.transitions).reshape(self.states, -1)
            following = joint.sum(axis=0)
            if np.abs(following - share).sum() < 1e-14:
                return following / following.sum()
            share = following
        raise AssertionError("a chain in which everything can follow everything forgets its beginning")

    @property
    def entropy_rate(self) -> float:
        """Bits per byte that a document costs in the long run: the entropy of the next symbol, averaged over contexts
        (Cover & Thomas 2006, theorem 4.2.4).
        """
        return float(self.stationary @ _entropy(self.transitions)) / math.log(2)

    def expected_nll(self, length: int) -> float:
        """Nats that a document of this many characters costs the source on average: its first context, and the rest."""
        assert length >= self.order, (length, self.order)
        return float(_entropy(self.stationary)) + (length - self.order) * self.entropy_rate * math.log(2)

    def nll(self, text: str) -> float:
        """Nats that this document costs the source; infinite for one that it cannot write."""
        digits = _DIGITS[np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8)]
        if not 0 <= digits.min(initial=0) <= digits.max(initial=0) < self.states:
            return math.inf
        known = min(len(digits), self.order)
        # Of a text shorter than a context: all the contexts that begin with it.
        first = self.stationary.reshape(self.states**known, -1).sum(axis=1)[self._contexts(digits, known)[0]]
        contexts = self._contexts(digits, self.order)[:-1] if len(digits) > self.order else digits[:0]
        return math.fsum([-math.log(first), *-np.log(self.transitions[contexts, digits[known:]])])

    def _contexts(self, digits: np.ndarray, size: int) -> np.ndarray:
        """The numbers of all runs of ``size`` digits, as `transitions` numbers them."""
        runs = len(digits) - size + 1
        numbers = np.zeros(runs, dtype=np.int64)
        for offset in range(size):
            numbers = numbers * self.states + digits[offset : offset + runs]
        return numbers

    def texts(self) -> Iterator[str]:
        """The documents. Each is drawn with random numbers of its own, keyed by its number."""
        longest = self.length + self.length // 2
        rows = max(1, _AT_ONCE // longest)
        for first in range(0, self.documents, rows):
            numbers = range(first, min(first + rows, self.documents))
            uniform = np.stack([np.random.default_rng([self.seed, 1, n]).random(2 + longest) for n in numbers])
            yield from self._draw(uniform)

    def _draw(self, uniform: np.ndarray) -> Iterator[str]:
        """A document from each row of ``uniform`` [documents, 2 + longest]: its length, first context, and symbols."""
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
    """Whether ``--data`` names a chain, well or badly."""
    return data.partition(":")[0] == NAME


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    """Entropy in nats along the last axis; all probabilities are positive."""
    return -(probabilities * np.log(probabilities)).sum(axis=-1)


def _invert(cumulative: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """The outcome that each uniform number [n] stands for, under cumulative probabilities [n or 1, outcomes]."""
    outcome = (cumulative <= uniform[:, None]).sum(axis=1)
    return np.minimum(outcome, cumulative.shape[1] - 1)  # rounding may leave the last sum a hair below 1
