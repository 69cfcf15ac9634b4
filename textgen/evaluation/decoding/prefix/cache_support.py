"""Whether a model's cache gives the logits that it computes without one, measured on a few tokens.

It does not in models that ignore the cache they are given (RWKV, the first GPT), keep a state of their own
(RecurrentGemma), or cannot take back what a recurrent state has read (Mamba, Jamba, Qwen3-Next). Those are decoded
from the whole text instead (``recomputed_prefix.py``), which is right and slow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch

from textgen.evaluation.decoding.prefix.prefix import Prefix, run_model
from textgen.evaluation.decoding.prefix.prefix_cache import prefill
from textgen.evaluation.decoding.prefix.recomputed_prefix import RecomputedPrefix
from textgen.evaluation.decoding.strategies import Strategy
from textgen.model.architecture import context_length
from textgen.model.contexts import evaluating
from textgen.model.layers import without_adapters
from textgen.model.probe import probe_texts, rounding

_TOKENS = 10  # in each of the two texts of the measurement


@dataclass(frozen=True)
class CacheSupport:
    """What can be done with a model's cache so that logits are those of an uncached forward pass.

    Attributes:
        appends: read texts token by token, and copy, select and reorder them.
        rewinds: besides, read several tokens at once, and remove the last ones again.
    """

    appends: bool
    rewinds: bool

    def limit(self, strategies: Sequence[Strategy]) -> str:
        """What these strategies have to do without; empty for nothing."""
        if not self.appends:
            return "its cache is not right, so every token reads the whole text again: right, but slow"
        drafting = [strategy.name for strategy in strategies if strategy.decoder == "speculative"]
        if drafting and not self.rewinds:
            return (
                "its cache cannot take tokens back, so every step reads the whole text again in "
                f"{', '.join(drafting)}: right, but slow"
            )
        return ""


_SUPPORT: WeakKeyDictionary[torch.nn.Module, CacheSupport] = WeakKeyDictionary()
_REPORTED: WeakKeyDictionary[torch.nn.Module, str] = WeakKeyDictionary()


def cache_support(model: Any) -> CacheSupport:
    """What the model's cache can do; measured once for each model object."""
    if model not in _SUPPORT:
        _SUPPORT[model] = measure_cache_support(model)
    return _SUPPORT[model]


def report_limits(model: Any, name: str, strategies: Sequence[Strategy], echo: Callable[[str], None]) -> None:
    """Print what a model's cache cannot do for these strategies, once for each model object."""
    limit = cache_support(model).limit(strategies) if strategies else ""
    if limit and _REPORTED.get(model) != limit:
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
    if cache_support(model).appends:
        return prefill(model, prompts, new_tokens=new_tokens, token_states=token_states, layer_states=layer_states)
    return RecomputedPrefix.read(model, prompts, token_states=token_states, layer_states=layer_states)


def rewindable(prefix: Prefix, prompts: torch.Tensor) -> Prefix:
    """The prefix of these prompts, [rows, length], itself if its tokens can be removed again; otherwise recomputed."""
    if cache_support(prefix.model).rewinds or isinstance(prefix, RecomputedPrefix):
        return prefix
    return RecomputedPrefix(prefix.model, prompts, prefix.logits)


def measure_cache_support(model: Any) -> CacheSupport:
    """Compare cached with uncached logits of two texts, which differ in their second half."""
    embedding = without_adapters(model).get_input_embeddings().weight
    if context_length(model.config) < _TOKENS:
        return CacheSupport(appends=False, rewinds=False)  # too short to measure, or to gain anything from a cache
    with torch.no_grad(), evaluating(model):
        texts = probe_texts(_TOKENS, _TOKENS // 2, len(embedding)).to(embedding.device)
        expected = run_model(model, texts, keep=None).logits.float()
        appends = _is_right(_appended, model, texts, expected)
        return CacheSupport(appends, appends and _is_right(_rewound, model, texts, expected))


# A use of the cache: (model, texts [2, length]) → pairs of logits and the (rows, positions) that they are of.
_Use = Callable[[Any, torch.Tensor], list[tuple[torch.Tensor, tuple[Any, Any]]]]


def _is_right(use: _Use, model: Any, texts: torch.Tensor, expected: torch.Tensor) -> bool:
    try:
        found = use(model, texts)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever a model's own code raises for a cache that it was not written for
        return False
    bound = rounding(model) * float(expected.std())
    return not any(float((logits - expected[where]).abs().max()) > bound for logits, where in found)


def _appended(model: Any, texts: torch.Tensor) -> list[tuple[torch.Tensor, tuple[Any, Any]]]:
    """Two copies of one row take different tokens; one of them is dropped, and the original must be untouched."""
    both, one = torch.tensor([0, 0], device=texts.device), torch.tensor([1], device=texts.device)
    prompt = prefill(model, texts[:1, :5], new_tokens=5)
    rows = prompt.copy_rows(both)
    found = [(prompt.logits, ([0], 4)), (rows.append(texts[:, 5]), ([0, 1], 5))]
    swapped = rows.copy_rows(one)
    found += [(rows.append(texts[:, 6]), ([0, 1], 6)), (swapped.append(texts[1:, 6]), ([1], 6))]
    rows.select_rows(one)
    return [*found, (rows.append(texts[1:, 7]), ([1], 7)), (prompt.append(texts[:1, 5]), ([0], 5))]


def _rewound(model: Any, texts: torch.Tensor) -> list[tuple[torch.Tensor, tuple[Any, Any]]]:
    """A row takes the other text's tokens, removes them, and takes its own."""
    row = torch.tensor([0], device=texts.device)
    prefix = prefill(model, texts[:1, :4], new_tokens=6).copy_rows(row)
    prefix.allow_rewinding()
    accepted = prefix.append_many(torch.cat([texts[:1, 4:6], texts[1:, 6:8]], dim=1))[0, :2]
    prefix.rewind(2)
    found = prefix.append_many(texts[:1, 6:9])[0]
    prefix.rewind(0)
    last = prefix.append_many(texts[:1, 9:])[0]
    return [(accepted, (0, slice(4, 6))), (found, (0, slice(6, 9))), (last, (0, slice(9, 10)))]
