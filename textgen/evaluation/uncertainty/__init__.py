"""Uncertainty: 95 % confidence intervals and paired comparisons, over documents or prompts and never over tokens.

Read in this order: ``bootstrap.py`` (intervals by resampling items), ``rates.py`` (intervals of rates, also near 0 and
1), ``estimate.py`` (a value with everything that its interval and paired differences are computed from),
``label_swap.py`` (paired differences: the exact test and its interval), ``significance.py`` (corrections for several
comparisons, required numbers of prompts or samples). ``student_t.py`` and ``beta.py`` are the distributions behind
them.
"""
