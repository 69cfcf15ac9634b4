"""The sum of the token losses, against arithmetic and against transformers' own loss."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textgen.data.blocks import IGNORED
from textgen.model.loss import nll_sum


def rows(seed: int, count: int, length: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(0, 300, (count, length), generator=torch.Generator().manual_seed(seed))
    return ids, ids.clone()


def test_it_is_the_sum_of_the_log_probabilities_of_the_next_tokens(tiny_gpt2):
    model = tiny_gpt2()
    ids, labels = rows(0, 3)
    labels[1, 4:] = IGNORED
    expected = 0.0
    with torch.no_grad():
        log_probabilities = model(input_ids=ids).logits.double().log_softmax(-1)
        for row in range(3):
            for position in range(8):
                if labels[row, position + 1] != IGNORED:
                    expected -= float(log_probabilities[row, position, ids[row, position + 1]])
        assert torch.isclose(nll_sum(model, ids, labels).double(), torch.tensor(expected).double(), rtol=1e-6)


def test_it_is_the_loss_of_transformers_times_the_targets(tiny_llama):
    model = tiny_llama()
    ids, labels = rows(1, 4)
    labels[0, :3] = IGNORED
    targets = int((labels[:, 1:] != IGNORED).sum())
    with torch.no_grad():
        assert torch.isclose(nll_sum(model, ids, labels), model(input_ids=ids, labels=labels).loss * targets)


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_the_sum_over_rows_is_the_sum_of_the_rows(tiny_gpt2, seed, lengths):
    model = tiny_gpt2()
    ids, labels = rows(seed, len(lengths))
    for row, length in enumerate(lengths):
        labels[row, length:] = IGNORED
    with torch.no_grad():
        together = nll_sum(model, ids, labels)
        one_by_one = sum(nll_sum(model, ids[i : i + 1], labels[i : i + 1]) for i in range(len(lengths)))
    assert torch.isclose(together, torch.as_tensor(one_by_one), rtol=1e-5)


def test_a_row_without_targets_costs_nothing_and_pulls_nowhere(tiny_gpt2):
    model = tiny_gpt2()
    ids, labels = rows(2, 1)
    nll = nll_sum(model, ids, torch.full_like(labels, IGNORED))
    nll.backward()
    assert nll.item() == 0.0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_filling_to_the_right_changes_nothing(tiny_gpt2):
    model = tiny_gpt2()
    ids, labels = rows(3, 2)
    filled = torch.cat([ids, torch.zeros(2, 4, dtype=torch.int64)], 1)
    filled_labels = torch.cat([labels, torch.full((2, 4), IGNORED)], 1)
    with torch.no_grad():
        assert torch.isclose(nll_sum(model, ids, labels), nll_sum(model, filled, filled_labels), rtol=1e-6)
