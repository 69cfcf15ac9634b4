"""Writes what a run of recipes/finetune.py records, as far as the benchmarks read it."""

import json
from collections.abc import Mapping
from pathlib import Path


def write_run(directory: Path, nll: Mapping[str, float], *, before: float = 100.0, targets: int = 64) -> Path:
    """A run directory whose held-out documents have 10 bytes each, and after training the nll that is given by id."""
    (directory / "evaluation").mkdir(parents=True)
    size = {"tokens": 5, "words": 2, "bytes": 10, "top_1": 1, "top_5": 2}
    rows = [{"when": "before", "id": name, "nll": before} | size for name in nll]
    rows += [{"when": "after", "id": name, "nll": value} | size for name, value in nll.items()]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (directory / "evaluation" / "documents.jsonl").write_text(text, encoding="utf-8")

    def measured(value: float) -> dict[str, object]:
        return {"bits_per_byte": value, "bits_per_byte_interval": [value - 0.1, value + 0.1]}

    after = sum(nll.values()) / len(nll) / 10
    found = {"before": measured(before / 10), "after": measured(after), "difference": measured(after - before / 10)}
    (directory / "evaluation" / "perplexity.json").write_text(json.dumps(found), encoding="utf-8")
    lines = [json.dumps({"step": step, "train/tokens": targets * step // 2}) for step in (1, 2)]
    (directory / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return directory
