"""The documents to train on, and the held-out ones."""

import pytest
from reading import texts

from textgen.data.config import DataConfig
from textgen.data.readers import held_out_documents, training_documents
from textgen.errors import UserError


def test_held_out_documents_are_all_of_the_validation_data_or_the_split_of_the_data(write):
    data = write("train.txt", "\n\n".join(f"Document number {i}." for i in range(100)))
    held_out = write("held-out.txt", "one\n\ntwo")
    named = held_out_documents(DataConfig(data=str(data), validation_data=str(held_out)))
    assert [document.text for document in named] == ["one", "two"]
    config = DataConfig(data=str(data), validation_fraction=0.2)
    split, rest = held_out_documents(config), list(training_documents(config))
    assert [d.text for d in split] == [t for i, t in texts(data).items() if t in {d.text for d in split}]
    assert (len(split), len(rest)) == (12, 88)
    assert {d.id for d in [*split, *rest]} == set(texts(data))


def test_no_held_out_document_is_an_error_that_names_the_flag(write):
    path = write("train.txt", "only one document")
    with pytest.raises(
        UserError, match=r"--validation-fraction 1e-09: no document of .* falls into the validation split"
    ):
        held_out_documents(DataConfig(data=str(path), validation_fraction=1e-9))
    with pytest.raises(UserError, match=r"--validation-data nowhere\.txt: there is no such file"):
        held_out_documents(DataConfig(data=str(path), validation_data="nowhere.txt"))
