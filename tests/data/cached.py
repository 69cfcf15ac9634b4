"""What is in the cache, and texts to put there."""

from pathlib import Path

from textgen.data.cache import cache_directory

TEXTS = [f"Document number {i} has a few words of its own, {'and more ' * (i % 5)}so to say." for i in range(80)]


def entries(kind: str = "tokens") -> list[Path]:
    """Directories of the cache."""
    return [path for path in cache_directory(kind).glob("*") if path.is_dir()]
