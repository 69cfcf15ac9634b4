"""Every measurement that is divided among processes. Run with several ranks, each process writes its results.

``conftest.py`` calls :func:`measure` itself, too, for the results of a single process.
"""

import json
import os
import random
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from textgen.evaluation.config import EvaluationConfig
from textgen.evaluation.decoding.prompts import Prompt
from textgen.evaluation.decoding.strategy_parser import parse_strategies
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.quality.compare_strategies import compare_strategies
from textgen.evaluation.quality.judge import judge_nlls
from textgen.evaluation.quality.mauve import text_features
from textgen.evaluation.quality.truncation_coverage import METRICS, truncation_coverage

SENTENCES = [
    "It was the best of times, it was the worst of times, it was the age of wisdom.",
    "Call me Ishmael. Some years ago, never mind how long precisely, I thought I would sail about a little.",
    "Happy families are all alike; every unhappy family is unhappy in its own way.",
    "In my younger and more vulnerable years my father gave me some advice that I've been turning over.",
    "The sky above the port was the colour of television, tuned to a dead channel.",
]
NEW = 12
"""Length of continuations and of references in tokens."""


def sentence_prompts(tokenizer: Any) -> list[Prompt]:
    """Ten prompts of 5 or 8 tokens, mixed; the reference of the first ends early."""
    prompts = []
    for number, sentence in enumerate(SENTENCES * 2):
        tokens = tokenizer(sentence)["input_ids"]
        length = 8 if number % 3 else 5
        reference = tuple(tokens[length : length + (NEW if number else 4)])
        prompts.append(Prompt(f"plays.txt#{number}", tuple(tokens[:length]), f"prompt {number}", reference))
    return prompts


def measure(loaded: LoadedModel, amateur: Any, judge: LoadedModel) -> dict[str, Any]:
    """The results of every measurement that processes share, as JSON reads them back."""
    prompts = sentence_prompts(loaded.tokenizer)
    config = EvaluationConfig(max_new_tokens=NEW, samples=2)
    strategies = parse_strategies("all", amateur=True)
    rows, continuations, recommendation = compare_strategies(
        loaded, prompts, strategies, config, seed=0, amateur=amateur, judge=judge
    )
    coverage = truncation_coverage(loaded, prompts, parse_strategies("top_p,min_p,top_h"), seed=0)
    sequences = [[*prompt.token_ids, *prompt.reference_ids] for prompt in prompts]
    results = {
        "rows": rows,
        "recommendation": recommendation,
        "continuations": [asdict(continuation) for continuation in continuations],
        "coverage": [[row[metric] for metric in METRICS] for row in coverage],
        "features": text_features(loaded, sequences).tolist(),
        "judge": judge_nlls(judge, SENTENCES, SENTENCES[::-1]),
    }
    return json.loads(json.dumps(results))


def main(directory: Path) -> None:
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    random.seed(accelerator.process_index)  # results must not depend on a process's own generators
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory / "tokenizer")
    model, amateur, judge = (
        GPT2LMHeadModel.from_pretrained(directory / name).eval() for name in ("model", "amateur", "judge")
    )
    result = measure(
        LoadedModel(accelerator, model, tokenizer, 64), amateur, LoadedModel(accelerator, judge, tokenizer, 64)
    )
    (directory / f"{accelerator.process_index}.json").write_text(json.dumps(result))
    accelerator.wait_for_everyone()
    sys.stdout.flush()
    os._exit(0)  # freeing the process group may deadlock


if __name__ == "__main__":
    main(Path(sys.argv[1]))
