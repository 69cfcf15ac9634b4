"""Datasets of the hub: refused with a remedy without a network, and read with one (a stand-in for the hub here)."""

import datasets
import pytest
from reading import error_message

from textgen.data.config import DataConfig
from textgen.data.sources.hub import hub_rows
from textgen.data.sources.source import Source
from textgen.errors import UserError

SOURCE = Source("some-one/data:test", "hub", "some-one/data:test", "123")


@pytest.mark.parametrize("data", ["wikitext", "some-one/some-data", "some-one/some-data:validation"])
def test_a_hub_dataset_without_a_network_is_refused_with_the_remedy(data):
    message = error_message(data)
    expected = f"--data {data}: there is no such file or directory, and it cannot be opened as a hub dataset: "
    assert message.startswith(expected)
    assert message.endswith(" HF_HUB_OFFLINE is set: unset it, or name a local path.")


def test_the_text_column_of_the_split_is_read(monkeypatch):
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((arguments, options))
        return datasets.Dataset.from_dict({"body": ["one", None, "two"], "n": [1, 2, 3]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    config = DataConfig(text_column="body", data_config="small")
    assert list(hub_rows(SOURCE, config)) == ["one", "", "two"]
    assert asked == [(("some-one/data", "small"), {"split": "test"})]
    with pytest.raises(UserError, match=r"--text-column text: --data some-one/data:test has no such column\. It"):
        list(hub_rows(SOURCE, DataConfig()))
    with pytest.raises(UserError, match="--text-column n: row 0 of some-one/data:test: the value is of type int"):
        list(hub_rows(SOURCE, DataConfig(text_column="n")))


def test_the_root_cause_of_a_failure_is_told(monkeypatch):
    def load_dataset(*arguments, **options):
        try:
            raise OSError("the disk is full")
        except OSError as error:
            raise RuntimeError("An error occurred") from error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UserError, match="--data some-one/data:test: cannot be read: the disk is full"):
        list(hub_rows(SOURCE, DataConfig()))
