"""Sources → documents → tokens → blocks → batches.

In the order of the data: ``sources.py`` finds and checks what ``--data`` names (``bundled.py``, ``markov.py`` and
``file_checks.py`` help, and ``fingerprints.py`` recognizes known files), ``readers.py`` reads documents from it,
``split.py`` decides which are held out, ``corpus.py`` loads the tokenized ones from a cache, into which
``build_entries.py`` puts them with the help of ``tokens/``, ``blocks.py`` cuts the tokens into the blocks of each step,
and ``order.py`` says which come when. ``dataset.py``, a plain PyTorch dataset, is the simplest introduction.
"""

from textgen.data.document import Document

__all__ = ["Document", "TextDataset"]


def __getattr__(name: str) -> object:
    # TextDataset imports torch, which takes seconds; parsing flags should not.
    if name == "TextDataset":
        from textgen.data.dataset import TextDataset

        return TextDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
