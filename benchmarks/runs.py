"""Runs of recipes/finetune.py as a user would start them, and what they recorded: for benchmarks of losses."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from textgen.evaluation.perplexity.document_sums import DocumentScore
from textgen.evaluation.perplexity.summary import paired_difference

ROOT = Path(__file__).parents[1]
# Only the perplexity before and after is wanted.
FLAGS = ("--evaluate-every", "0", "--checkpoint-every", "0", "--skip-decoding", "--wandb-mode", "disabled")


def finetune(flags: Sequence[str], directory: Path) -> None:
    """Run the recipe into a directory; nothing is done if the same run there is complete.

    Raises:
        SystemExit: the run failed; its output is in the file beside the directory that the message names.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    log = directory.with_name(f"{directory.name}.log")
    command = [sys.executable, str(ROOT / "recipes" / "finetune.py"), *FLAGS, *flags, "--run-dir", str(directory)]
    with log.open("a", encoding="utf-8") as output:
        code = subprocess.run(command, check=False, stdout=output, stderr=output).returncode
    if code:
        sys.exit(f"{directory.name} ended with {code}; see {log}")


def perplexity(directory: Path) -> dict[str, Any]:
    """What a run measured: "before", "after" and their "difference"."""
    return json.loads((directory / "evaluation" / "perplexity.json").read_text(encoding="utf-8"))


def length(directory: Path) -> dict[str, int]:
    """Number of "steps" and "targets" that a run trained on."""
    last = json.loads((directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return {"steps": last["step"], "targets": last["train/tokens"]}


def scores(directory: Path) -> list[DocumentScore]:
    """The held-out documents' scores after a run."""
    lines = (directory / "evaluation" / "documents.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [DocumentScore(**{k: v for k, v in row.items() if k != "when"}) for row in rows if row["when"] == "after"]


def mean_scores(runs: Sequence[Sequence[DocumentScore]]) -> list[DocumentScore]:
    """Each document's mean nll over runs that scored the same documents, such as runs of several seeds."""
    documents = [[(score.id, score.bytes) for score in run] for run in runs]
    assert all(one == documents[0] for one in documents), "the runs scored different documents"
    return [replace(same[0], nll=sum(score.nll for score in same) / len(runs)) for same in zip(*runs, strict=True)]


def difference(runs: Sequence[Path], baselines: Sequence[Path], seed: int = 0) -> dict[str, Any]:
    """Bits per byte of some runs less those of others, paired by document: see ``paired_difference``."""
    new, old = (mean_scores([scores(path) for path in paths]) for paths in (runs, baselines))
    return paired_difference(old, new, seed)


def with_interval(found: dict[str, Any], *, signed: bool = False, digits: int = 3) -> str:
    """Bits per byte with their 95 % interval: 0.991 (0.948–1.052), or a difference: −0.154 (−0.203 to −0.129)."""
    sign, to = ("+", " to ") if signed else ("", "–")
    value, low, high = (f"{x:{sign}.{digits}f}" for x in (found["bits_per_byte"], *found["bits_per_byte_interval"]))
    return f"{value} ({low}{to}{high})".replace("-", "−")
