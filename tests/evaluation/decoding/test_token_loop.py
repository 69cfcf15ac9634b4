"""The token-by-token loop: rows that have ended, grouping by family, and time."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from textgen.evaluation.decoding.dispatch import decode_batch
from textgen.evaluation.decoding.gumbel import NoiseKey
from textgen.evaluation.decoding.strategies import STRATEGIES
from textgen.evaluation.decoding.token_loop import Request, decode_rows

KEY = NoiseKey(0, "a", 0)
EOS = 0


class Countdown:
    """Scores whose greedy tokens count down from a number for each row to ``EOS``; records the rows of each step."""

    def __init__(self, start: list[int]) -> None:
        self.current, self.rows = torch.tensor(start), [len(start)]
        self.logits = self.score()

    def score(self) -> torch.Tensor:
        return torch.nn.functional.one_hot(self.current, 20).float()

    def append(self, tokens: torch.Tensor) -> torch.Tensor:
        assert torch.equal(tokens, self.current)
        self.rows.append(len(tokens))
        self.current = (tokens - 1).clamp(min=0)
        self.logits = self.score()
        return self.logits

    def select_rows(self, which: torch.Tensor) -> None:
        self.current, self.logits = self.current[which], self.logits[which]


def count_down(start: list[int], eos_token_id: int | None, new: int = 10) -> tuple[list[list[int]], list[int]]:
    source = Countdown(start)
    requests = [Request(0, STRATEGIES["greedy"], KEY) for _ in start]
    decoded = decode_rows(source, torch.tensor([[5]]), requests, max_new_tokens=new, eos_token_id=eos_token_id)
    return [row.tokens for row in decoded], source.rows


def test_a_continuation_includes_the_end_of_text_and_nothing_after_it() -> None:
    start = [3, 0, 9, 12]
    tokens, rows = count_down(start, EOS)
    assert tokens == [[3, 2, 1, 0], [0], [9, 8, 7, 6, 5, 4, 3, 2, 1, 0], [12, 11, 10, 9, 8, 7, 6, 5, 4, 3]]
    assert rows == [4, 3, 3, 3, 2, 2, 2, 2, 2, 2], "rows that have ended are dropped"
    assert count_down(start, None)[0][0] == [3, 2, 1, 0, 0, 0, 0, 0, 0, 0]


def test_the_loop_stops_when_all_rows_have_ended() -> None:
    assert count_down([2, 1], EOS) == ([[2, 1, 0], [1, 0]], [2, 2, 1])


def test_up_to_an_eighth_of_the_rows_may_have_ended_without_being_dropped() -> None:
    _, rows = count_down([1, 2, 3] + [9] * 13, EOS, new=5)
    assert rows == [16, 16, 16, 16, 13], "one or two of 16 stay, three are dropped"


def test_ended_rows_are_dropped_from_the_forward_pass(
    tiny_gpt2: Callable[..., Any], sharpen: Callable[..., Any]
) -> None:
    model = sharpen(tiny_gpt2(0, vocab_size=97, tie_word_embeddings=False))
    widths: list[int] = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    prompts = torch.randint(1, 97, (6, 5), generator=torch.Generator().manual_seed(1))
    requests = [Request(row, STRATEGIES["greedy"], KEY) for row in range(6)]
    whole = decode_batch(model, prompts, requests, max_new_tokens=12, eos_token_id=None)
    widths.clear()
    decode_batch(model, prompts, requests, max_new_tokens=12, eos_token_id=whole[2].tokens[4])
    assert widths[0] == 6
    assert widths[-1] < 6
    assert widths == sorted(widths, reverse=True)


def test_requests_of_a_family_must_be_next_to_each_other() -> None:
    requests = [Request(0, STRATEGIES[name], KEY) for name in ("greedy", "top_p", "greedy")]
    with pytest.raises(AssertionError, match="next to each other"):
        decode_rows(Countdown([1, 2, 3]), torch.tensor([[5]]), requests, max_new_tokens=2, eos_token_id=None)


def test_seconds_are_shared_by_the_rows_that_took_part() -> None:
    requests = [Request(0, STRATEGIES["greedy"], KEY) for _ in range(3)]
    decoded = decode_rows(Countdown([0, 9, 9]), torch.tensor([[5]]), requests, max_new_tokens=10, eos_token_id=EOS)
    assert 0 < decoded[0].seconds < decoded[1].seconds
    assert decoded[1].seconds == pytest.approx(decoded[2].seconds)
