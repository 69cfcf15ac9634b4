"""Sources → documents → tokens → blocks → batches."""

from textgen.data.document import Document

__all__ = ["Document", "TextDataset"]


def __getattr__(name: str) -> object:
    # TextDataset needs torch, which costs seconds; parsing flags must not pay for it.
    if name == "TextDataset":
        from textgen.data.dataset import TextDataset

        return TextDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
