"""Scoring windows of tokens: in batches, shared out over the processes, and on from what is on the disk already."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch.nn.parallel import DistributedDataParallel

from textgen.data.document import Document
from textgen.evaluation.perplexity.document_sums import PassageScore, tally_passage
from textgen.evaluation.perplexity.score_cache import Records, evaluation_key, passage_keys
from textgen.evaluation.perplexity.windows import Passage, plan_batches
from textgen.model.contexts import evaluating
from textgen.model.token_scores import score_tokens, scoring_head, without_gradients

_LOGITS_AT_ONCE = 1 << 28  # of a batch, where the head is not to be run by itself: 1 GiB in float32


def score_passages(
    accelerator: Accelerator,
    model: torch.nn.Module,
    passages: Sequence[Passage],
    documents: Sequence[Document],
    *,
    batch_tokens: int,
    records: Records | None = None,
    settings: dict[str, object] | None = None,
) -> list[PassageScore]:
    """The score of each passage, in the order of the passages, on every process.

    With ``records``, those that were scored before under the same ``settings`` are taken from there, and each batch is
    written there when it is done. A batch of which a record is missing is run as a whole: its results have the same
    bits as if it had never been interrupted.
    """
    if isinstance(model, DistributedDataParallel):  # it synchronises buffers between the processes in every pass
        model = model.module  # and not by Accelerate's unwrapping, which imports DeepSpeed, in seconds
    rank, world = accelerator.process_index, accelerator.num_processes
    keys: list[str] = []
    known: dict[int, PassageScore] = {}
    if records:
        keys, known = _look_up(accelerator, model, passages, records, settings or {})
    scored: list[tuple[int, PassageScore]] = []
    with evaluating(model), without_gradients(model):
        head = scoring_head(model) if passages else None
        if head is None:
            batch_tokens = min(batch_tokens, max(1, _LOGITS_AT_ONCE // _vocabulary(model)))
        batches = plan_batches(passages, batch_tokens)
        batches = [batch for batch in batches if any(index not in known for index in batch)]
        for number in range(rank, math.ceil(len(batches) / world) * world, world):
            # A process that has no batch left repeats one and drops the result: where parameters are sharded, every
            # process must take part in every forward pass, or the others wait for ever.
            batch = batches[number % len(batches)]
            results = _score_batch(model, head, [passages[index] for index in batch], accelerator.device)
            if number < len(batches):
                fresh = [pair for pair in zip(batch, results, strict=True) if pair[0] not in known]
                scored += fresh
                if records:
                    records.append([(keys[i], _ids(passages[i], documents), score) for i, score in fresh])
    gathered = gather_object(scored)
    by_index = dict(gathered) | known
    assert len(gathered) + len(known) == len(by_index) == len(passages), "windows were lost or came back twice"
    return [by_index[index] for index in range(len(passages))]


def _look_up(
    accelerator: Accelerator,
    model: torch.nn.Module,
    passages: Sequence[Passage],
    records: Records,
    settings: dict[str, object],
) -> tuple[list[str], dict[int, PassageScore]]:
    """The key of every passage, and the scores of those that have a record: the same on every process."""
    key = evaluation_key(model, settings)
    keys: list[str] = []
    known: dict[int, PassageScore] = {}
    if accelerator.is_main_process:
        keys, found = passage_keys(key, passages), records.read()
        known = {index: found[name] for index, name in enumerate(keys) if name in found}
    # One process decides: what the others see of a shared directory may lag behind, and they must agree on the batches.
    both: list[Any] = [keys, known]
    broadcast_object_list(both)
    return both[0], both[1]


def _ids(passage: Passage, documents: Sequence[Document]) -> list[str]:
    return [documents[owner].id for owner in sorted(set(passage.owners.tolist()))]


def _vocabulary(model: torch.nn.Module) -> int:
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return int(getattr(text, "vocab_size", None) or 1)


def _score_batch(
    model: torch.nn.Module, head: torch.nn.Linear | None, batch: Sequence[Passage], device: torch.device
) -> list[PassageScore]:
    """The scores of passages that one forward pass reads, right-padded to the longest."""
    longest = max(len(passage.inputs) for passage in batch)
    inputs = torch.zeros((len(batch), longest), dtype=torch.long)
    attention_mask = torch.zeros_like(inputs)
    positions = []
    for row, passage in enumerate(batch):
        length = len(passage.inputs)
        inputs[row, :length] = torch.from_numpy(passage.inputs)
        attention_mask[row, :length] = 1
        columns = torch.arange(length - len(passage.targets), length)
        positions.append(torch.stack([torch.full_like(columns, row), columns], dim=1))
    targets = [torch.from_numpy(passage.targets) for passage in batch]
    scores = score_tokens(
        model,
        head,
        inputs.to(device),
        attention_mask.to(device),  # of ones alone it is left out by transformers, whose attention is faster without
        torch.cat(positions).to(device),
        torch.cat(targets).to(device),
    )
    sizes = [len(passage.targets) for passage in batch]
    return [tally_passage(passage, part) for passage, part in zip(batch, scores.split(sizes), strict=True)]
