"""The commands of ``textgen``, for work on runs that are there already; training and evaluation are recipes.

Read ``table.py`` first, which names them all.
"""
