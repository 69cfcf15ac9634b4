"""Random numbers that are a function of what is decoded and not of how.

Exact sampling is an argmax: the token that maximises log p + Gumbel noise is a draw from p (Gumbel 1954; Maddison et
al., arXiv 1411.0030). The noise is keyed by (seed, prompt, sample, position), so that a continuation does not depend on
the other rows of its batch, and all strategies share the luck of the draw: what differs is their own doing.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class NoiseKey:
    """What the noise of a row depends on, besides the position."""

    seed: int
    prompt_id: str
    sample: int


def gumbel_noise(key: NoiseKey, position: int, size: int) -> torch.Tensor:
    """Standard Gumbel noise [size], float32 on the CPU: always the same for the same key and position.

    Position 0 is the first token of the continuation. The key's hash is the 128-bit key of a Philox generator (Salmon
    et al. 2011). Not a ``torch.Generator``: on the CPU, that one keeps only 32 bits of its seed, so that among 100,000
    positions some two would probably share their noise.
    """
    # repr() quotes the prompt's id, so no two different keys are written alike.
    written = repr((key.seed, key.prompt_id, key.sample, position)).encode("utf-8", "backslashreplace")
    digest = hashlib.blake2b(written, digest_size=16).digest()
    random = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
    # −log of an exponential variate is a Gumbel variate. In float64, because in float32 the variate can be 0.
    return torch.from_numpy(-np.log(random.standard_exponential(size))).float()


def gumbel_rows(keys: Sequence[NoiseKey], position: int, size: int, device: torch.device) -> torch.Tensor:
    """The noise of each key at one position, [keys, size]; keys that are there twice are drawn once."""
    distinct = list(dict.fromkeys(keys))
    drawn = torch.stack([gumbel_noise(key, position, size) for key in distinct]).to(device)
    if len(distinct) == len(keys):
        return drawn
    places = {key: place for place, key in enumerate(distinct)}
    return drawn[torch.tensor([places[key] for key in keys], device=device)]
