"""The first rows of each file of the data, from which checks know what kinds of examples there are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from textgen.data.config import DataConfig
from textgen.data.document import Document
from textgen.data.examples.rows import LeftOut
from textgen.data.sources import DataSources, Source, read_documents, read_rows
from textgen.errors import UserError

_FILES, _ROWS = 32, 16  # so many files of each part of the data are looked at, and so many rows of each


@dataclass(frozen=True)
class Sample:
    """The first rows of what a flag names.

    Attributes:
        setting: the flag.
        data: its value.
        sources: where the data is.
        documents: texts and examples.
        left_out: rows of examples with nothing to train on.
    """

    setting: str
    data: str
    sources: list[Source]
    documents: list[Document]
    left_out: list[LeftOut]

    @property
    def name(self) -> str:
        """The flag and its value."""
        return f"{self.setting} {self.data}"

    @property
    def examples(self) -> list[Document]:
        """The examples of a task."""
        return [document for document in self.documents if document.is_example]

    @property
    def has_chats(self) -> bool:
        """Whether there are chats."""
        return any(document.messages for document in self.documents)


@dataclass(frozen=True)
class Samples:
    """The samples of all data of a run; None for what is not given, or not used.

    Attributes:
        train: of the data that is trained on; None in an evaluation.
        held_out: of the data that is scored; the same as ``train`` if part of that is held out.
        retained: of the text to retain.
    """

    train: Sample | None
    held_out: Sample
    retained: Sample | None

    def every(self) -> list[Sample]:
        """Each sample once."""
        found = [self.train, self.held_out, self.retained]
        return [one for i, one in enumerate(found) if one is not None and one not in found[:i]]

    def scored(self) -> list[Sample]:
        """The samples of data that is scored."""
        return [sample for sample in (self.held_out, self.retained) if sample is not None]


def sample_data(config: DataConfig, sources: DataSources, *, training: bool) -> Samples:
    """Read the first rows of the data that will be used.

    Args:
        config: names the data.
        sources: where it is.
        training: the data of ``--data`` is trained on.

    Raises:
        UserError: a row cannot be read, or no row of some data has anything to train on or score.
    """
    parts = [own for _, own in sources.parts] or [sources.train]
    with_own = sources.held_out is not None
    train = _sample("--data", config.data, parts, config) if training or not with_own else None
    held_out = _sample("--validation-data", config.validation_data, [sources.held_out], config) if with_own else train
    retained = _sample("--retain-data", config.retain_data, [sources.retained], config) if sources.retained else None
    assert held_out
    samples = Samples(train if training else None, held_out, retained)
    if problems := [problem for sample in samples.every() for problem in _blank(sample, config)]:
        raise UserError.of(problems)
    return samples


def _sample(setting: str, data: str | None, parts: Sequence[list[Source] | None], config: DataConfig) -> Sample:
    documents: list[Document] = []
    left_out: list[LeftOut] = []
    sources = [source for part in parts for source in part or []]
    for part in parts:
        for source in _spread(part or []):
            for row in islice(read_rows([source], config, setting=setting), _ROWS):
                if isinstance(row, LeftOut):
                    left_out.append(row)
                else:
                    documents.append(row)
    return Sample(setting, data or "", sources, documents, left_out)


def _spread(sources: list[Source]) -> list[Source]:
    """At most ``_FILES`` sources, the first and the last among them; plain texts hold no examples."""
    tables = [source for source in sources if source.kind != "text"]
    if len(tables) <= _FILES:
        return tables
    return [tables[i * (len(tables) - 1) // (_FILES - 1)] for i in range(_FILES)]


def _blank(sample: Sample, config: DataConfig) -> Iterator[str]:
    if sample.documents or not sample.left_out:
        return
    if next(read_documents(sample.sources, config, setting=sample.setting), None) is None:
        first = sample.left_out[0]
        yield (
            f"{sample.name}: there is nothing to train on or score. {first.place}: {first.reason}, and all other rows "
            "are left out for such reasons too. Provide completions or answers."
        )
