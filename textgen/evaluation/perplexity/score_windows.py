"""Score token windows in batches that are divided among processes, resuming from the score cache."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch.nn.parallel import DistributedDataParallel

from textgen.data.document import Document
from textgen.evaluation.batching import pack_batches, share_batches
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.perplexity.document_sums import WindowScore, sum_window
from textgen.evaluation.perplexity.score_cache import ScoreCache, evaluation_key, window_keys
from textgen.evaluation.perplexity.windows import TokenWindow, WindowSettings
from textgen.model.contexts import evaluating
from textgen.model.token_scores import score_tokens, scoring_head, without_gradients

_MAX_LOGITS = 1 << 28  # per batch, if the head cannot be run separately: 1 GiB in float32


def score_windows(
    loaded: LoadedModel,
    windows: Sequence[TokenWindow],
    documents: Sequence[Document],
    settings: WindowSettings,
    *,
    batch_tokens: int,
    cache: ScoreCache | None = None,
) -> list[WindowScore]:
    """The score of each window, in order, on every process.

    Windows in the cache are not recomputed, and each batch is written to it once done. A batch with any missing record
    is computed as a whole, so that its results are bitwise identical to those of an uninterrupted evaluation.
    """
    model = loaded.model
    if isinstance(model, DistributedDataParallel):  # it would synchronize buffers between processes in every pass
        model = model.module  # Accelerate's unwrap_model would import DeepSpeed, which takes seconds
    keys: list[str] = []
    known: dict[int, WindowScore] = {}
    if cache:
        keys, known = _look_up(loaded, model, windows, cache, settings)
    scored: list[tuple[int, WindowScore]] = []
    with evaluating(model), without_gradients(model):
        head = scoring_head(model) if windows else None
        if head is None:
            batch_tokens = min(batch_tokens, max(1, _MAX_LOGITS // _vocabulary(model)))
        batches = [b for b in window_batches(windows, batch_tokens) if any(index not in known for index in b)]
        for _, batch in share_batches(loaded.accelerator, batches):
            results = _score_batch(model, head, [windows[index] for index in batch], loaded.device)
            fresh = [pair for pair in zip(batch, results, strict=True) if pair[0] not in known]
            scored += fresh
            if cache:
                cache.append([(keys[i], _document_ids(windows[i], documents), score) for i, score in fresh])
    gathered = gather_object(scored)
    by_index = dict(gathered) | known
    assert len(gathered) + len(known) == len(by_index) == len(windows), "windows were lost or scored twice"
    return [by_index[index] for index in range(len(windows))]


def window_batches(windows: Sequence[TokenWindow], batch_tokens: int) -> list[list[int]]:
    """Indices of the windows in batches of at most ``batch_tokens`` tokens, including padding, or of a single window.

    Windows of similar length and similar numbers of targets share a batch. The longest come first, so that running out
    of memory happens at once.
    """
    lengths = [len(window.inputs) for window in windows]
    order = sorted(range(len(windows)), key=lambda index: (-lengths[index], -len(windows[index].targets), index))
    return pack_batches(order, [(0, length) for length in lengths], batch_tokens)


def _look_up(
    loaded: LoadedModel, model: Any, windows: Sequence[TokenWindow], cache: ScoreCache, settings: WindowSettings
) -> tuple[list[str], dict[int, WindowScore]]:
    """The key of every window, and the cached scores by window index; the same on every process."""
    key = evaluation_key(model, asdict(settings))
    keys: list[str] = []
    known: dict[int, WindowScore] = {}
    if loaded.accelerator.is_main_process:
        keys, found = window_keys(key, windows), cache.read()
        known = {index: found[name] for index, name in enumerate(keys) if name in found}
    # Only one process reads: another machine may see an older state of a shared directory, and all must plan the same
    # batches.
    both: list[Any] = [keys, known]
    broadcast_object_list(both)
    return both[0], both[1]


def _document_ids(window: TokenWindow, documents: Sequence[Document]) -> list[str]:
    return [documents[owner].id for owner in sorted(set(window.owners.tolist()))]


def _vocabulary(model: torch.nn.Module) -> int:
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return int(getattr(text, "vocab_size", None) or 1)


def _score_batch(
    model: torch.nn.Module, head: torch.nn.Linear | None, batch: Sequence[TokenWindow], device: torch.device
) -> list[WindowScore]:
    """Score windows in one forward pass, right-padded to the longest."""
    longest = max(len(window.inputs) for window in batch)
    inputs = torch.zeros((len(batch), longest), dtype=torch.long)
    attention_mask = torch.zeros_like(inputs)
    positions = []
    for row, window in enumerate(batch):
        length = len(window.inputs)
        inputs[row, :length] = torch.from_numpy(window.inputs)
        attention_mask[row, :length] = 1
        columns = torch.arange(length - len(window.targets), length)
        positions.append(torch.stack([torch.full_like(columns, row), columns], dim=1))
    targets = [torch.from_numpy(window.targets) for window in batch]
    scores = score_tokens(
        model,
        head,
        inputs.to(device),
        attention_mask.to(device),  # transformers drops an all-ones mask; attention is faster without
        torch.cat(positions).to(device),
        torch.cat(targets).to(device),
    )
    sizes = [len(window.targets) for window in batch]
    return [sum_window(window, part) for window, part in zip(batch, scores.split(sizes), strict=True)]
