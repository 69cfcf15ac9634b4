"""Which decoder runs which strategy. Prompts are read once for all of them.

Strategies that choose token by token are decoded together, one row per continuation; each of the others runs its own
search from a copy of the same prefix cache. The model's ``generate`` is not used, so the generation defaults that come
with a checkpoint have no effect.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from textgen.evaluation.decoding.contrasted_logits import AmateurContrast, LayerContrast
from textgen.evaluation.decoding.gumbel import NoiseKey, gumbel_noise
from textgen.evaluation.decoding.prefix_cache import PrefixCache, prefill
from textgen.evaluation.decoding.search.beam_search import beam_search
from textgen.evaluation.decoding.search.contrastive_search import contrastive_search
from textgen.evaluation.decoding.search.speculative import speculative_decoding
from textgen.evaluation.decoding.strategies import Strategy
from textgen.evaluation.decoding.token_loop import Decoded, LogitsSource, Request, decode_rows

__all__ = ["NoiseKey", "Request", "before_end_of_text", "decode", "decode_batch", "gumbel_noise"]

_MAX_ROWS = 128  # decoded together: more do not make a forward pass more efficient
_MAX_CACHE_BYTES = 2**30  # of their keys and values


def decode_batch(
    model: PreTrainedModel,
    prompts: torch.Tensor,
    requests: Sequence[Request],
    *,
    max_new_tokens: int,
    eos_token_id: int | None,
    amateur: PreTrainedModel | None = None,
) -> list[Decoded]:
    """The continuation for every request, by whatever strategies they name.

    ``seconds`` of a continuation: its equal share of reading the prompts, plus what :func:`decode_rows` says or, for a
    search, an equal share of the search.

    Args:
        model: full or with adapters, in evaluation mode.
        prompts: token ids [prompts, length], of one length, so that there is no padding.
        requests: the continuations to generate.
        max_new_tokens: where every continuation ends.
        eos_token_id: where a continuation ends earlier; None for no such token.
        amateur: the weaker model, for strategies that need one.
    """
    kinds = {request.strategy.decoder for request in requests}
    with torch.no_grad():
        started = time.perf_counter()
        states, layers = "contrastive_search" in kinds, "dola" in kinds
        prefix = prefill(model, prompts, new_tokens=max_new_tokens, states=states, layers=layers)
        shared = (time.perf_counter() - started) / len(requests)
        amateur_prefix = None
        if any(request.strategy.needs_amateur for request in requests):
            assert amateur is not None, "a strategy that needs an amateur model did not get one"
            amateur_prefix = prefill(amateur, prompts, new_tokens=max_new_tokens)
        decoded: dict[int, Decoded] = {}
        for kind, numbers in _batches(requests, prefix, max_new_tokens):
            some = [requests[number] for number in numbers]
            batch = Batch(prefix, amateur_prefix, prompts, some, max_new_tokens, eos_token_id)
            decoded |= zip(numbers, DECODERS[kind](batch), strict=True)
    return [Decoded(decoded[number].tokens, decoded[number].seconds + shared) for number in range(len(requests))]


def _batches(requests: Sequence[Request], prefix: PrefixCache, max_new_tokens: int) -> list[tuple[str, list[int]]]:
    """Indices of requests that are decoded together, with the name of their decoder.

    Those that choose token by token go together, each family in one run, as many as fit; of the others, those of one
    strategy.
    """
    keys = [getattr(layer, "keys", None) for layer in prefix.cache.layers]
    width = sum(2 * key[0, :, 0].nbytes for key in keys if key is not None)
    length = prefix.cache.get_seq_length() + max_new_tokens
    most = max(1, min(_MAX_ROWS, _MAX_CACHE_BYTES // max(1, width * length)))
    together: dict[tuple[str, str], list[int]] = {}
    for number, request in enumerate(requests):
        decoder = request.strategy.decoder
        search = decoder in ("beams", "contrastive_search", "speculation")
        together.setdefault((decoder, request.strategy.name if search else ""), []).append(number)
    families = list(dict.fromkeys(request.strategy.family for request in requests))
    return [
        (decoder, numbers[first : first + most])
        for (decoder, _), unsorted in together.items()
        for numbers in [sorted(unsorted, key=lambda number: families.index(requests[number].strategy.family))]
        for first in range(0, len(numbers), most)
    ]


@dataclass(frozen=True)
class Batch:
    """Requests of one kind, with everything that a decoder needs for them.

    Attributes:
        prefix: prefix cache of all prompts, to be copied from.
        amateur: the same by the amateur model, if there is one.
        prompts: token ids [prompts, length].
        requests: the continuations to generate.
        max_new_tokens: where every continuation ends.
        eos_token_id: where a continuation ends earlier; None for no such token.
    """

    prefix: PrefixCache
    amateur: PrefixCache | None
    prompts: torch.Tensor
    requests: Sequence[Request]
    max_new_tokens: int
    eos_token_id: int | None

    @property
    def rows(self) -> torch.Tensor:
        """The prompt of each request, [requests]."""
        return torch.tensor([request.prompt for request in self.requests], device=self.prompts.device)

    @property
    def limits(self) -> dict[str, Any]:
        """Where continuations end, as keyword arguments."""
        return {"max_new_tokens": self.max_new_tokens, "eos_token_id": self.eos_token_id}

    @property
    def strategies(self) -> list[Strategy]:
        """The strategy of each request."""
        return [request.strategy for request in self.requests]


def _tokens(batch: Batch) -> list[Decoded]:
    source: LogitsSource = batch.prefix.without().copy_rows(batch.rows)
    return decode_rows(source, batch.prompts, batch.requests, **batch.limits)


def _dola(batch: Batch) -> list[Decoded]:
    source: LogitsSource = LayerContrast(batch.prefix.without(layers=False).copy_rows(batch.rows), batch.strategies)
    return decode_rows(source, batch.prompts, batch.requests, **batch.limits)


def _contrastive_decoding(batch: Batch) -> list[Decoded]:
    assert batch.amateur is not None
    expert, amateur = batch.prefix.without().copy_rows(batch.rows), batch.amateur.copy_rows(batch.rows)
    source: LogitsSource = AmateurContrast(expert, amateur, batch.strategies)
    return decode_rows(source, batch.prompts, batch.requests, **batch.limits)


def _beams(batch: Batch) -> list[Decoded]:
    started = time.perf_counter()
    own = batch.prefix.without().copy_rows(batch.rows)
    found = beam_search(own, batch.strategies[0], [request.key for request in batch.requests], **batch.limits)
    return _with_equal_shares(found, time.perf_counter() - started)


def _contrastive_search(batch: Batch) -> list[Decoded]:
    started = time.perf_counter()
    settings, eos = batch.strategies[0].settings, batch.eos_token_id
    found = contrastive_search(
        batch.prefix.without(states=False).copy_rows(batch.rows),
        top_k=int(settings["top_k"]),
        penalty_alpha=settings["penalty_alpha"],
        **batch.limits,
    ).tolist()
    ends = [row.index(eos) + 1 if eos in row else len(row) for row in found]
    tokens = [row[:end] for row, end in zip(found, ends, strict=True)]
    return _with_equal_shares(tokens, time.perf_counter() - started)


def _speculation(batch: Batch) -> list[Decoded]:
    decoded = []
    for request, row in zip(batch.requests, batch.rows.split(1), strict=True):  # each advances at its own speed
        started = time.perf_counter()
        tokens = speculative_decoding(
            batch.prefix.without().copy_rows(row),
            batch.amateur.copy_rows(row) if batch.amateur and request.strategy.needs_amateur else None,
            batch.prompts[request.prompt].tolist(),
            request.strategy,
            request.key,
            **batch.limits,
        )
        decoded.append(Decoded(tokens, time.perf_counter() - started))
    return decoded


def _with_equal_shares(found: Sequence[list[int]], seconds: float) -> list[Decoded]:
    return [Decoded(tokens, seconds / len(found)) for tokens in found]


# `Strategy.decoder` → the function that runs strategies of that kind.
DECODERS: dict[str, Callable[[Batch], list[Decoded]]] = {
    "tokens": _tokens,
    "dola": _dola,
    "contrastive_decoding": _contrastive_decoding,
    "beams": _beams,
    "contrastive_search": _contrastive_search,
    "speculation": _speculation,
}


def decode(
    model: PreTrainedModel,
    strategy: Strategy,
    prompts: torch.Tensor,
    keys: Sequence[NoiseKey],
    *,
    max_new_tokens: int,
    eos_token_id: int | None,
    amateur: PreTrainedModel | None = None,
) -> torch.Tensor:
    """Token ids of the continuations by one strategy, [rows, up to ``max_new_tokens``].

    A row that ends before the longest is filled up with ``eos_token_id``; without one, none ends early.

    Args:
        model: full or with adapters, in evaluation mode.
        strategy: an entry of the table, or a variant of one.
        prompts: token ids [rows, length], without padding.
        keys: of each row's noise; they matter only for stochastic strategies.
        max_new_tokens: where every row ends.
        eos_token_id: where a row ends earlier.
        amateur: the weaker model, if the strategy needs one.
    """
    assert len(keys) == len(prompts), "one key per row"
    decoded = decode_batch(
        model,
        prompts,
        [Request(number, strategy, key) for number, key in enumerate(keys)],
        max_new_tokens=max_new_tokens,
        eos_token_id=eos_token_id,
        amateur=amateur,
    )
    longest = max(len(row.tokens) for row in decoded)
    filler = [] if eos_token_id is None else [eos_token_id]
    return torch.tensor([row.tokens + filler * (longest - len(row.tokens)) for row in decoded], device=prompts.device)


def before_end_of_text(token_ids: Sequence[int], eos_token_id: int | None) -> tuple[int, ...]:
    """The tokens before the first end-of-text token; what follows it is padding."""
    ids = tuple(token_ids)
    return ids[: ids.index(eos_token_id)] if eos_token_id in ids else ids
