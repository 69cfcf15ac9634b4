"""Directories that can be written and locked, and others."""

from textgen.commands.checkup import places
from textgen.commands.checkup.places import check_place, check_places, lock_problem


def test_a_place_that_does_not_exist_yet_is_fine_and_is_not_created(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "_LITTLE", 0)
    finding = check_place("runs", tmp_path / "a" / "b", "--run-dir")
    assert finding.state == "ok"
    assert finding.text.startswith(f"runs: {tmp_path / 'a' / 'b'}, ")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_a_fault(tmp_path):
    (tmp_path / "file").touch()
    finding = check_place("cache", tmp_path / "file", "$TEXTGEN_CACHE")
    assert (finding.state, finding.mend) == ("fault", "Set $TEXTGEN_CACHE to a directory that you can write to.")


def test_little_space_is_a_note(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "free_bytes", lambda path: 1e9)
    finding = check_place("runs", tmp_path, "--run-dir")
    assert finding.state == "note"
    assert "1.0 GB free" in finding.text


def test_a_file_system_without_locks_is_a_note(tmp_path, monkeypatch):
    assert lock_problem(tmp_path) == ""
    monkeypatch.setattr(places, "lock_problem", lambda path: "No locks available")
    assert "it has no file locks: No locks available" in check_place("runs", tmp_path, "--run-dir").text


def test_without_a_home_the_cache_has_no_place(monkeypatch):
    monkeypatch.delenv("TEXTGEN_CACHE", raising=False)
    monkeypatch.setattr(places, "cache_directory", _no_home)
    states = [finding.state for finding in check_places()]
    assert states[0] == "fault"
    assert len(states) == 3


def _no_home():
    from textgen.errors import UserError

    raise UserError("$TEXTGEN_CACHE: it is not set, and there is no home directory.")
