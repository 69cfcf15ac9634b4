"""The tables of the report and the model card.

``metrics.py`` builds tables of numbers, with the columns of ``reporting/columns.py``. ``balance.py`` compares the gain
on held-out text with other figures. ``texts.py`` puts texts side by side.
"""
