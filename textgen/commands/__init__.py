"""The commands of ``textgen``: recipes by their names, and work on machines and on runs that are there already.

Read ``table.py`` first, which names them all.
"""
