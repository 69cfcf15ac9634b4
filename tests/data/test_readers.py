"""The documents to train on are all that are not held out."""

from reading import texts

from textgen.data.config import DataConfig
from textgen.data.corpus import load_held_out
from textgen.data.readers import training_documents


def test_the_rest_of_the_data_is_trained_on(write):
    data = write("train.txt", "\n\n".join(f"Document number {i}." for i in range(100)))
    config = DataConfig(data=str(data), validation_fraction=0.2)
    split, rest = list(load_held_out(config)), list(training_documents(config))
    assert [d.text for d in rest] == [t for t in texts(data).values() if t in {d.text for d in rest}]
    assert (len(split), len(rest)) == (12, 88)
    assert {d.id for d in [*split, *rest]} == set(texts(data))


def test_with_validation_data_all_of_the_data_is_trained_on(write):
    data, held_out = write("train.txt", "a b\n\nc d"), write("held-out.txt", "one\n\ntwo")
    config = DataConfig(data=str(data), validation_data=str(held_out))
    assert [d.text for d in training_documents(config)] == ["a b", "c d"]
    assert [d.text for d in load_held_out(config)] == ["one", "two"]
