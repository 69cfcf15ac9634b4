"""The tables that the report, the model card, the console and W&B show.

``columns.py`` defines the columns; a new metric gets its title and description there. ``metrics.py`` builds tables of
numbers, ``texts.py`` puts texts side by side, ``wandb_tables.py`` has the tables that are sent to W&B.
"""
