"""make_tokenizer.py: the tokenizer has not seen the held-out text, and its output starts a --from-scratch run."""

from pathlib import Path

import pytest
from running import tree
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from textgen.data.document import Document
from textgen.data.split import split_hash

SMALL = ["--width", 16, "--layers", 2, "--heads", 2, "--context", 64]


@pytest.fixture(scope="module")
def few_documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five documents, none of which falls into a validation split of a tenth, so that the lowest hash is held out.

    Only that one contains "zyzzyva", many times; each of the others repeats "quokka".
    """
    held_out, training = [], []
    for number in range(1000):
        special, common = f"Text {number}: {'zyzzyva ' * 50}", f"Text {number}: {'quokka ' * 50}"
        if 0.1 < split_hash(Document("", "", special)) < 0.2:
            held_out.append(special)
        if split_hash(Document("", "", common)) > 0.2:
            training.append(common)
    path = tmp_path_factory.mktemp("data") / "few.txt"
    path.write_text("\n\n".join([*training[:2], held_out[0], *training[2:4]]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def made(run_recipe, few_documents, tmp_path_factory) -> Path:
    """The output for these documents."""
    output = tmp_path_factory.mktemp("made") / "gpt2"
    ran = run_recipe("make_tokenizer", "--data", few_documents, "--output-dir", output, "--vocab-size", 300, *SMALL)
    assert f"wrote {output}: a tokenizer of " in ran.out
    return output


def test_a_word_that_only_the_held_out_document_has_is_not_learned(made) -> None:
    tokenizer = AutoTokenizer.from_pretrained(made)
    assert len(tokenizer.tokenize(" quokka")) == 1
    assert len(tokenizer.tokenize(" zyzzyva")) == len(" zyzzyva")


def test_with_validation_data_all_of_the_data_is_learned(run_recipe, few_documents, text_file, tmp_path) -> None:
    flags = ["--data", few_documents, "--validation-data", text_file, "--output-dir", tmp_path / "gpt2", *SMALL]
    run_recipe("make_tokenizer", *flags)
    assert len(AutoTokenizer.from_pretrained(tmp_path / "gpt2").tokenize(" zyzzyva")) == 1


def test_the_output_loads_with_transformers(made) -> None:
    tokenizer = AutoTokenizer.from_pretrained(made)
    config = AutoConfig.from_pretrained(made)
    assert (config.n_embd, config.n_layer, config.n_head, config.n_positions) == (16, 2, 2, 64)
    assert len(tokenizer) == config.vocab_size <= 300
    assert tokenizer.model_max_length == 64
    assert tokenizer.eos_token_id == tokenizer.bos_token_id == config.eos_token_id == config.bos_token_id == 0
    text = "A naïve café, with 42 “quotes” …"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    model = AutoModelForCausalLM.from_config(config)
    assert model(**tokenizer(text, return_tensors="pt")).logits.shape[-1] == len(tokenizer)


def test_the_output_is_a_model_to_fine_tune_from_scratch(run_recipe, made, text_file, tmp_path) -> None:
    flags = ["--model", made, "--from-scratch", "--data", text_file, "--block-size", 32, "--skip-decoding", "--dry-run"]
    ran = run_recipe("finetune", *flags, cwd=tmp_path)
    assert "full, from random weights" in ran.out
    ran = run_recipe("finetune", "--model", made, "--data", text_file, "--run-dir", tmp_path / "run", check=False)
    assert ran.code == 2, "without --from-scratch there are no weights"


def test_the_same_command_makes_the_same_files(run_recipe, made, few_documents, tmp_path) -> None:
    flags = ["--data", few_documents, "--output-dir", tmp_path / "gpt2", "--vocab-size", 300, *SMALL]
    run_recipe("make_tokenizer", *flags)
    assert tree(tmp_path / "gpt2") == tree(made)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--heads", 3], "--heads 3: must divide --width 128."),
        (["--heads", 0], "--heads 0: must be at least 1."),
        (["--vocab-size", 256], "--vocab-size 256: must be at least 257."),
        (["--validation-fraction", 1.5], "--validation-fraction 1.5: must be between 0 and 1"),
        (["--data", "nowhere.txt"], "--data nowhere.txt: there is no such file or directory."),
        (["--output-dir", "/proc/made"], "--output-dir /proc/made: cannot be written"),
    ],
)
def test_invalid_settings_end_with_2_and_write_nothing(flags, expected, run_recipe, tmp_path) -> None:
    output = [] if "--output-dir" in flags else ["--output-dir", tmp_path / "gpt2"]
    ran = run_recipe("make_tokenizer", *output, *flags, check=False)
    assert ran.code == 2, ran.out + ran.error
    assert ran.error.startswith(f"error: {expected}")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_directory_is_left_alone(run_recipe, made) -> None:
    before = tree(made)
    ran = run_recipe("make_tokenizer", "--output-dir", made, check=False)
    assert ran.code == 2
    assert ran.error == f"error: --output-dir {made}: already exists. Choose a new directory.\n"
    assert tree(made) == before


def test_all_problems_are_reported_at_once(run_recipe, made) -> None:
    flags = ["--data", "nowhere.txt", "--block-size", 1, "--layers", 0, "--heads", 3]
    ran = run_recipe("make_tokenizer", "--output-dir", made, *flags, check=False)
    assert ran.code == 2
    assert ran.error.startswith("error: 5 problems:\n")
    problems = [line.split()[1] for line in ran.error.splitlines()[1:]]
    assert problems == ["--block-size", "--layers", "--heads", "--output-dir", "--data"]
