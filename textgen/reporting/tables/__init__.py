"""The tables of the report, the model card and W&B.

``metrics.py`` builds tables of numbers, with the columns of ``reporting/columns.py``. ``texts.py`` puts texts side by
side. ``wandb_tables.py`` has the tables that are sent to W&B.
"""
