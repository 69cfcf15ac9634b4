"""Decoding by strategies, with all randomness in noise that is a function of what is decoded and not of how.

Prompts are read once for all strategies. Those that choose token by token are then decoded together, a row for each
continuation; the others, each by its own search, from a copy of the same reading. The model's ``generate`` is not used,
and so nothing of the generation defaults that a checkpoint came with has an influence.
"""

import time
from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel

from textgen.evaluation.decoding.contrasted_logits import AgainstAmateur, AgainstEarlierLayers
from textgen.evaluation.decoding.gumbel import NoiseKey, gumbel_noise
from textgen.evaluation.decoding.prefix_cache import Reading, prefill
from textgen.evaluation.decoding.search.beam_search import beam_search
from textgen.evaluation.decoding.search.contrastive_search import contrastive_search
from textgen.evaluation.decoding.search.speculative import speculate
from textgen.evaluation.decoding.strategies import Strategy
from textgen.evaluation.decoding.token_loop import Decoded, Row, Source, decode_rows

__all__ = ["NoiseKey", "Row", "before_end_of_text", "decode", "decode_together", "gumbel_noise"]

_ROWS_AT_ONCE = 128  # decoded together: more make each pass no more efficient
_CACHE_AT_ONCE = 2**30  # bytes of keys and values that these may take


def decode_together(
    model: PreTrainedModel,
    prompts: torch.Tensor,
    rows: Sequence[Row],
    *,
    max_new_tokens: int,
    eos_token_id: int | None,
    amateur: PreTrainedModel | None = None,
) -> list[Decoded]:
    """The continuation of every row, by whatever strategies they are.

    Args:
        model: full or with adapters, in evaluation mode.
        prompts: token ids [prompts, length], of one length, so that there is no padding.
        rows: the continuations to make.
        max_new_tokens: at which every row ends.
        eos_token_id: at which a row ends by itself; None for no such token.
        amateur: the weaker model, for strategies that take one.

    ``seconds`` of a row: its equal share of reading the prompts, and what :func:`decode_rows` says or, for a search of
    its own, an equal share of that.
    """
    kinds = {row.strategy.decoder for row in rows}
    with torch.no_grad():
        started = time.perf_counter()
        states, layers = "contrastive_search" in kinds, "dola" in kinds
        reading = prefill(model, prompts, room=max_new_tokens, states=states, layers=layers)
        shared = (time.perf_counter() - started) / len(rows)
        other = None
        if any(row.strategy.needs_amateur for row in rows):
            assert amateur is not None, "a strategy that takes an amateur needs one"
            other = prefill(amateur, prompts, room=max_new_tokens, states=False, layers=False)
        decoded: dict[int, Decoded] = {}
        for kind, numbers in _batches(rows, reading, max_new_tokens):
            some = [rows[number] for number in numbers]
            made = DECODERS[kind](reading, other, prompts, some, max_new_tokens, eos_token_id)
            decoded |= zip(numbers, made, strict=True)
    return [Decoded(decoded[number].tokens, decoded[number].seconds + shared) for number in range(len(rows))]


def _batches(rows: Sequence[Row], reading: Reading, max_new_tokens: int) -> list[tuple[str, list[int]]]:
    """Numbers of rows that are decoded together, with the decoder that does it.

    Rows that choose token by token go together, those of one family side by side, as many as there is room for; of the
    rest, those of one strategy.
    """
    keys = [getattr(layer, "keys", None) for layer in reading.cache.layers]
    width = sum(2 * key[0, :, 0].nbytes for key in keys if key is not None)
    length = reading.cache.get_seq_length() + max_new_tokens
    most = max(1, min(_ROWS_AT_ONCE, _CACHE_AT_ONCE // max(1, width * length)))
    together: dict[tuple[str, str], list[int]] = {}
    for number, row in enumerate(rows):
        decoder = row.strategy.decoder
        search = decoder in ("beams", "contrastive_search", "speculation")
        together.setdefault((decoder, row.strategy.name if search else ""), []).append(number)
    families = list(dict.fromkeys(row.strategy.family for row in rows))
    return [
        (decoder, numbers[first : first + most])
        for (decoder, _), unsorted in together.items()
        for numbers in [sorted(unsorted, key=lambda number: families.index(rows[number].strategy.family))]
        for first in range(0, len(numbers), most)
    ]


# What decodes rows of a kind: (reading of the prompts, the amateur's, prompts, rows, max_new_tokens, eos_token_id).
Decoder = Callable[[Reading, Reading | None, torch.Tensor, Sequence[Row], int, int | None], list[Decoded]]


def _which(rows: Sequence[Row], prompts: torch.Tensor) -> torch.Tensor:
    return torch.tensor([row.prompt for row in rows], device=prompts.device)


def _tokens(
    reading: Reading, other: Reading | None, prompts: torch.Tensor, rows: Sequence[Row], new: int, eos: int | None
) -> list[Decoded]:
    source: Source = reading.plain().rows(_which(rows, prompts))
    return decode_rows(source, prompts, rows, max_new_tokens=new, eos_token_id=eos)


def _dola(
    reading: Reading, other: Reading | None, prompts: torch.Tensor, rows: Sequence[Row], new: int, eos: int | None
) -> list[Decoded]:
    own = Reading(reading.model, reading.cache, reading.logits, None, reading.layers).rows(_which(rows, prompts))
    source: Source = AgainstEarlierLayers(own, [row.strategy for row in rows])
    return decode_rows(source, prompts, rows, max_new_tokens=new, eos_token_id=eos)


def _contrastive_decoding(
    reading: Reading, other: Reading | None, prompts: torch.Tensor, rows: Sequence[Row], new: int, eos: int | None
) -> list[Decoded]:
    assert other is not None
    which = _which(rows, prompts)
    source: Source = AgainstAmateur(reading.plain().rows(which), other.rows(which), [row.strategy for row in rows])
    return decode_rows(source, prompts, rows, max_new_tokens=new, eos_token_id=eos)


def _beams(
    reading: Reading, other: Reading | None, prompts: torch.Tensor, rows: Sequence[Row], new: int, eos: int | None
) -> list[Decoded]:
    started = time.perf_counter()
    own = reading.plain().rows(_which(rows, prompts))
    keys = [row.key for row in rows]
    found = beam_search(own, rows[0].strategy, keys, max_new_tokens=new, eos_token_id=eos)
    return _sharing(found, time.perf_counter() - started)


def _contrastive_search(
    reading: Reading, other: Reading | None, prompts: torch.Tensor, rows: Sequence[Row], new: int, eos: int | None
) -> list[Decoded]:
    started = time.perf_counter()
    settings = rows[0].strategy.settings
    found = contrastive_search(
        Reading(reading.model, reading.cache, reading.logits, reading.states).rows(_which(rows, prompts)),
        top_k=int(settings["top_k"]),
        penalty_alpha=settings["penalty_alpha"],
        max_new_tokens=new,
        eos_token_id=eos,
    ).tolist()
    ends = [row.index(eos) + 1 if eos in row else len(row) for row in found]
    return _sharing([row[:end] for row, end in zip(found, ends, strict=True)], time.perf_counter() - started)


def _speculation(
    reading: Reading, other: Reading | None, prompts: torch.Tensor, rows: Sequence[Row], new: int, eos: int | None
) -> list[Decoded]:
    made = []
    for row in rows:  # one by one: each gets on at its own speed
        started = time.perf_counter()
        which = _which([row], prompts)
        tokens = speculate(
            reading.plain().rows(which),
            other.rows(which) if other and row.strategy.needs_amateur else None,
            prompts[row.prompt].tolist(),
            row.strategy,
            row.key,
            max_new_tokens=new,
            eos_token_id=eos,
        )
        made.append(Decoded(tokens, time.perf_counter() - started))
    return made


def _sharing(found: Sequence[list[int]], seconds: float) -> list[Decoded]:
    return [Decoded(tokens, seconds / len(found)) for tokens in found]


# `Strategy.decoder` → what decodes rows of that kind.
DECODERS: dict[str, Decoder] = {
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
    """Token ids of the continuations by one strategy, [rows, up to ``max_new_tokens``], of ``prompts`` [rows, length]
    without padding.

    A row that ends before the longest does is filled up with ``eos_token_id``; without one, none ends early. ``keys``
    has one entry a row and matters only to strategies that sample.
    """
    assert len(keys) == len(prompts), "one key a row"
    decoded = decode_together(
        model,
        prompts,
        [Row(number, strategy, key) for number, key in enumerate(keys)],
        max_new_tokens=max_new_tokens,
        eos_token_id=eos_token_id,
        amateur=amateur,
    )
    longest = max(len(row.tokens) for row in decoded)
    filler = [] if eos_token_id is None else [eos_token_id]
    return torch.tensor([row.tokens + filler * (longest - len(row.tokens)) for row in decoded], device=prompts.device)


def before_end_of_text(token_ids: Sequence[int], eos_token_id: int | None) -> tuple[int, ...]:
    """The tokens before the first end-of-text token: what follows it is padding."""
    ids = tuple(token_ids)
    return ids[: ids.index(eos_token_id)] if eos_token_id in ids else ids
