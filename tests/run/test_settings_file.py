"""``config.yaml``: what was written is read back, and what no run can have written is damaged."""

import pytest

from textgen.run.settings_file import parse_settings, settings_text


def test_settings_are_read_back_in_order():
    settings = {"seed": 1, "learning_rate": 1e-05, "data": "next\x85line", "model": None, "dry_run": False}
    assert parse_settings(settings_text(settings)) == settings
    assert list(parse_settings(settings_text(settings)) or {}) == list(settings)
    assert settings_text(settings).isascii()


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"3", b"x", b"a: [", b"\xff\xfe", b"a: 2024-01-01", b"a: 2024-99-99", b"3: 4", b"a: !!binary eA==",
     b"? [1]\n: 2", b"a: !!python/name:os.system", b"[" * 5000],
)  # fmt: skip
def test_anything_else_is_damaged(content):
    assert parse_settings(content) is None
