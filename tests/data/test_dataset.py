"""Texts as a plain PyTorch dataset."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, default_collate

from textgen.data import TextDataset
from textgen.errors import UserError

TEXTS = ["One text.", "Another text, a little longer.", "  \n", "The last."]


def test_items_are_blocks_of_one_length_with_unshifted_labels(tokenizer):
    dataset = TextDataset(TEXTS, tokenizer, block_size=8)
    for item in dataset:
        assert item.keys() == {"input_ids", "labels"}
        assert all(tensor.shape == (8,) and tensor.dtype == torch.int64 for tensor in item.values())
    for i in range(len(dataset) - 1):
        assert torch.equal(dataset[i]["input_ids"], dataset[i]["labels"])
    last = dataset[len(dataset) - 1]
    padding = last["labels"] == -100
    assert torch.equal(last["input_ids"][~padding], last["labels"][~padding])
    assert torch.equal(dataset[-1]["input_ids"], last["input_ids"])


def test_the_last_block_is_padded_and_padding_has_no_loss(tokenizer):
    ids = tokenizer.encode("One text.")
    dataset = TextDataset(["One text."], tokenizer, block_size=len(ids) + 1)
    assert len(dataset) == 2
    assert dataset[0]["labels"].tolist() == [0, *ids]
    assert dataset[1]["labels"].tolist() == [ids[-1], 0] + [-100] * (len(ids) - 1)


@given(texts=st.lists(st.text(max_size=40), min_size=1, max_size=6), block_size=st.integers(2, 16))
def test_every_token_except_the_first_is_a_target_once(tokenizer, texts, block_size):
    tokens = [0]
    for text in texts:
        if text.strip():
            tokens += [*tokenizer.encode(text), 0]
    if len(tokens) < block_size:
        with pytest.raises(UserError, match=f"the texts have only {len(tokens)} tokens"):
            TextDataset(texts, tokenizer, block_size)
        return
    labels = torch.stack([item["labels"] for item in TextDataset(texts, tokenizer, block_size)])
    scored = labels[:, 1:]
    assert scored[scored != -100].tolist() == tokens[1:]


@pytest.mark.parametrize(
    ("texts", "block_size", "expected"),
    [
        (["short"], 64, "block_size 64: the texts have only . tokens, fewer than one block"),
        ([], 2, "have only 1 tokens"),
        (["some text"], 1, "block_size 1: must be at least 2"),
        (["some text"], 0, "block_size 0"),
        ("some text", 2, r"expected a list of texts, got a string\. Use \[text\]"),
    ],
)
def test_invalid_arguments_are_a_value_error_with_the_reason(tokenizer, texts, block_size, expected):
    with pytest.raises(ValueError, match=expected):
        TextDataset(texts, tokenizer, block_size)


def test_a_tokenizer_needs_an_end_of_text_or_begin_of_text_token(tokenizer_with):
    with pytest.raises(UserError, match="no end-of-text token"):
        TextDataset(TEXTS, tokenizer_with(), block_size=4)
    assert TextDataset(TEXTS, tokenizer_with(bos_token="<|endoftext|>"), block_size=4)[0]["input_ids"][0] == 0


def test_documents_begin_with_begin_of_text_if_the_tokenizer_has_one(tokenizer_with):
    marked = tokenizer_with(eos_token="<|endoftext|>", bos_token="<mark>")
    tokens = TextDataset(["a", "b"], marked, block_size=4).stream.ids.tolist()
    bos, (a, b) = marked.bos_token_id, marked.convert_tokens_to_ids(["a", "b"])
    assert tokens == [bos, a, 0, bos, b, 0]


def test_an_index_out_of_range_is_an_index_error(tokenizer):
    dataset = TextDataset(TEXTS, tokenizer, block_size=8)
    for index in (len(dataset), -len(dataset) - 1):
        with pytest.raises(IndexError, match=f"of {len(dataset)}"):
            dataset[index]


def test_items_collate_into_batches_with_a_loss(tokenizer, tiny_gpt2):
    dataset, model = TextDataset(TEXTS, tokenizer, block_size=8), tiny_gpt2()
    with torch.no_grad():
        two = model(**default_collate([dataset[0], dataset[1]])).loss
        each = [model(**default_collate([dataset[i]])).loss for i in (0, 1)]
    assert torch.isclose(two, (each[0] + each[1]) / 2)
    assert sum(len(batch["labels"]) for batch in DataLoader(dataset, batch_size=3, shuffle=True)) == len(dataset)


def test_the_package_exports_the_dataset_and_nothing_else():
    import textgen.data

    assert set(textgen.data.__all__) == {"Document", "TextDataset"}
    with pytest.raises(AttributeError, match="no attribute 'Dataset'"):
        textgen.data.Dataset  # noqa: B018
