import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from textgen.data.config import DataConfig
from textgen.data.corpus import load_held_out
from textgen.data.overlap import contamination_cache
from textgen.data.overlap.contamination import Contamination
from textgen.data.overlap.contamination_cache import load_contamination
from textgen.data.overlap.near_duplicates import NearDuplicate, NearDuplicates
from textgen.data.sources import find_data

SHARED = "the quick brown fox jumps over the lazy dog and runs into the dark forest"


def test_is_computed_once(write: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEXTGEN_CACHE", str(tmp_path / "cache"))
    train = write("train.txt", f"{SHARED}\n\nother text")
    held_out = write("held-out.txt", f"A clean text.\n\nx {SHARED}")
    config = DataConfig(data=str(train), validation_data=str(held_out))

    def load(config: DataConfig, n: int = 13) -> Contamination | None:
        sources = find_data(config)
        return load_contamination(config, sources, load_held_out(config, sources), n)

    first = load(config)
    assert first
    assert first.ids == {"held-out.txt#1"}
    assert first.near_duplicates == NearDuplicates(1, 0, ()), "the other document has fewer than five words"
    with monkeypatch.context() as patched:
        patched.setattr(contamination_cache, "find_contamination", lambda *_: pytest.fail("computed again"))
        assert load(config) == first
        assert load(config, 0) is None
        for other in (lambda: load(config, 14), lambda: load(replace(config, one_document=True))):
            with pytest.raises(pytest.fail.Exception):
                other()
    (entry,) = (tmp_path / "cache" / "contamination").glob("*.json")
    whole = entry.read_text()
    for damaged in ("{}", "", "[]", whole[:-40], whole.replace('"held_out_documents": 2', '"held_out_documents": 3')):
        assert damaged != whole
        entry.write_text(damaged)
        assert load(config) == first
    write("train.txt", "all of it changed")
    changed = load(config)
    assert changed
    assert changed.documents == ()


def test_what_is_scored_of_examples_is_part_of_the_key(write: Callable[[str, str], Path]) -> None:
    lines = [json.dumps({"prompt": f"{SHARED} {i}?", "completion": f" {i}"}) for i in range(40)]
    config = DataConfig(data=str(write("a.jsonl", "\n".join(lines))))
    for loss_on, expected in (("completion", False), ("all", True), ("completion", False)):
        chosen = replace(config, loss_on=loss_on)
        held_out = load_held_out(chosen)
        found = load_contamination(chosen, find_data(chosen), held_out, 13)
        assert found
        assert len(found.documents) == (len(held_out) if expected else 0)


def test_near_duplicates_are_counted_in_the_same_pass(write: Callable[[str, str], Path]) -> None:
    train, held_out = write("train.txt", f"{SHARED}\n\nother text\n\n{SHARED}!"), write("held-out.txt", "clean")
    config = DataConfig(data=str(train), validation_data=str(held_out))
    sources = find_data(config)
    for _ in ("computed", "from the cache"):
        found = load_contamination(config, sources, load_held_out(config, sources), 13)
        assert found
        assert found.near_duplicates == NearDuplicates(2, 1, (NearDuplicate("train.txt#2", "train.txt#0", 1.0),))
