"""The record of a run, and everything that shows it: W&B, console, report, model card.

Read ``run_log.py`` first: the one object that a recipe logs to. It writes ``jsonl.py``'s records, the console and
``wandb_mirror.py``. ``results.py`` reads and writes what was measured; ``publish.py`` turns it into the report
(``report.py``, ``figures/``), the model card (``card.py``) and tables on the console (``console.py``). Their words are
in ``wording.py``. ``sample_tables.py`` shows the texts of ``--sample-every``.
"""
