"""Windows with their tokens: each process has those of its own documents, and gets those of others that it scores."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textgen.evaluation.exchange import all_gather, deliver


@dataclass(frozen=True)
class Window:
    """Positions in a token sequence: one forward pass reads ``[start, end - 1)`` and scores ``[scored, end)``."""

    start: int
    scored: int
    end: int

    @property
    def inputs(self) -> int:
        """Number of tokens that the model reads."""
        return self.end - 1 - self.start

    @property
    def targets(self) -> int:
        """Number of tokens that are scored."""
        return self.end - self.scored


@dataclass(frozen=True)
class TokenWindow:
    """The tokens of one window.

    Attributes:
        inputs: token ids that the model reads, [length].
        targets: token ids that are scored, one after each of the last positions of ``inputs``, [targets].
        owners: index of the document that each target belongs to, [targets].
    """

    inputs: np.ndarray
    targets: np.ndarray
    owners: np.ndarray


class TokenWindows(Sequence[TokenWindow]):
    """The windows of documents, of which each process has its own, and gets those of others that it needs.

    Args:
        spans: each window as (index of its token sequence, positions in it).
        sequences: the token ids that this process knows, by index of the sequence.
        encode: returns the token ids of another sequence.
        owners: index of the document of each token, if there is a single sequence; None if each sequence is a document.
        own: whether windows of these sequences are this process's own, and no other's.

    Attributes:
        spans: the first argument.
        own: indices of this process's own windows.
    """

    def __init__(
        self,
        spans: Sequence[tuple[int, Window]],
        sequences: Mapping[int, np.ndarray],
        encode: Callable[[int], np.ndarray],
        owners: np.ndarray | None = None,
        *,
        own: bool = True,
    ) -> None:
        self.spans, self._sequences, self._encode, self._owners = spans, sequences, encode, owners
        self._received: dict[int, np.ndarray] = {}
        self.own = [index for index, (number, _) in enumerate(spans) if own and number in sequences]

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, index: int) -> TokenWindow:  # type: ignore[override]
        tokens = self._tokens(index).astype(np.int64)
        scored = len(tokens) - self.spans[index][1].targets
        return TokenWindow(tokens[:-1], tokens[scored:], self._target_owners(index))

    def exchange(self, processes: Any, wanted: Sequence[Iterable[int]]) -> None:
        """Send every process the tokens of the windows that it wants; every process calls it.

        Args:
            processes: an Accelerator.
            wanted: indices of the windows that each process wants; the same on every process.
        """
        if self._owners is not None or processes.num_processes == 1:
            return  # this process knows all sequences
        own = set(self.own)
        parcels = []
        for indices in wanted:
            sent = [index for index in indices if index in own]
            tokens = np.concatenate([np.zeros(0, np.int32), *map(self._tokens, sent)])
            small = tokens.max(initial=0) <= np.iinfo(np.uint16).max
            parcels.append((np.array(sent, np.int64), tokens.astype(np.uint16) if small else tokens))
        for indices, tokens in deliver(processes, parcels):
            ends = np.cumsum([self.spans[index][1].inputs + 1 for index in indices], dtype=np.int64)
            self._received |= zip(indices.tolist(), np.split(tokens, ends), strict=False)  # the last part is empty

    def occurrences(self, processes: Any, token: int) -> int:
        """How often a token is a target, over all processes; every process calls it."""
        own = sum(int((self._tokens(index)[-self.spans[index][1].targets :] == token).sum()) for index in self.own)
        return int(sum(part.sum() for part in all_gather(processes, np.array([own], np.int64))))

    def documents(self, index: int) -> list[int]:
        """Indices of the documents that have targets in a window, in order."""
        return sorted(set(self._target_owners(index).tolist()))

    def _tokens(self, index: int) -> np.ndarray:
        """The tokens that a window reads or scores."""
        if index in self._received:
            return self._received[index]
        number, window = self.spans[index]
        sequence = self._sequences[number] if number in self._sequences else self._encode(number)
        return sequence[window.start : window.end]

    def _target_owners(self, index: int) -> np.ndarray:
        number, window = self.spans[index]
        if self._owners is None:
            return np.full(window.targets, number)
        return self._owners[window.scored : window.end]
