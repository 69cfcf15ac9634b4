"""Contrastive search (Su et al., SimCTG, arXiv 2202.06417, equation 5) in batches, with one forward pass per token."""

import torch

from textgen.evaluation.decoding.prefix.prefix import Prefix


def contrastive_search(
    prefix: Prefix,
    *,
    top_k: int,
    penalty_alpha: float,
    max_new_tokens: int,
    eos_token_id: int | None,
) -> torch.Tensor:
    """Token ids of the continuations of the rows of ``prefix``, [rows, up to ``max_new_tokens``].

    Each token is the one of the ``top_k`` most probable candidates v that maximizes (1 − α)·p(v) − α·max cos(h_v, h_j),
    where h are the hidden states after the last layer, and j runs over all tokens so far, including the prompt. A
    candidate's hidden state requires reading it, so one forward pass reads the candidates of all rows, rows × top_k
    sequences of one token. The hidden state, cache and logits of the chosen candidate are reused for the next token.

    A row that ends before the longest is padded with ``eos_token_id``; if that is None, no row ends early. ``prefix``
    must have ``token_states``; it is consumed.
    """
    assert prefix.token_states is not None, "prefill with token_states=True"
    context, logits = prefix.token_states, prefix.logits
    prefix.token_states = context[:, :0]  # from here on, only of the candidates: the context is stored once per row
    rows, width = len(logits), min(top_k, logits.shape[-1])
    row = torch.arange(rows, device=logits.device)
    kept = row  # rows of the prefix cache that the next token continues
    ended = torch.zeros(rows, dtype=torch.bool, device=logits.device)
    tokens: list[torch.Tensor] = []
    with torch.no_grad():
        while len(tokens) < max_new_tokens and not bool(ended.all()):
            probabilities, candidates = logits.softmax(dim=-1).topk(width, dim=-1)  # [rows, width], most probable first
            prefix.select_rows(kept.repeat_interleave(width))
            candidate_logits = prefix.append(candidates.reshape(-1))
            states = prefix.token_states[:, -1].view(rows, width, -1)
            prefix.token_states = prefix.token_states[:, :0]
            similarity = (states @ context.transpose(1, 2)).amax(dim=-1)
            chosen = ((1 - penalty_alpha) * probabilities - penalty_alpha * similarity).argmax(dim=-1)
            kept = row * width + chosen
            logits = candidate_logits[kept]
            context = torch.cat([context, states[row, chosen, None]], dim=1)
            token = candidates[row, chosen]
            if eos_token_id is not None:
                token = token.masked_fill(ended, eos_token_id)
                ended = ended | (token == eos_token_id)
            tokens.append(token)
    return torch.stack(tokens, dim=1)
