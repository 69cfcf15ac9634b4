"""Decoding: continuations of prompts by every strategy, with common random numbers.

Read in this order: ``strategies.py`` (the table), ``strategy_parser.py`` (``--strategies``), ``prompts.py``,
``gumbel.py`` (random numbers keyed by what is decoded), ``prefix/`` (prompts that the model has read, with a cache or
without), ``token_loop.py`` with ``next_token.py`` and ``truncation.py`` (strategies that choose token by token),
``contrasted_logits.py`` (contrastive decoding, DoLa), ``search/`` (the other algorithms), ``dispatch.py`` (runs each
strategy), ``generate.py`` (all prompts, divided over processes) and ``training_samples.py`` (``--sample-every``).
"""
