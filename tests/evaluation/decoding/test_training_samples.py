"""Sample texts during training: the same random numbers at every step and in any batch, and no effect on training."""

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
def sample(accelerator, tokenizer):
    def rows(model, prompts=PROMPTS, step=3, seed=0):
        loaded = LoadedModel(accelerator, model, tokenizer, context=64)
        return sample_texts(loaded, prompts, step=step, max_new_tokens=12, seed=seed)

    return rows


def test_there_is_one_row_per_prompt_and_strategy(tiny_gpt2, sample):
    rows = sample(tiny_gpt2())
    assert [list(row) for row in rows] == [["step", "prompt_id", "prompt", "strategy", "text"]] * 6
    assert [(row["prompt_id"], row["strategy"]) for row in rows] == [
        (prompt.id, strategy) for prompt in PROMPTS for strategy in ("greedy", "top_p")
    ]
    assert rows[0]["prompt"] == "beginning 0"
    assert {row["step"] for row in rows} == {3}
    assert all(row["text"] for row in rows)


def test_random_numbers_are_the_same_at_every_step_and_in_every_batch(tiny_gpt2, sample):
    model = tiny_gpt2()
    rows = sample(model)
    assert [row["text"] for row in sample(model, step=9)] == [row["text"] for row in rows]
    alone = [row for prompt in reversed(PROMPTS) for row in sample(model, [prompt])]
    assert sorted(alone, key=lambda row: row["prompt_id"]) == rows
    other_seed = sample(model, seed=1)
    assert [row["text"] for row in other_seed[::2]] == [row["text"] for row in rows[::2]], "greedy is deterministic"
    assert [row["text"] for row in other_seed[1::2]] != [row["text"] for row in rows[1::2]]


def test_another_model_gives_other_texts(tiny_gpt2, sample):
    assert [row["text"] for row in sample(tiny_gpt2(1))] != [row["text"] for row in sample(tiny_gpt2())]


def test_sampling_changes_neither_the_mode_nor_any_random_generator(tiny_gpt2, sample):
    model = tiny_gpt2(resid_pdrop=0.5).train()
    state = torch.get_rng_state()
    rows = sample(model)
    assert model.training
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert sample(model) == rows, "dropout is off"
