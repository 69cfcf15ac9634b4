"""The cache's place, and what is said if it cannot be written."""

import os
import pwd

import pytest

from textgen.data.cache import cache_directory, check_cache, create_cache
from textgen.errors import UserError

REMEDY = "Set TEXTGEN_CACHE to a directory that you can write to."


def test_the_cache_is_in_its_variable_or_the_users_cache_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("TEXTGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "cache" / "tokens"
    monkeypatch.delenv("TEXTGEN_CACHE")
    assert cache_directory("downloads") == tmp_path / "xdg" / "textgen" / "downloads"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_directory() == tmp_path / "home" / ".cache" / "textgen" / "tokens"
    check_cache()
    assert not (tmp_path / "home").exists(), "nothing is written"
    assert create_cache("downloads").is_dir()


@pytest.mark.parametrize("place", ["/proc/x", "file.txt", "file.txt/x"])
@pytest.mark.parametrize("variable", ["TEXTGEN_CACHE", "HOME"])
def test_a_place_that_cannot_be_written_is_named_with_the_remedy(tmp_path, monkeypatch, variable, place):
    monkeypatch.delenv("TEXTGEN_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / place))
    (tmp_path / "file.txt").write_text("x", encoding="utf-8")
    for use in (check_cache, create_cache):
        with pytest.raises(UserError) as caught:
            use()
        message = str(caught.value)
        assert message.startswith("$TEXTGEN_CACHE ")
        assert "cannot be written" in message
        assert message.endswith(REMEDY)


def test_a_user_without_a_home_is_told(monkeypatch):
    for variable in ("TEXTGEN_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)

    def unknown(user):
        raise KeyError(user)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    expected = rf"^\$TEXTGEN_CACHE: it is not set, and there is no home directory. {REMEDY}$"
    for use in (check_cache, create_cache):
        with pytest.raises(UserError, match=expected):
            use()
    assert "HOME" not in os.environ
