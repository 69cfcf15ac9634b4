"""The model card: README.md, with the same numbers as the JSON files and metadata that the hub understands."""

import re
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from textgen.files import write_bytes
from textgen.reporting.report import PERPLEXITIES, convention, facts, title
from textgen.reporting.results import RunFiles
from textgen.reporting.wording import (
    MISSING,
    compared,
    interval_text,
    number,
    over_the_floor,
    result,
    shown_metrics,
    visible,
)

_TRANSFORMERS_SNIPPET = """from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("model")
model = AutoModelForCausalLM.from_pretrained("model")
inputs = tokenizer("Once upon a time", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, do_sample=True, top_k=0, top_p=0.95, max_new_tokens=64)[0]))"""

_PEFT_SNIPPET = """from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("model")
model = AutoPeftModelForCausalLM.from_pretrained("model")  # loads the base model, then the adapter
inputs = tokenizer("Once upon a time", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, do_sample=True, top_k=0, top_p=0.95, max_new_tokens=64)[0]))"""


def write_model_card(run_dir: Path) -> Path:
    """Write ``README.md`` from the other files of a run directory, and return its path.

    Raises:
        UserError: if a file of the run cannot be read.
    """
    run = RunFiles.read(run_dir)
    path = run_dir / "README.md"
    write_bytes(path, render(run).encode("utf-8", "replace"))
    return path


def render(run: RunFiles) -> str:
    """The whole card."""
    # Markdown is not HTML: whatever a user wrote passes the ``cell`` filter instead of HTML's escapes.
    environment = Environment(
        loader=PackageLoader("textgen.reporting"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = cell
    moment = compared(run.decoding)[1]
    metrics = shown_metrics({moment: run.decoding[moment]} if moment else {})
    return environment.get_template("card.md.j2").render(
        front_matter=metadata(run),
        title=title(run),
        result=result(run),
        facts=facts(run),
        convention=convention(run),
        perplexity_columns=[name.replace("_", " ") for name in PERPLEXITIES],
        perplexity_rows=_perplexity_rows(run),
        floor=over_the_floor(run.perplexity),
        metrics=metrics,
        continued_by={"after": "the fine-tuned model", "model": "the model"}.get(str(moment), f"the {moment} model"),
        decoding_rows=[
            (row.get("strategy", MISSING), [number(row.get(metric.key), metric.digits) for metric in metrics])
            for row in sorted(run.decoding[moment], key=lambda row: row.get("strategy") != "human")
        ]
        if moment
        else [],
        snippet=_PEFT_SNIPPET if is_adapter(run) else _TRANSFORMERS_SNIPPET,
    )


def metadata(run: RunFiles) -> str:
    """The YAML between the dashes: library, base model, task and tags."""
    tags = ["textgen", "text-generation"] + ([run.method] if run.method in ("lora", "qlora") else [])
    data = ModelCardData(
        base_model=run.model if is_hub_id(run.model) else None,
        library_name="peft" if is_adapter(run) else "transformers",
        pipeline_tag="text-generation",
        tags=tags,
    )
    return data.to_yaml()


def is_adapter(run: RunFiles) -> bool:
    """Whether ``model/`` holds an adapter; decided by its files where there are any."""
    model = run.path / "model"
    return (model / "adapter_config.json").exists() if model.is_dir() else run.method in ("lora", "qlora")


def is_hub_id(model: str) -> bool:
    """Whether a name could be one of the hub (``gpt2``, ``org/name``), rather than a path that tells of a machine."""
    name = r"[A-Za-z0-9][\w.-]*"
    return bool(re.fullmatch(f"{name}(/{name})?", model)) and not model.endswith(".gguf") and not Path(model).exists()


def cell(text: Any) -> str:
    """Text that stays one line and one table cell of Markdown, and has no markup of its own."""
    line = " ".join(visible(text).split())
    # An underscore within a word (``top_k``) is no markup.
    return re.sub(r"([\\`*{}\[\]<>|#~]|(?<!\w)_|_(?!\w))", r"\\\1", line)


def _perplexity_rows(run: RunFiles) -> list[tuple[str, list[tuple[str, str]]]]:
    return [
        (
            moment,
            [
                (number(stated.get(name), digits), interval_text(stated.get(f"{name}_interval"), digits))
                for name, digits in PERPLEXITIES.items()
            ],
        )
        for moment in compared(run.perplexity)
        if moment
        for stated in [run.perplexity[moment]]
    ]
