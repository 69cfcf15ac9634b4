"""Measuring a model: perplexity of held-out documents, and a comparison of decoding strategies.

Start with ``measure_model.py``, which measures everything in one call. ``perplexity/`` scores documents. ``decoding/``
generates continuations, and ``quality/`` measures them. ``uncertainty/`` has the intervals and significance tests of
both. ``loaded_model.py`` is the argument of every measurement, ``batching.py`` divides batches among processes, and
``config.py`` has the settings.
"""
