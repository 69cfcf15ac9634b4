"""Perplexity: how likely held-out documents are under a model.

Read in this order: ``windows.py`` (which tokens the model reads to score which others; ``convention.py`` checks its
settings), ``score_windows.py`` (scoring them, in batches over all processes) and its ``score_cache.py`` (an interrupted
evaluation resumes from it), ``document_sums.py`` (the sums that every metric follows from), ``summary.py``
(perplexities with confidence intervals, and paired differences), ``token_report.py`` (calibration, loss by position,
hardest tokens), ``entropy_floor.py`` (the best possible bits per byte, for synthetic data), and
``measure_perplexity.py``, which combines them.
"""
