"""Where documents are read from: files, bundled corpora and hub datasets."""

import hashlib
import json
from dataclasses import dataclass

from textgen.data.mixture.parts import WeightedPart


@dataclass(frozen=True)
class Source:
    """One file, bundled corpus or hub dataset that documents are read from.

    Attributes:
        name: prefix of its documents' ids: a file's path below the directory of ``--data``, or what ``--data`` names.
        kind: "bundled", "hub", or the ``kind`` of the file's format.
        location: path of a file; otherwise what ``--data`` names.
        fingerprint: changes when the content does.
    """

    name: str
    kind: str
    location: str
    fingerprint: str


@dataclass(frozen=True)
class DataSources:
    """The sources of a run's training and held-out documents.

    Attributes:
        train: the sources of ``--data``.
        held_out: the sources of ``--validation-data``; None if part of ``--data`` is held out instead.
        retained: the sources of ``--retain-data``; None without it. Not part of the fingerprint, since no token and no
            training step depends on them.
        parts: of a mixture, each part with its sources, which are also in ``train``.
        fraction: the fraction of ``train`` to hold out, if it is known; otherwise ``--validation-fraction`` decides,
            and at least one document is held out.
        notes: what was decided about the data and should be printed, such as files that were passed over.
    """

    train: list[Source]
    held_out: list[Source] | None = None
    retained: list[Source] | None = None
    notes: tuple[str, ...] = ()
    parts: tuple[tuple[WeightedPart, list[Source]], ...] = ()
    fraction: float | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the names and contents of the sources of training and held-out text."""
        parts = [_fingerprint(self.train), _fingerprint(self.held_out) if self.held_out else None]
        parts += [_fingerprint(sources) for _, sources in self.parts]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _fingerprint(sources: list[Source]) -> str:
    return hashlib.sha256(json.dumps([(s.name, s.kind, s.fingerprint) for s in sources]).encode()).hexdigest()
