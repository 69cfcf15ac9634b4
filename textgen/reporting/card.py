"""The model card: README.md, with the same numbers as the JSON files, and metadata for the Hugging Face Hub."""

import re
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from textgen.files import write_bytes
from textgen.model.loading import quantized_bits
from textgen.printable import printable
from textgen.reporting.columns import PERPLEXITIES, cells, shown_metrics
from textgen.reporting.formatting import MISSING
from textgen.reporting.rendering import render_template
from textgen.reporting.results import RunFiles, moment_pair
from textgen.reporting.tables.balance import (
    balance_columns,
    balance_rows,
    contamination_finding,
    mask_findings,
    near_duplicates_finding,
)
from textgen.reporting.tables.metrics import human_first, perplexity_rows
from textgen.reporting.wording import convention, excess_over_entropy, facts, headline, recommendation, title

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

# Arguments of from_pretrained that quantize the base as it was when the adapter was trained, by its bits.
_QUANTIZED = {
    4: 'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)',
    8: "BitsAndBytesConfig(load_in_8bit=True)",
}


def write_model_card(run_dir: Path) -> Path:
    """Write ``README.md`` from the other files of a run directory, and return its path.

    Raises:
        UserError: a file of the run is damaged.
    """
    run = RunFiles.read(run_dir)
    path = run_dir / "README.md"
    write_bytes(path, render(run).encode("utf-8", "replace"))
    return path


def render(run: RunFiles) -> str:
    """The Markdown of the card."""
    moment = moment_pair(run.decoding)[1]
    rows = human_first(run.decoding[moment]) if moment else []
    metrics = shown_metrics({moment: rows} if moment else {})
    # Markdown is not HTML: what users and models wrote goes through the ``cell`` filter instead of HTML escaping.
    return render_template(
        "card.md.j2",
        {"cell": markdown_cell},
        front_matter=metadata(run),
        title=title(run),
        headline=headline(run),
        facts=facts(run),
        convention=convention(run),
        perplexity_columns=[column.title for column in PERPLEXITIES],
        perplexity_rows=perplexity_rows(run.perplexity),
        excess_over_entropy=excess_over_entropy(run.perplexity),
        balance_columns=balance_columns(run.perplexity),
        balance_rows=balance_rows(run.perplexity),
        contamination=contamination_finding(run.contamination),
        near_duplicates=near_duplicates_finding(run.contamination),
        mask=mask_findings(run.mask),
        metrics=metrics,
        recommendation=recommendation(run.recommendation),
        continued_by={"after": "the fine-tuned model", "model": "the model"}.get(str(moment), f"the {moment} model"),
        decoding_rows=[(row.get("strategy", MISSING), [value for value, _ in cells(row, metrics)]) for row in rows],
        snippet=snippet(run),
    )


def snippet(run: RunFiles) -> str:
    """Python code that loads the model and continues a text."""
    if not is_adapter(run):
        return _TRANSFORMERS_SNIPPET
    bits = quantized_bits(run.path / "model")
    if bits is None:
        return _PEFT_SNIPPET
    code = _PEFT_SNIPPET.replace("import AutoTokenizer", "import AutoTokenizer, BitsAndBytesConfig")
    code = code.replace("tokenizer = ", f"quantization = {_QUANTIZED[bits]}\ntokenizer = ", 1)
    return code.replace('("model")  #', '("model", quantization_config=quantization)  #')


def metadata(run: RunFiles) -> str:
    """The YAML front matter: library, base model, task and tags."""
    tags = ["textgen", "text-generation"] + ([run.method] if run.method in ("lora", "qlora") else [])
    data = ModelCardData(
        base_model=run.model if is_hub_id(run.model) else None,
        library_name="peft" if is_adapter(run) else "transformers",
        pipeline_tag="text-generation",
        tags=tags,
    )
    return data.to_yaml()


def is_adapter(run: RunFiles) -> bool:
    """Whether ``model/`` contains an adapter: decided by its files if it exists, otherwise by the method."""
    model = run.path / "model"
    return (model / "adapter_config.json").exists() if model.is_dir() else run.method in ("lora", "qlora")


def is_hub_id(model: str) -> bool:
    """Whether a name can be a Hub id (``gpt2``, ``org/name``) and not a path on this machine."""
    name = r"[A-Za-z0-9][\w.-]*"
    return bool(re.fullmatch(f"{name}(/{name})?", model)) and not Path(model).exists()


def markdown_cell(text: Any) -> str:
    """Text that stays on one line, in one table cell, and contains no Markdown of its own.

    That is no markup, link, image, HTML, character reference or list, and no address that becomes a link by itself.
    """
    line = " ".join(printable(text).split())
    # An underscore within a word (``top_k``) is not markup.
    line = re.sub(r"([\\`*{}\[\]<>|#~&!@]|(?<!\w)_|_(?!\w))", r"\\\1", line)
    line = re.sub(r"(?i)\b(www)\.|(\w):(?=//)", lambda found: f"{found[1]}\\." if found[1] else f"{found[2]}\\:", line)
    return re.sub(r"^([-+=]|\d+(?=[.)]))", _first_escaped, line)


def _first_escaped(found: re.Match[str]) -> str:
    # A backslash is one before punctuation only: before the "." of "1.", not before the digit.
    return f"\\{found[1]}" if found[1] in "-+=" else f"{found[1]}\\"
