"""Perplexity that can be compared: nats per document, exact counts, and the four usual figures with their uncertainty.

Two conventions, because the one word has meant both:

``rolling``
    Each document by itself, after a prefix token, in disjoint windows: lm-evaluation-harness's
    ``loglikelihood_rolling``.
``strided``
    All documents as one text, in windows that overlap: the transformers guide "Perplexity of fixed-length models".

Results depend on the documents, the model, the convention, the context and the stride, and on nothing else: not on the
batch size, the padding or the number of processes, beyond the rounding of single-precision arithmetic.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from textgen.data.document import Document
from textgen.errors import UserError
from textgen.evaluation.statistics import bootstrap_paired_ratio_difference, percentile_interval, ratio, resampled_sums
from textgen.evaluation.windows import Passage, plan_batches, rolling_passages, strided_passages
from textgen.model.modes import evaluating

_LOGITS_AT_ONCE = 1 << 24  # logits copied to float32 at a time, 64 MiB


@dataclass(frozen=True)
class DocumentScore:
    """What every figure is summed from: a document's negative log-likelihood in nats, and its size in three units."""

    id: str
    nll: float
    tokens: int
    words: int
    bytes: int


def resolve_stride(convention: str, stride: int | None, context: int) -> int | None:
    """The stride in force: None for rolling; for strided the one given, else half of the context.

    Raises UserError for an unknown convention, a stride outside 1 … context, and a stride that would have no effect.
    """
    if convention == "rolling":
        if stride is not None:
            raise UserError(
                f"--stride {stride}: --convention rolling has none. Leave it out, or say --convention strided."
            )
        return None
    if convention != "strided":
        raise UserError(f"--convention {convention!r}: there is no such convention; choose rolling or strided.")
    if stride is None:
        return max(1, context // 2)
    if not 1 <= stride <= context:
        raise UserError(
            f"--stride {stride}: give 1 to {context}, which is the number of tokens that the model reads at once."
        )
    return stride


def score_documents(
    accelerator: Accelerator,
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Document],
    *,
    convention: str,
    context: int,
    stride: int | None = None,
    batch_tokens: int = 4096,
) -> list[DocumentScore]:
    """Each document's negative log-likelihood: the same list, in the order of the documents, on every process.

    The model, prepared or not, must be on ``accelerator.device`` and read ``context`` tokens at once; it is evaluated
    without dropout and left in the mode it was in. A batch holds up to ``batch_tokens`` tokens, or one window. Log
    probabilities are float32 whatever the model's dtype, and sums are float64. Text is tokenised whole and without
    the special tokens that some tokenizers add by themselves. For strided, a token counts towards the document in
    which it begins, a separator towards the document before it, and the first token of all, which nothing precedes,
    is not scored.

    Raises UserError for a setting that cannot be (see ``resolve_stride``), a tokenizer that lacks what the convention
    needs, and a model whose likelihoods are not finite.
    """
    stride = resolve_stride(convention, stride, context)
    if stride is None:
        passages = rolling_passages(tokenizer, documents, context)
    else:
        passages = strided_passages(tokenizer, documents, context, stride)
    batches = plan_batches(passages, batch_tokens)
    parts: list[list[float]] = [[] for _ in documents]
    for sums in _score_passages(accelerator, model, passages, batches):
        for owner, nll in sums.items():
            parts[owner].append(nll)
    tokens = np.zeros(len(documents), dtype=np.int64)
    for passage in passages:
        np.add.at(tokens, passage.owners, 1)
    scores = [
        DocumentScore(document.id, math.fsum(part), int(count), document.words, document.bytes)
        for document, part, count in zip(documents, parts, tokens, strict=True)
    ]
    for score in scores:  # on every process alike, since all of them hold all the sums
        if not math.isfinite(score.nll):
            raise UserError(
                f"The negative log-likelihood of document {score.id!r} is {score.nll}, so that there is no perplexity: "
                "the model's logits are not finite. Load it in float32, or look for NaN in its weights."
            )
    return scores


def _score_passages(
    accelerator: Accelerator, model: torch.nn.Module, passages: Sequence[Passage], batches: Sequence[Sequence[int]]
) -> list[dict[int, float]]:
    """Sums of nll by document for each passage, in the order of the passages, on every process."""
    # Unwrapped, because DistributedDataParallel synchronises buffers between the processes in every forward pass.
    model = accelerator.unwrap_model(model)
    rank, world = accelerator.process_index, accelerator.num_processes
    scored: list[tuple[int, dict[int, float]]] = []
    # Not inference_mode: fully_shard keeps parameters gathered here for the next training step, whose backward pass
    # refuses tensors made in that mode.
    with evaluating(model), torch.no_grad():
        for number in range(rank, math.ceil(len(batches) / world) * world, world):
            # A process that has no batch left repeats one and drops the result: where parameters are sharded, every
            # process must take part in every forward pass, or the others wait for ever.
            batch = batches[number % len(batches)]
            sums = _score_batch(model, [passages[index] for index in batch], accelerator.device)
            if number < len(batches):
                scored += zip(batch, sums, strict=True)
    gathered = gather_object(scored)
    by_index = dict(gathered)
    assert len(gathered) == len(by_index) == len(passages), "windows were lost or came back twice"
    return [by_index[index] for index in range(len(passages))]


def _score_batch(model: torch.nn.Module, batch: Sequence[Passage], device: torch.device) -> list[dict[int, float]]:
    """Sums of nll by document for each passage of a right-padded batch, which one forward pass reads."""
    longest = max(len(passage.inputs) for passage in batch)
    inputs = torch.zeros((len(batch), longest), dtype=torch.long)
    attention_mask = torch.zeros_like(inputs)
    for row, passage in enumerate(batch):
        inputs[row, : len(passage.inputs)] = torch.from_numpy(passage.inputs)
        attention_mask[row, : len(passage.inputs)] = 1
    begins = [len(passage.inputs) - len(passage.targets) for passage in batch]  # first input whose logits are scored
    # The head is a large part of the work: where the model can, it runs from the first scored position on only.
    can_keep = getattr(model, "_supports_logits_to_keep", None)
    keep = {"logits_to_keep": longest - min(begins)} if can_keep is not None and can_keep() else {}
    logits = model(
        input_ids=inputs.to(device), attention_mask=attention_mask.to(device), use_cache=False, **keep
    ).logits
    left_out = longest - logits.shape[1]
    nll = [
        _token_nll(logits[row, begin - left_out :][: len(passage.targets)], passage.targets)
        for row, (begin, passage) in enumerate(zip(begins, batch, strict=True))
    ]
    rows = torch.cat(nll).cpu().double().split([len(passage.targets) for passage in batch])  # one transfer a batch
    return [_sums_by_owner(row.numpy(), passage.owners) for row, passage in zip(rows, batch, strict=True)]


def _token_nll(logits: torch.Tensor, targets: np.ndarray) -> torch.Tensor:
    """Float32 nll of ``targets`` [positions] under ``logits`` [positions, vocabulary], a bounded part at a time."""
    labels = torch.from_numpy(targets).to(logits.device)
    rows = max(1, _LOGITS_AT_ONCE // logits.shape[-1])
    parts = zip(logits.split(rows), labels.split(rows), strict=True)
    return torch.cat([cross_entropy(part.float(), label, reduction="none") for part, label in parts])


def _sums_by_owner(nll: np.ndarray, owners: np.ndarray) -> dict[int, float]:
    """Sum of the targets' ``nll`` [targets], in float64, for each document among ``owners`` [targets]."""
    documents, position = np.unique(owners, return_inverse=True)
    sums = np.bincount(position, weights=nll)
    return dict(zip(documents.tolist(), sums.tolist(), strict=True))


def summarise(scores: Sequence[DocumentScore], *, convention: str, stride: int | None, seed: int) -> dict[str, Any]:
    """The sums over the documents, the four figures made of them, and their 95 % intervals over resampled documents.

    token_perplexity = exp(Σ nll / Σ tokens), word_perplexity and byte_perplexity likewise, bits_per_byte = Σ nll / (Σ
    bytes · ln 2); under ``<name>_interval`` stands [low, high]. ``stride`` is the one in force, None for rolling.
    Only word_perplexity, byte_perplexity and bits_per_byte compare models with different tokenizers. JSON has no
    infinity: a perplexity beyond the largest float (an nll of more than 709 nats a unit) is None, and bits_per_byte
    still tells it; so is token_perplexity where no token was scored.
    """
    assert scores, "no documents"
    nll = math.fsum(score.nll for score in scores)
    sizes = {unit: sum(getattr(score, unit) for score in scores) for unit in ("tokens", "words", "bytes")}
    columns = [[getattr(score, name) for score in scores] for name in ("nll", *sizes)]
    sums = resampled_sums(columns, seed=seed)
    intervals = {
        unit: percentile_interval(ratio(sums[:, 0], sums[:, 1 + i]), items=len(scores)) for i, unit in enumerate(sizes)
    }
    summary: dict[str, Any] = {
        "convention": convention,
        "stride": stride,
        "documents": len(scores),
        "nll_sum": nll,
        **sizes,
    }
    for unit, name in (("tokens", "token"), ("words", "word"), ("bytes", "byte")):
        # With the strided convention, a single token has nothing before it and is not scored.
        value, bounds = (nll / sizes[unit], intervals[unit]) if sizes[unit] else (math.inf, (math.inf, math.inf))
        summary[f"{name}_perplexity"] = _exp(value)
        summary[f"{name}_perplexity_interval"] = [_exp(bound) for bound in bounds]
    summary["bits_per_byte"] = nll / sizes["bytes"] / math.log(2)
    summary["bits_per_byte_interval"] = [bound / math.log(2) for bound in intervals["bytes"]]
    return summary


def _exp(nats: float) -> float | None:
    """e to the ``nats``, or None beyond the largest float."""
    return math.exp(nats) if nats <= math.log(sys.float_info.max) else None


def paired_difference(
    scores_a: Sequence[DocumentScore], scores_b: Sequence[DocumentScore], seed: int
) -> dict[str, Any]:
    """How much worse b is than a in bits_per_byte (b − a, negative if b is better), with a paired 95 % interval.

    Keys: documents, bits_per_byte, bits_per_byte_interval. Both must have scored the same documents in the same order.
    An interval that contains 0 means that they cannot be told apart on these documents.
    """
    key_a, key_b = ([(score.id, score.bytes) for score in scores] for scores in (scores_a, scores_b))
    assert scores_a, "no documents"
    assert key_a == key_b, "a paired difference takes the same documents in the same order"
    nll_a, nll_b = [score.nll for score in scores_a], [score.nll for score in scores_b]
    sizes = [score.bytes * math.log(2) for score in scores_a]
    return {
        "documents": len(scores_a),
        "bits_per_byte": math.fsum(nll_b) / math.fsum(sizes) - math.fsum(nll_a) / math.fsum(sizes),
        "bits_per_byte_interval": list(bootstrap_paired_ratio_difference(nll_a, sizes, nll_b, sizes, seed=seed)),
    }
