"""Where the cache is."""

import pytest

from textgen.data.cache import cache_directory, create_cache
from textgen.errors import UserError


def test_the_environment_decides_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("TEXTGEN_CACHE", str(tmp_path / "cache"))
    assert cache_directory() == tmp_path / "cache" / "tokens"
    monkeypatch.delenv("TEXTGEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory("files") == tmp_path / "xdg" / "textgen" / "files"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_directory() == tmp_path / "home" / ".cache" / "textgen" / "tokens"


def test_a_cache_that_cannot_be_created_is_a_user_error(monkeypatch, tmp_path):
    monkeypatch.setenv("TEXTGEN_CACHE", str(tmp_path / "cache"))
    assert create_cache("tokens").is_dir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("TEXTGEN_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be written: Not a directory\. Set TEXTGEN_CACHE to a directory"):
        create_cache("tokens")
