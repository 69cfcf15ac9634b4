"""Run by test_score_windows.py in two processes: each writes the scores it ends up with."""

import json
import os
import sys
from pathlib import Path

from accelerate import Accelerator
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from textgen.data.document import Document
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.perplexity.measure_perplexity import score_documents
from textgen.evaluation.perplexity.windows import WindowSettings


def write_scores(accelerator: Accelerator, directory: Path) -> None:
    model = accelerator.prepare(GPT2LMHeadModel.from_pretrained(directory / "model"))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory / "model")
    context = model.module.config.n_positions
    texts = json.loads((directory / "texts.json").read_text())
    documents = [Document(f"test#{number}", "test", text) for number, text in enumerate(texts)]
    for convention in ("rolling", "strided"):
        settings = WindowSettings.resolve(convention, context)
        loaded = LoadedModel(accelerator, model, tokenizer, context)
        scores = score_documents(loaded, documents, settings, batch_tokens=96)
        name = f"{convention}-{accelerator.process_index}-of-{accelerator.num_processes}.json"
        result = {"nll": [score.nll for score in scores], "tokens": [score.tokens for score in scores]}
        (directory / name).write_text(json.dumps(result))


if __name__ == "__main__":
    accelerator = Accelerator(cpu=True)
    write_scores(accelerator, Path(sys.argv[1]))
    accelerator.wait_for_everyone()
    sys.stdout.flush()
    os._exit(0)  # freeing the process group may deadlock
