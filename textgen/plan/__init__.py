"""What happens before a run: every check that needs no weights, and the dry run.

``check.py`` checks the settings of every package, finds data and models, and reports all problems at once.
``dry_run.py`` prints the plan.
"""
