"""Texts side by side: what a model wrote at several steps of training, and the continuations of each strategy."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from textgen.reporting.results import HUMAN, MOMENT_PAIRS, RunFiles

STEPS_SHOWN = 5
SHOWN = 1_000_000
"""Characters of continuations that the report shows, so that a browser opens it at once."""
_BEGINNING = 90  # characters of a prompt that are shown while its table is closed


def samples_by_step(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each prompt a table: ``steps``, and ``rows`` of (strategy, its text at each of these steps or None).

    At most :data:`STEPS_SHOWN` steps: the first, the last, and those closest to even spacing in between.
    """
    steps = _evenly_spaced(sorted({int(row["step"]) for row in rows}))
    prompts: dict[str, dict[str, Any]] = {}
    for row in rows:
        prompt = prompts.setdefault(str(row["prompt_id"]), {"text": row["prompt"], "texts": {}})
        prompt["texts"].setdefault(row["strategy"], {})[int(row["step"])] = row["text"]
    return [
        {
            "id": prompt_id,
            "text": prompt["text"],
            "steps": steps,
            "rows": [(strategy, [texts.get(step) for step in steps]) for strategy, texts in prompt["texts"].items()],
        }
        for prompt_id, prompt in prompts.items()
    ]


def _evenly_spaced(steps: Sequence[int]) -> list[int]:
    if len(steps) <= STEPS_SHOWN:
        return list(steps)
    targets = [steps[0] + (steps[-1] - steps[0]) * n / (STEPS_SHOWN - 1) for n in range(STEPS_SHOWN)]
    return sorted({min(steps, key=lambda step: (abs(step - target), step)) for target in targets})


def continuations_by_strategy(run: RunFiles) -> tuple[list[dict[str, Any]], str]:
    """For each of the first prompts, up to :data:`SHOWN` characters, a table: ``moments``, and ``rows`` of (strategy,
    its text for each of these moments or None), one sample of each; and a note about what is not shown."""
    sizes: dict[Any, int] = {}
    for row in run.continuations():
        size = sizes.get(row["prompt_id"], len(row["prompt"]))
        sizes[row["prompt_id"]] = size + (len(row["text"]) if row["sample"] == 0 else 0)
    chosen = {prompt_id for prompt_id, end in zip(sizes, accumulate(sizes.values()), strict=True) if end <= SHOWN}
    chosen |= set(list(sizes)[:1])
    prompts: dict[Any, dict[str, Any]] = {}
    several_samples = False
    for row in run.continuations():
        if row["prompt_id"] not in chosen:
            continue
        prompt = prompts.setdefault(row["prompt_id"], {"text": row["prompt"], "human": None, "texts": {}})
        if row["strategy"] == HUMAN:
            prompt["human"] = row["text"]
        else:
            texts = prompt["texts"].setdefault(row["strategy"], {})
            several_samples = several_samples or row["when"] in texts
            texts.setdefault(row["when"], row["text"])
    tables = []
    for prompt_id, prompt in prompts.items():
        present = {moment for texts in prompt["texts"].values() for moment in texts}
        moments = [moment for pair in MOMENT_PAIRS for moment in pair if moment in present] or ["text"]
        beginning = " ".join(prompt["text"].split())
        tables.append(
            {
                "id": prompt_id,
                "text": prompt["text"],
                "beginning": beginning if len(beginning) <= _BEGINNING else beginning[:_BEGINNING].rstrip() + "…",
                "human": prompt["human"],
                "moments": moments,
                "rows": [(name, [texts.get(moment) for moment in moments]) for name, texts in prompt["texts"].items()],
            }
        )
    note = f"{len(tables)} of {len(sizes)} prompts" + (", first sample of each strategy" if several_samples else "")
    return tables, f"{note}. All continuations are in evaluation/continuations.jsonl."
