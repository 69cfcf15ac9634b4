"""Experiment trackers, which show what the run directory has; the run directory stays the record.

Read ``tracker.py`` first (what the run log calls, and the table of trackers); then, for Weights & Biases,
``wandb_mirror.py`` (the tracker), ``wandb_run.py`` (starting a run, online or offline), ``wandb_tables.py`` (the tables
that are sent), ``wandb_results.py`` (what is sent at the end) and ``replay.py`` (sending all of it after the run).
"""
