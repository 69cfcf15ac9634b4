"""Decoding algorithms that do not choose one token after another by a rule of their own.

``beam_search.py``: beam search, diverse beam search, and stochastic beams. ``contrastive_search.py``: SimCTG's search.
``speculative.py``: several tokens per forward pass, drafted by an amateur model or looked up in the text so far.
"""
