"""The model: locating, loading, adapters, the training loss, scoring and saving.

Read in this order: ``config.py`` (settings), ``locate.py`` (where a model is, and its tokenizer), ``loading.py``
(weights in and out), ``quantized.py`` (weights in 4 or 8 bits), ``quantized_checkpoint.py`` (weights that were saved
quantized), ``adapters/``, and ``build.py``, which puts them together. ``loss.py`` is the training loss,
``token_scores.py`` the evaluation of given tokens; neither stores all logits. ``layers.py`` finds the repeated layers,
``contexts.py`` changes a model temporarily, and ``kernels/`` has the memory-efficient layers.
"""
