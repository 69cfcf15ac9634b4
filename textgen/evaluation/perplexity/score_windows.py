"""Score token windows in batches that are divided among processes, resuming from the score cache."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from textgen import signals
from textgen.data.document import Document
from textgen.evaluation.batching import pack_batches, share_progress, share_runs
from textgen.evaluation.exchange import stop_together
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.perplexity.document_sums import WindowScore, sum_window
from textgen.evaluation.perplexity.score_cache import CachedScores, ScoreCache, evaluation_key, look_up
from textgen.evaluation.perplexity.token_windows import TokenWindow, TokenWindows, Window
from textgen.evaluation.perplexity.windows import WindowSettings
from textgen.model.contexts import evaluating
from textgen.model.token_scores import score_tokens, scoring_head, without_gradients

_MAX_LOGITS = 1 << 28  # per batch, if the head cannot be run separately: 1 GiB in float32


def score_windows(
    loaded: LoadedModel,
    windows: TokenWindows,
    documents: Sequence[Document],
    settings: WindowSettings,
    *,
    batch_tokens: int,
    cache: ScoreCache | None = None,
) -> dict[int, WindowScore]:
    """This process's share of the scores, by window index; those from the cache are the main process's.

    Windows in the cache are not recomputed, and each batch is written to it once done. A batch with any missing record
    is computed as a whole, so that its results are bitwise identical to those of an uninterrupted evaluation.

    Raises:
        Preempted: a process was told to stop.
    """
    model = loaded.model
    if isinstance(model, DistributedDataParallel):  # it would synchronize buffers between processes in every pass
        model = model.module  # Accelerate's unwrap_model would import DeepSpeed, which takes seconds
    known, cached = np.zeros(len(windows), bool), None
    if cache:
        cached = look_up(loaded.accelerator, cache, evaluation_key(model, asdict(settings)), windows)
        known = cached.known
    scored = dict(cached.scores) if cached else {}
    with evaluating(model), without_gradients(model):
        head = scoring_head(model) if len(windows) else None
        if head is None:
            batch_tokens = min(batch_tokens, max(1, _MAX_LOGITS // _vocabulary(model)))
        batches = [b for b in window_batches([w for _, w in windows.spans], batch_tokens) if not known[b].all()]
        sizes = [sum(windows.spans[index][1].inputs for index in batch) for batch in batches]
        shares = share_runs(sizes, loaded.accelerator.num_processes)
        share = shares[loaded.accelerator.process_index]
        windows.exchange(loaded.accelerator, [[i for number in run for i in batches[number]] for run in shares])
        with share_progress(f"scoring {loaded.name}".rstrip(), sizes, share, unit="tokens") as advance:
            for number in share:
                if signals.requested():
                    break
                batch = batches[number]
                results = _score_batch(model, head, [windows[index] for index in batch], loaded.device)
                fresh = {i: score for i, score in zip(batch, results, strict=True) if not known[i]}
                scored |= fresh
                if cache and cached:
                    cache.append([_record(cached, windows, documents, i, score) for i, score in fresh.items()])
                advance(sizes[number])
    stop_together(loaded.accelerator)
    return scored


def _record(
    cached: CachedScores, windows: TokenWindows, documents: Sequence[Document], index: int, score: WindowScore
) -> tuple[str, list[str], WindowScore]:
    """A row for :meth:`ScoreCache.append`."""
    ids = [documents[owner].id for owner in windows.documents(index)]
    return cached.key(index, windows[index]), ids, score


def window_batches(windows: Sequence[Window], batch_tokens: int) -> list[list[int]]:
    """Indices of the windows in batches of at most ``batch_tokens`` tokens, including padding, or of a single window.

    Windows of similar length and similar numbers of targets share a batch. The longest come first, so that running out
    of memory happens at once.
    """
    order = sorted(range(len(windows)), key=lambda index: (-windows[index].inputs, -windows[index].targets, index))
    return pack_batches(order, [(0, window.inputs) for window in windows], batch_tokens)


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
