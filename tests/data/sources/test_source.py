"""The fingerprint of all sources."""

from dataclasses import replace

from textgen.data.sources import DataSources, Source

ONE, OTHER = Source("a.txt", "text", "/x/a.txt", "123"), Source("b.txt", "text", "/x/b.txt", "456")


def test_the_fingerprint_depends_on_names_kinds_and_contents_and_not_on_places_or_notes():
    first = DataSources([ONE, OTHER]).fingerprint
    moved = [replace(ONE, location="/y/a.txt"), OTHER]
    assert DataSources(moved, notes=("note",)).fingerprint == first
    changed = [replace(ONE, name="c.txt"), replace(ONE, kind="json"), replace(ONE, fingerprint="124")]
    others = [[source, OTHER] for source in changed] + [[OTHER, ONE], [ONE]]
    prints = {DataSources(sources).fingerprint for sources in others} | {DataSources([ONE], [OTHER]).fingerprint}
    assert len(prints | {first}) == 7
