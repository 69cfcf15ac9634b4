"""Decoding by a strategy, with all randomness in noise that is a function of what is decoded and not of how.

Exact sampling is an argmax: the token that maximises log p + Gumbel noise is a draw from p (Gumbel 1954; Maddison et
al., arXiv 1411.0030). The noise is keyed by (seed, prompt, sample, position), so that a continuation does not depend on
the other rows of its batch, and all strategies share the luck of the draw: what differs is their own doing.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.logits_process import (
    EtaLogitsWarper,
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from textgen.evaluation.contrastive import contrastive_search, without_adapters
from textgen.evaluation.strategies import Strategy


@dataclass(frozen=True)
class NoiseKey:
    """What the noise of a row depends on, besides the position."""

    seed: int
    prompt_id: str
    sample: int


def gumbel_noise(key: NoiseKey, position: int, size: int) -> torch.Tensor:
    """Standard Gumbel noise [size], float32 on the CPU: always the same for the same key and position.

    The key's hash is the 128-bit key of a Philox generator (Salmon et al. 2011). Not a ``torch.Generator``: on the CPU,
    that one keeps only 32 bits of its seed, so that among 100,000 positions some two would probably share their noise.
    """
    # repr() quotes the prompt's id, so no two different keys are written alike.
    written = repr((key.seed, key.prompt_id, key.sample, position)).encode("utf-8", "backslashreplace")
    digest = hashlib.blake2b(written, digest_size=16).digest()
    random = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
    # −log of an exponential variate is a Gumbel variate. In float64, because in float32 the variate can be 0.
    return torch.from_numpy(-np.log(random.standard_exponential(size))).float()


class KeyedGumbelNoise(LogitsProcessor):
    """Adds the noise of each row's next position to its scores, so that their argmax is a draw from their softmax.

    Must come after truncation, which leaves −inf, where no noise gets through. ``prompt_length`` is in tokens, and
    position 0 is the first token of the continuation.
    """

    def __init__(self, keys: Sequence[NoiseKey], prompt_length: int) -> None:
        self.keys = keys
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores plus noise; ``input_ids`` [rows, length so far], ``scores`` [rows, vocabulary]."""
        assert len(self.keys) == len(scores), "one key a row"
        position = input_ids.shape[1] - self.prompt_length
        noise = torch.stack([gumbel_noise(key, position, scores.shape[1]) for key in self.keys])
        return scores + noise.to(scores.device)


def truncation(settings: Mapping[str, float | int], device: torch.device | str = "cpu") -> list[LogitsProcessor]:
    """transformers' own processors for the settings of a strategy that samples: temperature first, then truncation."""
    known: dict[str, LogitsProcessor] = {}
    for name, value in settings.items():
        if name == "temperature":
            known[name] = TemperatureLogitsWarper(float(value))
        elif name == "top_k":
            known[name] = TopKLogitsWarper(int(value))
        elif name == "top_p":
            known[name] = TopPLogitsWarper(value)
        elif name == "typical_p":
            known[name] = TypicalLogitsWarper(value)
        elif name == "min_p":
            known[name] = MinPLogitsWarper(value)
        elif name == "eta_cutoff":
            known[name] = EtaLogitsWarper(value, device=str(device))
        else:
            raise AssertionError(f"no processor for the setting {name}")
    return sorted(known.values(), key=lambda processor: not isinstance(processor, TemperatureLogitsWarper))


@contextmanager
def neutral_generation_config(model: PreTrainedModel) -> Iterator[None]:
    """The model without the generation defaults it was loaded with, for as long as the block lasts.

    ``generate`` fills whatever a given ``GenerationConfig`` leaves open from the model's own, so a checkpoint that came
    with ``repetition_penalty`` or a second end-of-text token would otherwise decode by rules that no strategy names.
    """
    owner = without_adapters(model)  # what wraps it asks it
    loaded = owner.generation_config
    owner.generation_config = GenerationConfig()
    try:
        yield
    finally:
        owner.generation_config = loaded


def decode(
    model: PreTrainedModel,
    strategy: Strategy,
    prompts: torch.Tensor,
    keys: Sequence[NoiseKey],
    *,
    max_new_tokens: int,
    eos_token_id: int | None,
) -> torch.Tensor:
    """Token ids of the continuations, [rows, up to ``max_new_tokens``], of ``prompts`` [rows, length] without padding.

    A row that ends before the longest does is filled up with ``eos_token_id``; without one, none ends early. ``keys``
    has one entry a row and matters only to strategies that sample.
    """
    if strategy.name == "contrastive":  # which transformers leaves to code from the hub
        return contrastive_search(
            model,
            prompts,
            top_k=int(strategy.settings["top_k"]),
            penalty_alpha=strategy.settings["penalty_alpha"],
            max_new_tokens=max_new_tokens,
            eos_token_id=eos_token_id,
        )
    settings: dict[str, float | int] = {}
    processors = LogitsProcessorList()
    if strategy.samples:
        processors.extend(truncation(strategy.settings, prompts.device))
        processors.append(KeyedGumbelNoise(keys, prompts.shape[1]))
    else:
        settings.update(strategy.settings)
    config = GenerationConfig(
        do_sample=False,  # with the noise in the scores, their argmax is the draw
        max_new_tokens=max_new_tokens,
        eos_token_id=eos_token_id,
        pad_token_id=eos_token_id,
        **settings,
    )
    with neutral_generation_config(model), torch.no_grad():
        sequences = model.generate(  # type: ignore[operator]
            input_ids=prompts,
            attention_mask=torch.ones_like(prompts),
            generation_config=config,
            logits_processor=processors,
        )
    return sequences[:, prompts.shape[1] :]


def before_end_of_text(token_ids: Sequence[int], eos_token_id: int | None) -> tuple[int, ...]:
    """The tokens before the first end-of-text token: what follows it is padding."""
    ids = tuple(token_ids)
    return ids[: ids.index(eos_token_id)] if eos_token_id in ids else ids
