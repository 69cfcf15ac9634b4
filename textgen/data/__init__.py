"""Sources → documents → tokens → blocks → batches.

In the order of the data: ``sources.py`` finds and checks what ``--data`` names (``bundled.py``, ``markov.py`` and
``file_checks.py`` help), ``readers.py`` reads documents from it, ``split.py`` decides which are held out, ``corpus.py``
tokenizes them into a cache on disk, and ``blocks.py`` cuts the tokens into the blocks of each step. ``overlap/`` looks
for held-out text in the training text, and ``contamination_cache.py`` keeps the result. ``dataset.py``, a plain PyTorch
dataset, is the simplest introduction.
"""

from textgen.data.document import Document

__all__ = ["Document", "TextDataset"]


def __getattr__(name: str) -> object:
    # TextDataset imports torch, which takes seconds; parsing flags should not.
    if name == "TextDataset":
        from textgen.data.dataset import TextDataset

        return TextDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
