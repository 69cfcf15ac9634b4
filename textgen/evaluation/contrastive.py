"""Contrastive search (Su et al., SimCTG, arXiv 2202.06417, equation 5), in batches, one forward pass a token."""

import inspect

import torch
from torch.nn import functional as F
from transformers import DynamicCache, PreTrainedModel


def contrastive_search(
    model: PreTrainedModel,
    prompts: torch.Tensor,
    *,
    top_k: int,
    penalty_alpha: float,
    max_new_tokens: int,
    eos_token_id: int | None,
) -> torch.Tensor:
    """Token ids of the continuations, [rows, up to ``max_new_tokens``], of ``prompts`` [rows, length] without padding.

    Each token is the one of the ``top_k`` most probable candidates v that maximises (1 − α)·p(v) − α·max cos(h_v, h_j),
    with h the hidden states after the last layer and j running over all tokens so far, the prompt's included. A
    candidate's hidden state comes from reading it, so one pass reads all candidates of all rows, rows × top_k sequences
    of one token, and the chosen one's state, cache and logits serve the next token. A row that ends before the longest
    does is filled up with ``eos_token_id``; without one, none ends early.
    """
    rows = len(prompts)
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        logits, context = _read(model, prompts, cache)
        width = min(top_k, logits.shape[-1])
        row = torch.arange(rows, device=prompts.device)
        kept = row  # which sequences of the cache the next token goes on from
        ended = torch.zeros(rows, dtype=torch.bool, device=prompts.device)
        tokens: list[torch.Tensor] = []
        while len(tokens) < max_new_tokens and not bool(ended.all()):
            probabilities, candidates = logits.softmax(dim=-1).topk(width, dim=-1)  # [rows, width], most probable first
            cache.reorder_cache(kept.repeat_interleave(width))  # type: ignore[arg-type]
            all_logits, states = _read(model, candidates.reshape(-1, 1), cache)
            states = states.view(rows, width, -1)
            likeness = (states @ context.transpose(1, 2)).amax(dim=-1)
            chosen = ((1 - penalty_alpha) * probabilities - penalty_alpha * likeness).argmax(dim=-1)
            kept = row * width + chosen
            logits = all_logits[kept]
            context = torch.cat([context, states[row, chosen, None]], dim=1)
            token = candidates[row, chosen]
            if eos_token_id is not None:
                token = token.masked_fill(ended, eos_token_id)
                ended = ended | (token == eos_token_id)
            tokens.append(token)
    return torch.stack(tokens, dim=1)


def _read(model: PreTrainedModel, input_ids: torch.Tensor, cache: DynamicCache) -> tuple[torch.Tensor, torch.Tensor]:
    """Reads ``input_ids`` [rows, length] after what ``cache`` holds, which grows by them.

    Returns the logits that follow the last one [rows, vocabulary], and the directions of the last layer's hidden states
    [rows, length, width], unit vectors, both in float32.
    """
    keep = {"logits_to_keep": 1} if accepts_logits_to_keep(model) else {}
    output = model(input_ids=input_ids, past_key_values=cache, use_cache=True, output_hidden_states=True, **keep)
    return output.logits[:, -1].float(), F.normalize(output.hidden_states[-1].float(), dim=-1)


def accepts_logits_to_keep(model: PreTrainedModel) -> bool:
    """Whether the model can be told at how many of the last positions to compute logits."""
    return "logits_to_keep" in inspect.signature(without_adapters(model).forward).parameters


def without_adapters(model: PreTrainedModel) -> PreTrainedModel:
    """The transformers model itself: what a model with adapters around it answers for."""
    inner: PreTrainedModel = getattr(model, "get_base_model", lambda: model)()
    return inner
