"""Run by test_perplexity.py under torchrun: each process writes down the scores that it ends up with."""

import json
import sys
from pathlib import Path

from accelerate import Accelerator
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from textgen.data.document import Document
from textgen.evaluation.perplexity.summary import score_documents

directory = Path(sys.argv[1])
accelerator = Accelerator(cpu=True)
model = accelerator.prepare(GPT2LMHeadModel.from_pretrained(directory / "model"))
tokenizer = PreTrainedTokenizerFast.from_pretrained(directory / "model")
texts = json.loads((directory / "texts.json").read_text())
documents = [Document(f"test#{number}", "test", text) for number, text in enumerate(texts)]
for convention in ("rolling", "strided"):
    settings = {"convention": convention, "context": model.module.config.n_positions}
    scores = score_documents(accelerator, model, tokenizer, documents, **settings, batch_tokens=96)
    name = f"{convention}-{accelerator.process_index}-of-{accelerator.num_processes}.json"
    result = {"nll": [score.nll for score in scores], "tokens": [score.tokens for score in scores]}
    (directory / name).write_text(json.dumps(result))
accelerator.end_training()
