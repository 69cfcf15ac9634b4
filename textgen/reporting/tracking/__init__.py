"""Experiment trackers, which show what the run directory has; the run directory stays the record.

Weights & Biases so far. Read ``wandb_mirror.py`` first (the object that the run log calls), then ``wandb_run.py``
(starting a run, online or offline) and ``wandb_tables.py`` (the tables that are sent).
"""
