"""Data files and an empty cache for the tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cached import TEXTS

from textgen.data.config import DataConfig


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes | str], Path]:
    """Writes a file, and returns its path."""

    def write(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache."""
    monkeypatch.setenv("TEXTGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., DataConfig]:
    """Writes texts to a file, and returns settings that name it: ``config(texts, validation_fraction=0.2)``."""

    def write(texts: list[str] = TEXTS, **settings: Any) -> DataConfig:
        path = tmp_path / "texts.txt"
        path.write_text("\n\n".join(texts), encoding="utf-8")
        return DataConfig(data=str(path), **({"block_size": 16} | settings))

    return write
