"""Measuring a model: perplexity of held-out documents, and a comparison of decoding strategies.

Start at ``measure_model.py``, which measures everything in one call. The packages: ``uncertainty/`` (intervals and
significance) ← ``perplexity/``; ``decoding/`` and ``uncertainty/`` ← ``quality/``. ``loaded_model.py`` is what every
measurement takes, ``sharing.py`` divides work over processes, ``config.py`` has the settings.
"""
