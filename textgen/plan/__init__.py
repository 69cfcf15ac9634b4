"""What happens before a run: every check that needs no weights, and the dry run.

``check.py`` checks the settings of every package, finds data and models, and reports all problems at once, with those
of examples of a task (``sample_data.py``, ``check_examples.py``). ``dry_run.py`` prints the plan.
"""
