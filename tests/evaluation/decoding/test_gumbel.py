"""Gumbel noise: draws follow the distribution, and depend on nothing but the key and the position."""

import numpy as np
import torch

from textgen.evaluation.decoding.gumbel import NoiseKey, gumbel_noise, gumbel_rows

CPU = torch.device("cpu")


def keys(rows: int) -> list[NoiseKey]:
    return [NoiseKey(0, f"document {row}", 0) for row in range(rows)]


def test_20000_draws_follow_the_distribution() -> None:
    probabilities = torch.randn(40, generator=torch.Generator().manual_seed(0)).mul(0.5).softmax(dim=0)
    draws = 20_000
    scores = probabilities.log() + gumbel_rows(keys(draws), 3, 40, CPU)
    frequencies = scores.argmax(dim=1).bincount(minlength=40) / draws
    assert probabilities.max() < 0.08  # so that 0.005 is at least 2.6 standard deviations of every frequency
    assert (frequencies - probabilities).abs().max() < 0.005
    chi_squared = (draws * (frequencies - probabilities) ** 2 / probabilities).sum()
    assert chi_squared < 72.1  # 0.999 quantile with 39 degrees of freedom


def test_draws_at_different_positions_of_a_row_are_independent() -> None:
    probabilities = np.array([0.6, 0.3, 0.1])
    key = NoiseKey(3, "a", 0)
    draws = np.array([int((gumbel_noise(key, t, 3) + torch.tensor(probabilities).log()).argmax()) for t in range(6000)])
    pairs = np.bincount(3 * draws[:-1] + draws[1:], minlength=9).reshape(3, 3) / (len(draws) - 1)
    assert np.abs(pairs - np.outer(probabilities, probabilities)).max() < 0.02


def test_noise_depends_on_every_part_of_its_key() -> None:
    noise = gumbel_noise(NoiseKey(1, "a", 2), 3, 50)
    assert torch.equal(noise, gumbel_noise(NoiseKey(1, "a", 2), 3, 50))
    for other in [
        gumbel_noise(NoiseKey(9, "a", 2), 3, 50),
        gumbel_noise(NoiseKey(1, "b", 2), 3, 50),
        gumbel_noise(NoiseKey(1, "a", 9), 3, 50),
        gumbel_noise(NoiseKey(1, "a", 2), 9, 50),
        gumbel_noise(NoiseKey(1 + 2**32, "a", 2), 3, 50),
        gumbel_noise(NoiseKey(1, "a', 2", 2), 3, 50),
    ]:
        assert not torch.isclose(noise, other).any()


def test_noise_is_the_same_on_every_machine_and_in_every_version() -> None:
    expected = torch.tensor([0.938483, 0.872127, 0.814158, 0.606503])
    assert torch.allclose(gumbel_noise(NoiseKey(0, "plays.txt#12", 1), 7, 4), expected, atol=1e-6)


def test_rows_with_the_same_key_have_the_same_noise() -> None:
    noise = gumbel_rows([*keys(2), *keys(1)], 3, 30, CPU)
    assert torch.equal(noise, torch.stack([gumbel_noise(key, 3, 30) for key in [*keys(2), *keys(1)]]))
