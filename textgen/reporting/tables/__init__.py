"""The tables of the report and the model card.

``metrics.py`` builds tables of numbers, with the columns of ``reporting/columns.py``. ``texts.py`` puts texts side by
side.
"""
