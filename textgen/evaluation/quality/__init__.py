"""Quality of continuations: every strategy compared with the human text of the same prompts, with paired differences.

Read in this order: ``compare_strategies.py`` (generate, then measure), ``decoding_rows.py`` (the rows of
``decoding.json``), ``text_metrics.py`` with ``ngrams.py`` and ``self_bleu.py`` (metrics of texts alone),
``human_differences.py`` (paired differences, corrected for multiple comparisons), ``teacher_forcing.py`` (likelihoods
of given texts), ``judge.py`` (likelihood under a second model), ``mauve.py``, and ``truncation_coverage.py`` (what each
truncation keeps, without generating anything).
"""
