"""Runs each strategy with its decoder; all strategies share one prefill of the prompts.

Strategies that choose token by token are decoded together, one row per continuation; each search runs separately, from
a copy of the same prefix cache. The model's ``generate`` is not used, so a checkpoint's ``generation_config`` has no
effect.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from textgen.evaluation.decoding.contrasted_logits import AmateurContrast, LayerContrast
from textgen.evaluation.decoding.gumbel import NoiseKey
from textgen.evaluation.decoding.prefix.cache_support import read_prompts, rewindable
from textgen.evaluation.decoding.prefix.prefix import Prefix
from textgen.evaluation.decoding.search.beam_search import beam_search
from textgen.evaluation.decoding.search.contrastive_search import contrastive_search
from textgen.evaluation.decoding.search.speculative import speculative_decoding
from textgen.evaluation.decoding.strategies import Decoder, Strategy
from textgen.evaluation.decoding.token_loop import Decoded, LogitsSource, Request, decode_rows

_MAX_ROWS = 128  # decoded together; more rows do not make a forward pass more efficient
_MAX_CACHE_BYTES = 2**30  # of the rows that are decoded together


def decode_batch(
    model: PreTrainedModel,
    prompts: torch.Tensor,
    requests: Sequence[Request],
    *,
    max_new_tokens: int,
    eos_token_id: int | None,
    amateur: PreTrainedModel | None = None,
    advance: Callable[[float], None] = lambda continuations: None,
) -> list[Decoded]:
    """The continuation for every request; strategies may be mixed.

    ``seconds`` of a continuation are an equal share of the prefill, plus those of :func:`decode_rows` or, for a search,
    an equal share of the search's. The prefill of the amateur is not counted.

    Args:
        model: the model, full or with adapters, in evaluation mode.
        prompts: token ids [prompts, length], without padding.
        requests: the continuations to generate.
        max_new_tokens: maximum length of a continuation.
        eos_token_id: the token that ends a continuation early; None for no such token.
        amateur: the weaker model, for strategies that need one.
        advance: called with the number of continuations that were finished together.
    """
    decoders = {request.strategy.decoder for request in requests}
    with torch.no_grad():
        started = time.perf_counter()
        prefix = read_prompts(
            model,
            prompts,
            new_tokens=max_new_tokens,
            token_states="contrastive_search" in decoders,
            layer_states="dola" in decoders,
        )
        prefill_share = (time.perf_counter() - started) / len(requests)
        amateur_prefix = None
        if any(request.strategy.needs_amateur for request in requests):
            assert amateur is not None, "a strategy that needs an amateur model did not get one"
            amateur_prefix = read_prompts(amateur, prompts, new_tokens=max_new_tokens)
        decoded: dict[int, Decoded] = {}
        for decoder, indices in _group_requests(requests, prefix, prompts.shape[1] + max_new_tokens):
            batch_requests = [requests[index] for index in indices]
            batch = DecodeBatch(prefix, amateur_prefix, prompts, batch_requests, max_new_tokens, eos_token_id)
            decoded |= zip(indices, DECODERS[decoder](batch), strict=True)
            advance(len(indices))
    return [Decoded(decoded[index].tokens, decoded[index].seconds + prefill_share) for index in range(len(requests))]


def _group_requests(requests: Sequence[Request], prefix: Prefix, length: int) -> list[tuple[Decoder, list[int]]]:
    """Indices of requests that are decoded together, with the name of their decoder.

    Searches run one strategy at a time. Other strategies of the same decoder are mixed, with those of one family next
    to each other. ``_MAX_ROWS`` and ``_MAX_CACHE_BYTES`` limit how many, if they grow to ``length`` tokens.
    """
    max_rows = max(1, min(_MAX_ROWS, _MAX_CACHE_BYTES // max(1, prefix.bytes_per_row(length))))
    together: dict[tuple[Decoder, str], list[int]] = {}
    for index, request in enumerate(requests):
        decoder = request.strategy.decoder
        is_search = decoder in ("beam_search", "contrastive_search", "speculative")
        together.setdefault((decoder, request.strategy.name if is_search else ""), []).append(index)
    families = list(dict.fromkeys(request.strategy.family for request in requests))
    batches: list[tuple[Decoder, list[int]]] = []
    for (decoder, _), indices in together.items():
        indices.sort(key=lambda index: families.index(requests[index].strategy.family))
        batches += [(decoder, indices[first : first + max_rows]) for first in range(0, len(indices), max_rows)]
    return batches


@dataclass(frozen=True)
class DecodeBatch:
    """Requests for one decoder, with everything that it needs.

    Attributes:
        prefix: all prompts, read by the model; decoders copy its rows.
        amateur: the same, read by the amateur model, if there is one.
        prompts: token ids [prompts, length].
        requests: the continuations to generate.
        max_new_tokens: maximum length of a continuation.
        eos_token_id: the token that ends a continuation early; None for no such token.
    """

    prefix: Prefix
    amateur: Prefix | None
    prompts: torch.Tensor
    requests: Sequence[Request]
    max_new_tokens: int
    eos_token_id: int | None

    @property
    def rows(self) -> torch.Tensor:
        """Index of each request's prompt, [requests]."""
        return torch.tensor([request.prompt for request in self.requests], device=self.prompts.device)

    @property
    def limits(self) -> dict[str, Any]:
        """``max_new_tokens`` and ``eos_token_id`` as keyword arguments."""
        return {"max_new_tokens": self.max_new_tokens, "eos_token_id": self.eos_token_id}

    @property
    def strategies(self) -> list[Strategy]:
        """The strategy of each request."""
        return [request.strategy for request in self.requests]


def _tokens(batch: DecodeBatch) -> list[Decoded]:
    source: LogitsSource = batch.prefix.copy_rows(batch.rows)
    return decode_rows(source, batch.prompts, batch.requests, **batch.limits)


def _dola(batch: DecodeBatch) -> list[Decoded]:
    source: LogitsSource = LayerContrast(batch.prefix.copy_rows(batch.rows, layer_states=True), batch.strategies)
    return decode_rows(source, batch.prompts, batch.requests, **batch.limits)


def _contrastive_decoding(batch: DecodeBatch) -> list[Decoded]:
    assert batch.amateur is not None
    expert, amateur = batch.prefix.copy_rows(batch.rows), batch.amateur.copy_rows(batch.rows)
    source: LogitsSource = AmateurContrast(expert, amateur, batch.strategies)
    return decode_rows(source, batch.prompts, batch.requests, **batch.limits)


def _beam_search(batch: DecodeBatch) -> list[Decoded]:
    started = time.perf_counter()
    prefix = batch.prefix.copy_rows(batch.rows)
    found = beam_search(prefix, batch.strategies[0], [request.key for request in batch.requests], **batch.limits)
    return _share_time(found, time.perf_counter() - started)


def _contrastive_search(batch: DecodeBatch) -> list[Decoded]:
    started = time.perf_counter()
    settings, eos = batch.strategies[0].settings, batch.eos_token_id
    found = contrastive_search(
        batch.prefix.copy_rows(batch.rows, token_states=True),
        top_k=int(settings["top_k"]),
        penalty_alpha=settings["penalty_alpha"],
        **batch.limits,
    ).tolist()
    tokens = [row[: row.index(eos) + 1] if eos in row else row for row in found]
    return _share_time(tokens, time.perf_counter() - started)


def _speculative(batch: DecodeBatch) -> list[Decoded]:
    prefix = rewindable(batch.prefix, batch.prompts)
    amateur = rewindable(batch.amateur, batch.prompts) if batch.amateur else None
    decoded = []
    for request, row in zip(
        batch.requests, batch.rows.split(1), strict=True
    ):  # one by one: rows accept different numbers of tokens
        started = time.perf_counter()
        tokens = speculative_decoding(
            prefix.copy_rows(row),
            amateur.copy_rows(row) if amateur and request.strategy.needs_amateur else None,
            batch.prompts[request.prompt].tolist(),
            request.strategy,
            request.key,
            **batch.limits,
        )
        decoded.append(Decoded(tokens, time.perf_counter() - started))
    return decoded


def _share_time(found: Sequence[list[int]], seconds: float) -> list[Decoded]:
    return [Decoded(tokens, seconds / len(found)) for tokens in found]


# `Strategy.decoder` → the function that runs such strategies.
DECODERS: dict[Decoder, Callable[[DecodeBatch], list[Decoded]]] = {
    "tokens": _tokens,
    "dola": _dola,
    "contrastive_decoding": _contrastive_decoding,
    "beam_search": _beam_search,
    "contrastive_search": _contrastive_search,
    "speculative": _speculative,
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

    A row that ends before the longest is padded with ``eos_token_id``.

    Args:
        model: the model, full or with adapters, in evaluation mode.
        strategy: an entry of the table, or a variant of one.
        prompts: token ids [rows, length], without padding.
        keys: noise key of each row; only stochastic strategies use it.
        max_new_tokens: maximum length of a continuation.
        eos_token_id: the token that ends a continuation early; None for no such token.
        amateur: the weaker model, if the strategy needs one.
    """
    assert len(keys) == len(prompts), "one key per row"
    decoded = decode_batch(
        model,
        prompts,
        [Request(row, strategy, key) for row, key in enumerate(keys)],
        max_new_tokens=max_new_tokens,
        eos_token_id=eos_token_id,
        amateur=amateur,
    )
    longest = max(len(row.tokens) for row in decoded)
    padding = [] if eos_token_id is None else [eos_token_id]
    return torch.tensor([row.tokens + padding * (longest - len(row.tokens)) for row in decoded], device=prompts.device)


def before_end_of_text(token_ids: Sequence[int], eos_token_id: int | None) -> tuple[int, ...]:
    """The tokens before the first end-of-text token; all tokens, if there is none."""
    ids = tuple(token_ids)
    return ids[: ids.index(eos_token_id)] if eos_token_id in ids else ids
