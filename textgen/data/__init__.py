"""Sources → documents → tokens → blocks → batches.

In the order of the data: ``sources/`` finds and checks what ``--data`` names and reads documents from it, with the file
formats of ``formats/``; ``split.py`` decides which are held out (``readers.py``); ``corpus.py`` has the tokenized ones,
from a cache on disk (``cache.py``, ``build_entries.py``, ``tokens/``), examples of tasks with ``examples/``; and
``blocks.py`` cuts the tokens (``token_stream.py``) into the blocks of each step, in the order of ``order.py``.
``overlap/`` looks for held-out text in the training text.
``mixture/`` and ``mixed_corpus.py`` combine several sources with weights. ``dataset.py`` is the simplest introduction.
"""

from typing import TYPE_CHECKING

from textgen.data.document import Document

if TYPE_CHECKING:
    from textgen.data.dataset import TextDataset

__all__ = ["Document", "TextDataset"]


def __getattr__(name: str) -> object:
    # TextDataset imports torch, which takes seconds; parsing flags should not.
    if name == "TextDataset":
        from textgen.data.dataset import TextDataset

        return TextDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
