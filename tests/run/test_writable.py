"""Whether a directory can be written, known without writing."""

from pathlib import Path

import pytest

from textgen.errors import UserError
from textgen.run.writable import check_writable


@pytest.mark.parametrize("place", ["/proc/textgen-run", "/sys/a/b", "file.txt", "file.txt/below/it"])
def test_an_unwritable_place_is_refused_and_nothing_is_touched(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    Path("file.txt").write_text("x", encoding="utf-8")
    with pytest.raises(UserError, match=r"--here .* cannot be written"):
        check_writable(Path(place), setting="--here")
    assert Path("file.txt").read_text(encoding="utf-8") == "x"


def test_a_directory_that_can_be_created_is_accepted_and_not_created(tmp_path):
    check_writable(tmp_path / "new" / "deep", setting="--here")
    assert list(tmp_path.iterdir()) == []
