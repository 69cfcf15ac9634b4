"""Whether a model's cache gives the logits that it computes without one, measured on a few tokens.

It does not in models that ignore the cache they are given (RWKV, the first GPT), keep a state of their own
(RecurrentGemma), or cannot take back what a recurrent state has read (Mamba, Jamba, Qwen3-Next). Those are decoded
from the whole text instead (``recomputed_prefix.py``), which is right and slow.
"""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch

from textgen.evaluation.decoding.prefix.prefix import Prefix, run_model
from textgen.evaluation.decoding.prefix.prefix_cache import PrefixCache, prefill
from textgen.evaluation.decoding.prefix.recomputed_prefix import RecomputedPrefix
from textgen.evaluation.decoding.strategies import Strategy
from textgen.model.architecture import context_length
from textgen.model.contexts import evaluating
from textgen.model.layers import without_adapters
from textgen.model.probe import probe_texts, rounding

_TOKENS = 10  # in each of the two texts of the measurement
_PROMPT = 5  # tokens that both begin with

_MEASURED: WeakKeyDictionary[torch.nn.Module, dict[str, bool]] = WeakKeyDictionary()  # the name of a use → is it right
_REPORTED: WeakKeyDictionary[torch.nn.Module, str] = WeakKeyDictionary()


def cache_appends(model: Any) -> bool:
    """Whether texts that are read token by token, copied and reordered have the logits of an uncached forward pass.

    This and :func:`cache_rewinds` are measured once for each model object.
    """
    return _measured(model, _append)


def cache_rewinds(model: Any) -> bool:
    """Whether, besides, several tokens can be read at once, and the last ones taken back."""
    return cache_appends(model) and _measured(model, _rewind)


def report_limits(model: Any, name: str, strategies: Sequence[Strategy], echo: Callable[[str], None]) -> None:
    """Print what a model's cache cannot do for these strategies, once for each model object."""
    drafting = [strategy.name for strategy in strategies if strategy.decoder == "speculative"]
    if strategies and not cache_appends(model):
        limit = "decoding without a cache, which gives other logits than reading the whole text: right, but slow"
    elif drafting and not cache_rewinds(model):
        limit = f"{', '.join(drafting)} without a cache, which cannot take tokens back: right, but slow"
    else:
        return
    if _REPORTED.get(model) != limit:
        _REPORTED[model] = limit
        echo(f"{name} ({type(without_adapters(model)).__name__}): {limit}")


def read_prompts(
    model: Any, prompts: torch.Tensor, *, new_tokens: int, token_states: bool = False, layer_states: bool = False
) -> Prefix:
    """Prompts that the model has read, with a cache if that is right.

    Args:
        model: the model, in evaluation mode.
        prompts: token ids [rows, length], without padding.
        new_tokens: number of tokens to preallocate memory for.
        token_states: keep the last layer's hidden states of all positions.
        layer_states: keep the last position's hidden states of every layer.
    """
    if cache_appends(model):
        return prefill(model, prompts, new_tokens=new_tokens, token_states=token_states, layer_states=layer_states)
    return RecomputedPrefix.read(model, prompts, token_states=token_states, layer_states=layer_states)


def rewindable(prefix: Prefix, prompts: torch.Tensor) -> Prefix:
    """The prefix of these prompts, [rows, length], itself if its tokens can be taken back; otherwise recomputed."""
    if isinstance(prefix, RecomputedPrefix) or cache_rewinds(prefix.model):
        return prefix
    return RecomputedPrefix(prefix.model, prompts, prefix.logits)


# Logits, and the (rows, positions) of the two texts that they are of.
_Found = list[tuple[torch.Tensor, tuple[Any, Any]]]


def _measured(model: Any, use: Callable[[PrefixCache, torch.Tensor], _Found]) -> bool:
    """Whether the logits of a use of the cache are those of an uncached forward pass."""
    known = _MEASURED.setdefault(model, {})
    if use.__name__ not in known:
        known[use.__name__] = _is_right(model, use)
    return known[use.__name__]


def _is_right(model: Any, use: Callable[[PrefixCache, torch.Tensor], _Found]) -> bool:
    embedding = without_adapters(model).get_input_embeddings().weight
    if context_length(model.config) < _TOKENS:
        return False  # too short to measure, or to gain anything from a cache
    texts = probe_texts(_TOKENS, _PROMPT, len(embedding)).to(embedding.device)
    with torch.no_grad(), evaluating(model):
        expected = run_model(model, texts, keep=None).logits.float()
        try:
            found = use(prefill(model, texts[:1, :_PROMPT], new_tokens=_TOKENS), texts)
        except torch.OutOfMemoryError:
            raise
        except Exception:  # whatever a model's own code raises for a cache that it was not written for
            return False
    bound = rounding(model) * float(expected.std())
    return not any(float((logits - expected[where]).abs().max()) > bound for logits, where in found)


def _append(prompt: PrefixCache, texts: torch.Tensor) -> _Found:
    """Two copies of the prompt take different tokens, and so do copies of those, the other way round."""
    rows = prompt.copy_rows(torch.tensor([0, 0], device=texts.device))
    found: _Found = [(prompt.logits, ([0], 4)), (rows.append(texts[:, 5]), ([0, 1], 5))]
    swapped = rows.copy_rows(torch.tensor([1, 0], device=texts.device))
    found += [(rows.append(texts[:, 6]), ([0, 1], 6)), (swapped.append(texts.flip(0)[:, 6]), ([1, 0], 6))]
    return found


def _rewind(prompt: PrefixCache, texts: torch.Tensor) -> _Found:
    """A row takes a token of its own and two of the other text's, takes those back, and goes on with its own."""
    row = prompt.copy_rows(torch.tensor([0], device=texts.device))
    row.allow_rewinding()
    accepted = row.append_many(torch.cat([texts[:1, 5:6], texts[1:, 6:8]], dim=1))[0, :1]
    row.rewind(2)
    found: _Found = [(accepted, (0, slice(5, 6))), (row.append_many(texts[:1, 6:8])[0], (0, slice(6, 8)))]
    row.rewind(0)
    return [*found, (row.append_many(texts[:1, 8:9])[0], (0, slice(8, 9)))]
