"""Measuring a model: perplexity of held-out documents, and a comparison of decoding strategies.

Start with ``measure_model.py``, which measures everything in one call, on the documents of ``draw_documents.py``.
``perplexity/`` scores documents. ``decoding/`` generates continuations, and ``quality/`` measures them.
``uncertainty/`` has the intervals and significance tests of both. ``loaded_model.py`` is the argument of every
measurement, ``batching.py`` divides batches among processes, ``exchange.py`` is what these send each other, and
``config.py`` has the settings.
"""
