"""The log of a run, and everything that shows it: W&B, console, report, model card.

Read ``run_log.py`` first: the one object that a recipe logs to. It writes the logs of ``jsonl.py``, the console and
the trackers of ``tracking/``. ``results.py`` reads and writes measurements; ``publish.py`` turns them into the report
(``report.py``), the model card (``card.py``) and tables on the console (``console.py``). These share ``columns.py``
(which metrics are shown, and how), ``tables/``, ``figures/``, ``formatting.py`` (numbers as text), ``wording.py``
(results in sentences) and ``rendering.py`` (templates).
"""
