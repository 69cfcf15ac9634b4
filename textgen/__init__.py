"""Fine-tune a causal language model and evaluate the result.

Read the packages in this order: ``data/``, ``model/``, ``training/``, ``evaluation/``, ``reporting/``. Each imports
only those before it. ``config.py``, ``errors.py``, ``files.py``, ``launch_environment.py``, ``progress.py`` and
``run/`` are the foundation of all of them; ``plan/`` has the checks and the dry run of the recipes.
"""

__version__ = "0.1.0"
