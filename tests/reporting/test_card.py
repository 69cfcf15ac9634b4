import html
import json
import re

import pytest
import yaml
from huggingface_hub import ModelCard

from textgen.files import write_json
from textgen.printable import printable
from textgen.reporting.card import is_hub_id, markdown_cell, write_model_card


def tables(text: str) -> list[list[str]]:
    """Rows of all tables, as cells."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[part.strip() for part in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_the_hub_can_read_the_metadata(run_dir):
    path = write_model_card(run_dir)
    assert path == run_dir / "README.md"
    data = ModelCard.load(path).data.to_dict()
    assert data == {
        "base_model": "tiny-gpt2",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["textgen", "text-generation", "lora"],
    }


def test_an_adapter_is_loaded_with_peft(run_dir):
    write_json(run_dir / "model" / "adapter_config.json", {})
    card = ModelCard.load(write_model_card(run_dir))
    assert card.data.library_name == "peft"
    snippet = re.search(r"```python\n(.*?)```", card.text, re.DOTALL)[1]
    assert "AutoPeftModelForCausalLM" in snippet
    compile(snippet, "snippet", "exec")


@pytest.mark.parametrize("bits", [4, 8])
def test_an_adapter_of_qlora_is_loaded_on_a_quantized_base(run_dir, bits):
    write_json(run_dir / "model" / "adapter_config.json", {})
    write_json(run_dir / "model" / "base_fingerprint.json", {"sha256": "0", "quantize_bits": bits})
    snippet = re.search(r"```python\n(.*?)```", write_model_card(run_dir).read_text(), re.DOTALL)[1]
    compile(snippet, "snippet", "exec")
    assert "import AutoTokenizer, BitsAndBytesConfig\n" in snippet
    assert f"\nquantization = BitsAndBytesConfig(load_in_{bits}bit=True" in snippet
    assert 'from_pretrained("model", quantization_config=quantization)' in snippet


def test_the_numbers_are_those_of_the_files(run_dir):
    rows = tables(write_model_card(run_dir).read_text())
    stated = json.loads((run_dir / "evaluation" / "perplexity.json").read_text())["after"]
    low, high = stated["bits_per_byte_interval"]
    after = next(row for row in rows if row[0] == "after")
    assert after[4] == f"{stated['bits_per_byte']:.3f} ({low:.3f}–{high:.3f})"
    assert after[1].startswith(f"{stated['token_perplexity']:.2f} ")
    for row in json.loads((run_dir / "evaluation" / "decoding.json").read_text())["after"]:
        shown = next(cells for cells in rows if cells[0] == row["strategy"])
        assert shown[1] == f"{row['diversity']:.3f}"
        assert shown[6] == f"{row['nll']:.3f}"


@pytest.mark.parametrize("missing", ["decoding.json", "perplexity.json"])
def test_what_was_not_measured_is_stated(run_dir, missing):
    (run_dir / "evaluation" / missing).unlink()
    text = write_model_card(run_dir).read_text()
    assert {"decoding.json": "Not compared.", "perplexity.json": "Not measured."}[missing] in text


@pytest.mark.parametrize("model", ["/home/someone/secret", "../m", "a\n---\nb: c", "x: y", "org/na/me"])
def test_a_base_model_that_is_not_on_the_hub_is_omitted(run_dir, model):
    write_json(run_dir / "config.yaml", {"model": model, "data": "plays"})
    data = ModelCard.load(write_model_card(run_dir)).data
    assert data.base_model is None
    assert data.pipeline_tag == "text-generation"


def test_a_directory_that_looks_like_a_hub_id_is_not_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("org/name")
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert not is_hub_id("org/name")


def test_hostile_values_stay_in_their_cell(run_dir, hostile):
    nasty = f"a | b\n---\n# head `tick` {hostile}"
    write_json(run_dir / "config.yaml", {"model": "gpt2", "data": nasty, "method": "full"})
    environment = {"command": nasty, "device": "cpu|\n|x|"}
    write_json(run_dir / "environment.json", environment)
    text = write_model_card(run_dir).read_text()
    front, body = re.match(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL).groups()
    assert yaml.safe_load(front)["base_model"] == "gpt2"
    assert "\n---" not in body.replace("\n| ---", "")
    assert "<script>" not in re.sub(r"\\<", "", body)
    rows = tables(body)
    made = [row for row in rows if row[0] in ("Data", "Command", "Device")]
    assert [len(row) for row in made] == [2, 2, 2]
    assert sum(line.startswith("# ") for line in body.splitlines()) == 1


HOSTILE_MARKDOWN = (
    "[click](https://evil.example)",
    "![x](https://evil.example/pixel.png)",
    "[ref]: https://evil.example",
    "<img src=https://evil.example onerror=alert(1)><script>alert(1)</script>",
    "https://evil.example and www.evil.example <https://evil.example>",
    "# Title",
    "- item",
    "1. item",
    "2) item",
    "+ item",
    "=====",
    "---\nbase_model: evil/model\n---",
    "> quote",
    "```\ncode",
    "~~~ code",
    "a | b | c",
    "**bold** _em_ ~~gone~~ `code`",
    "&lt;b&gt; &#x202e;",
    "\x1b[31m\u202etxt",
    "<!-- hidden",
    "\\",
    "\\| x",
)


@pytest.mark.parametrize("text", HOSTILE_MARKDOWN)
def test_markdown_in_a_value_is_text(text):
    from markdown_it import MarkdownIt

    written = markdown_cell(text)
    renderer = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    in_paragraph = renderer.render(written)
    in_table = renderer.render(f"| what | value |\n| --- | --- |\n| x | {written} |\n")
    expected = html.escape(" ".join(printable(text).split()))
    assert in_paragraph == f"<p>{expected}</p>\n"
    assert f"<td>x</td>\n<td>{expected}</td>" in in_table
    assert not re.search(r"(?<!\\)://|www\.", written), "an address would become a link on GitHub"


def test_hostile_settings_add_nothing_to_the_metadata(run_dir):
    for text in HOSTILE_MARKDOWN:
        write_json(run_dir / "config.yaml", {"model": text, "data": text, "method": text})
        write_json(run_dir / "environment.json", {"command": text, "device": text})
        card = ModelCard.load(write_model_card(run_dir))
        assert card.data.base_model is None
        assert set(card.data.to_dict()) <= {"library_name", "pipeline_tag", "tags"}
        assert card.data.tags == ["textgen", "text-generation"]
        assert sum(line.startswith("# ") for line in card.text.splitlines()) == 1


MASK = {"examples": 9, "tokens": 500, "targets": 100, "cut": 2, "without_prompt": 0, "untargeted": 0, "left_out": 0}


def test_what_was_trained_on_is_in_the_balance(run_dir):
    assert "Trained on:" not in write_model_card(run_dir).read_text()
    write_json(run_dir / "evaluation" / "balance.json", {"mask": MASK})
    text = write_model_card(run_dir).read_text()
    assert "## Balance\n\nTrained on: 100 of 500 training tokens (20.0 %). 2 of 9 examples do not fit" in text


def test_the_balance_is_a_table(balance_dir):
    text = write_model_card(balance_dir).read_text()
    assert ["bits per byte of", "documents", "before", "after", "difference"] in tables(text)
    assert "2 of 12 scored documents share 13 words in a row with a training document." in text
    assert "3 nearly equal an earlier one" in text
    assert "`x`" not in text
    rows = [row for row in tables(text) if row[0] == "without contaminated documents"]
    assert rows == [
        [
            "without contaminated documents",
            "10",
            "1.900 (1.843–1.957)",
            "1.450 (1.406–1.494)",
            "−0.450 (−0.500 to −0.400)",
        ]
    ]
    assert "\n\n\n" not in text


def test_a_cell_is_one_line_without_markup():
    assert markdown_cell("top_k *x* _y_") == r"top_k \*x\* \_y\_"
    assert markdown_cell("a\n\n b\t|") == r"a b \|"


def test_two_models(evaluation_dir):
    text = write_model_card(evaluation_dir).read_text()
    assert "Continuations by the model." in text
    assert {"baseline", "model"} <= {row[0] for row in tables(text)}
