"""Publishes the results of a run: the report, the model card, and tables on the console."""

from collections.abc import Callable
from pathlib import Path

from textgen.reporting.card import write_model_card
from textgen.reporting.console import (
    print_balance,
    print_decoding,
    print_headline,
    print_perplexity,
    print_recommendation,
)
from textgen.reporting.report import write_report
from textgen.reporting.results import EvaluationResults, RunFiles
from textgen.reporting.wording import headline


def publish(run_dir: Path, results: EvaluationResults, echo: Callable[[str], None]) -> None:
    """Write ``report.html`` and ``README.md`` from the files of a run, and print its tables.

    Raises:
        UserError: a file of the run is damaged.
    """
    report = write_report(run_dir)
    write_model_card(run_dir)
    print_headline(headline(RunFiles.read(run_dir)))
    print_perplexity(results.perplexity())
    print_balance(results.perplexity(), results.contamination(), results.mask())
    print_decoding(results.decoding())
    print_recommendation(results.recommendation())
    echo(f"report: {report}")
