"""Looking at what a model writes: the same luck each time, whatever the batch, and nothing changed by looking."""

import pytest
import torch

from textgen.evaluation.decoding.prompts import Prompt
from textgen.evaluation.decoding.training_samples import sample_texts
from textgen.evaluation.loaded_model import LoadedModel

PROMPTS = [
    Prompt(f"texts#{number}", tuple(range(5 + number, 5 + number + length)), f"beginning {number}", ())
    for number, length in enumerate((4, 6, 4))
]


@pytest.fixture
def write(accelerator, tokenizer):
    def rows(model, prompts=PROMPTS, step=3, seed=0):
        loaded = LoadedModel(accelerator, model, tokenizer, context=64)
        return sample_texts(loaded, prompts, step=step, max_new_tokens=12, seed=seed)

    return rows


def test_a_row_for_each_prompt_and_strategy_in_order(tiny_gpt2, write):
    rows = write(tiny_gpt2())
    assert [list(row) for row in rows] == [["step", "prompt_id", "prompt", "strategy", "text"]] * 6
    assert [(row["prompt_id"], row["strategy"]) for row in rows] == [
        (prompt.id, strategy) for prompt in PROMPTS for strategy in ("greedy", "top_p")
    ]
    assert rows[0]["prompt"] == "beginning 0"
    assert {row["step"] for row in rows} == {3}
    assert all(row["text"] for row in rows)


def test_the_luck_is_the_same_at_every_step_and_in_every_batch(tiny_gpt2, write):
    model = tiny_gpt2()
    rows = write(model)
    assert [row["text"] for row in write(model, step=9)] == [row["text"] for row in rows]
    alone = [row for prompt in reversed(PROMPTS) for row in write(model, [prompt])]
    assert sorted(alone, key=lambda row: row["prompt_id"]) == rows
    other_luck = write(model, seed=1)
    assert [row["text"] for row in other_luck[::2]] == [row["text"] for row in rows[::2]], "greedy has no luck"
    assert [row["text"] for row in other_luck[1::2]] != [row["text"] for row in rows[1::2]]


def test_another_model_writes_something_else(tiny_gpt2, write):
    assert [row["text"] for row in write(tiny_gpt2(1))] != [row["text"] for row in write(tiny_gpt2())]


def test_looking_changes_neither_the_mode_nor_any_generator(tiny_gpt2, write):
    model = tiny_gpt2(resid_pdrop=0.5).train()
    state = torch.get_rng_state()
    rows = write(model)
    assert model.training
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert write(model) == rows, "without dropout"
