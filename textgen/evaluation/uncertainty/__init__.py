"""Uncertainty: 95 % intervals and paired comparisons, over documents or prompts and never over tokens.

Read in this order: ``bootstrap.py`` (intervals by resampling items), ``estimate.py`` (a figure with what its interval
and its paired differences are computed from), ``significance.py`` (differences: intervals, p values, Holm's correction,
and how many prompts would be needed), and ``student_t.py`` (Student's t distribution).
"""
