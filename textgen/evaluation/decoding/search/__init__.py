"""Decoding algorithms that are not a rule for one token at a time.

``beam_search.py``: beam search, diverse beam search, and beam sampling. ``contrastive_search.py``: SimCTG's search.
``speculative.py``: several tokens per forward pass, drafted by an amateur model or by prompt lookup.
"""
