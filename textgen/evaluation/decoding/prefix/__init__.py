"""Texts that a model has read and continues, with the logits of the next token.

``prefix.py`` is what decoders need; ``prefix_cache.py`` keeps keys and values, and ``recomputed_prefix.py`` reads the
whole text again for each token. ``cache_support.py`` measures which of the two a model needs, and
``hidden_states.py`` is for the strategies that read more than logits.
"""
