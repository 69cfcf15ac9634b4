"""The fingerprint of all sources."""

from dataclasses import replace

from textgen.data.mixture.parts import WeightedPart
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


def test_the_fingerprint_depends_on_which_source_is_in_which_part_of_a_mixture():
    one, other = WeightedPart("a", 0.5), WeightedPart("b", 0.5)
    third = replace(ONE, name="c.txt")
    sources = [ONE, OTHER, third]
    divisions = [(), ((one, [ONE]), (other, [OTHER, third])), ((one, [ONE, OTHER]), (other, [third]))]
    assert len({DataSources(sources, parts=parts).fingerprint for parts in divisions}) == 3
