"""Contrastive search (Su et al., SimCTG, arXiv 2202.06417, equation 5), in batches, one forward pass a token."""

import torch

from textgen.evaluation.decoding.prefix_cache import PrefixCache


def contrastive_search(
    prefix: PrefixCache,
    *,
    top_k: int,
    penalty_alpha: float,
    max_new_tokens: int,
    eos_token_id: int | None,
) -> torch.Tensor:
    """Token ids of the continuations, [rows, up to ``max_new_tokens``], of the rows of ``prefix``, which is
    consumed.

    Each token is the one of the ``top_k`` most probable candidates v that maximises (1 − α)·p(v) − α·max cos(h_v, h_j),
    with h the hidden states after the last layer and j running over all tokens so far, the prompt's included; the
    prefix must have kept these states. A candidate's hidden state comes from reading it, so one pass reads all
    candidates of all rows, rows × top_k sequences of one token, and the chosen one's state, cache and logits serve the
    next token. A row that ends before the longest is filled up with ``eos_token_id``; without one, none ends early.
    """
    assert prefix.states is not None, "prefill with states=True"
    context, logits = prefix.states, prefix.logits
    prefix.states = prefix.states[:, :0]  # from here on, of candidates only: the context is kept once per row
    rows, width = len(logits), min(top_k, logits.shape[-1])
    row = torch.arange(rows, device=logits.device)
    kept = row  # the rows of the prefix cache that the next token continues
    ended = torch.zeros(rows, dtype=torch.bool, device=logits.device)
    tokens: list[torch.Tensor] = []
    with torch.no_grad():
        while len(tokens) < max_new_tokens and not bool(ended.all()):
            probabilities, candidates = logits.softmax(dim=-1).topk(width, dim=-1)  # [rows, width], most probable first
            prefix.select_rows(kept.repeat_interleave(width))
            all_logits = prefix.append(candidates.reshape(-1))
            states = prefix.states[:, -1].view(rows, width, -1)
            prefix.states = prefix.states[:, :0]
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
