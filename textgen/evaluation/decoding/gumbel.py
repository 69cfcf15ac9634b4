"""Random numbers keyed by (seed, prompt, sample, position), so that sampling does not depend on batching.

Exact sampling is an argmax: the token that maximizes log p + Gumbel noise is a draw from p (Gumbel 1954; Maddison et
al., arXiv 1411.0030). Because the noise depends on nothing but its key, a continuation does not depend on the other
rows of its batch, and all strategies use the same noise (common random numbers), which reduces the variance of their
differences.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class NoiseKey:
    """Determines a row's noise, together with the position."""

    seed: int
    prompt_id: str
    sample: int


def gumbel_noise(key: NoiseKey, position: int, size: int) -> torch.Tensor:
    """Standard Gumbel noise [size], float32 on the CPU: the same for the same key and position, on any machine.

    Position 0 is the first token of the continuation. The key's hash is the 128-bit key of a Philox generator (Salmon
    et al. 2011). A ``torch.Generator`` would not do: on the CPU it keeps only 32 bits of its seed, so two of 100,000
    positions would probably have the same noise.
    """
    # repr() quotes the prompt's id, so different keys have different representations.
    written = repr((key.seed, key.prompt_id, key.sample, position)).encode("utf-8", "backslashreplace")
    digest = hashlib.blake2b(written, digest_size=16).digest()
    random = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
    # −log of an exponential variate is a Gumbel variate. In float64, because in float32 the variate can be 0.
    return torch.from_numpy(-np.log(random.standard_exponential(size))).float()


def gumbel_rows(keys: Sequence[NoiseKey], position: int, size: int, device: torch.device) -> torch.Tensor:
    """The noise of each key at one position, [keys, size]; repeated keys are drawn only once."""
    distinct = list(dict.fromkeys(keys))
    noise = torch.stack([gumbel_noise(key, position, size) for key in distinct]).to(device)
    if len(distinct) == len(keys):
        return noise
    index = {key: row for row, key in enumerate(distinct)}
    return noise[torch.tensor([index[key] for key in keys], device=device)]
