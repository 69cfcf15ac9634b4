"""Decoding strategies as settings of transformers' ``generate``, for a model's ``generation_config.json``."""

from collections.abc import Mapping
from typing import Any

from textgen.evaluation.decoding.strategies import Strategy

# Families that `generate` decodes in the same way, and what it needs besides the strategy's own settings. It would
# otherwise keep the 50 most probable tokens. Not in it: `top_h`, where transformers looks at the best 100 tokens only.
_SAMPLING = {"do_sample": True, "top_k": 0}
_SEARCH = {"do_sample": False}
_FAMILIES: dict[str, dict[str, Any]] = {
    "greedy": _SEARCH,
    "beam": _SEARCH | {"early_stopping": False},
    "beam_sampling": _SAMPLING | {"early_stopping": False},
    "temperature": _SAMPLING,
    "top_k": _SAMPLING,
    "top_p": _SAMPLING,
    "typical": _SAMPLING,
    "epsilon": _SAMPLING,
    "eta": _SAMPLING,
    "min_p": _SAMPLING,
    "repetition_penalty": _SEARCH,
    "no_repeat_ngram": _SEARCH,
}

# Settings of the file that say how to decode, or that nothing was set. The others (special tokens, lengths, words to
# avoid) stay.
_DECODING = (
    "_from_model_config",
    *("do_sample", "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"),
    *("num_beams", "num_beam_groups", "diversity_penalty", "length_penalty", "early_stopping", "penalty_alpha"),
    *("repetition_penalty", "no_repeat_ngram_size", "dola_layers", "prompt_lookup_num_tokens", "custom_generate"),
)


def generation_settings(strategy: Strategy) -> dict[str, Any] | None:
    """The arguments of transformers' ``generate`` that decode as a strategy does; None if there are none."""
    needed = _FAMILIES.get(strategy.family)
    return None if needed is None else {**needed, **strategy.settings}


def with_generation_settings(content: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of ``generation_config.json`` with other settings for decoding, sorted by name.

    Args:
        content: the contents now.
        settings: from :func:`generation_settings`; other settings that say how to decode are removed.
    """
    kept = {name: value for name, value in content.items() if name not in _DECODING}
    return dict(sorted({**kept, **settings}.items()))
