"""Faster and smaller versions of a model's layers, with the same results up to rounding.

``swap_modules.py`` puts them into a model. ``linear.py``: linear layers that choose the faster CPU backend and
recompute inputs instead of storing them. ``logits.py``: the output head in chunks. ``tied_embedding.py``: one gradient
buffer for a weight that embedding and output head share.
"""
