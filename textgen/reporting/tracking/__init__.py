"""Experiment trackers, which show what the run directory has; the run directory stays the record.

Read ``tracker.py`` first (what the run log calls, and the table of trackers), then ``mirror.py`` (how a tracker is kept
from disturbing a run) and ``rows.py`` (what trackers get, and its names). ``tensorboard_session.py``,
``trackio_session.py`` and ``mlflow_session.py`` are one library each. For Weights & Biases, read ``wandb_session.py``
(what is sent, and whether it arrived), ``wandb_run.py`` (starting a run, online or offline), ``wandb_tables.py``,
``wandb_charts.py`` and ``wandb_results.py`` (what is sent at the end), ``wandb_lineage.py`` (data, models and results
as artifacts) and ``wandb_dashboard.py`` (the workspace and the report). ``replay.py`` sends all of it after the run.
"""
