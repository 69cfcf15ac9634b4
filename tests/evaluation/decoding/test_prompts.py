"""Prompts: which documents they come from, and where each is split into prompt and reference."""

from collections.abc import Callable
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from textgen.data.document import Document
from textgen.data.examples.encode import encode_documents
from textgen.errors import UserError
from textgen.evaluation.decoding.prompts import Prompt, select_prompts

SENTENCES = [
    "It was the best of times, it was the worst of times, it was the age of wisdom.",
    "Call me Ishmael. Some years ago, never mind how long precisely, I thought I would sail about a little.",
    "Happy families are all alike; every unhappy family is unhappy in its own way.",
    "In my younger and more vulnerable years my father gave me some advice that I've been turning over.",
    "The sky above the port was the colour of television, tuned to a dead channel.",
]
Select = Callable[..., list[Prompt]]


@pytest.fixture
def select(tokenizer: Any) -> Select:
    """``select(texts, …)``: up to 2 prompts of 8 tokens with references of up to 10."""

    def call(texts: list[str], tokenizer: Any = tokenizer, **other: int) -> list[Prompt]:
        documents = [Document(f"plays.txt#{number}", "plays.txt", text) for number, text in enumerate(texts)]
        return select_prompts(
            documents, tokenizer, **({"prompts": 2, "prompt_tokens": 8, "max_new_tokens": 10, "context": 64} | other)
        )

    return call


def test_prompts_are_the_beginnings_of_the_first_documents_that_are_long_enough(tokenizer: Any, select: Select) -> None:
    texts = ["", "too short", SENTENCES[1], SENTENCES[0], SENTENCES[2]]
    prompts = select(texts)
    assert [prompt.id for prompt in prompts] == ["plays.txt#2", "plays.txt#3"]
    for prompt, text in zip(prompts, texts[2:], strict=False):
        tokens = tokenizer(text)["input_ids"]
        assert prompt.token_ids == tuple(tokens[:8])
        assert prompt.reference_ids == tuple(tokens[8:18])
        assert text.startswith(prompt.text)
        assert prompt.text


@pytest.mark.parametrize(("tokens", "expected"), [(13, (8, 5)), (12, (6, 6)), (2, (1, 1)), (1, None), (40, (8, 10))])
def test_how_long_a_document_must_be(
    tokenizer: Any, select: Select, tokens: int, expected: tuple[int, int] | None
) -> None:
    text = tokenizer.decode(tokenizer("".join(SENTENCES))["input_ids"][:tokens])
    assert len(tokenizer(text)["input_ids"]) == tokens
    if expected is None:
        with pytest.raises(UserError):
            select([text])
        return
    (prompt,) = select([text])
    assert (len(prompt.token_ids), len(prompt.reference_ids)) == expected


def test_short_documents_are_split_in_half_and_used_only_when_needed(tokenizer: Any, select: Select) -> None:
    short = "A short one."
    tokens = tokenizer(short)["input_ids"]
    assert len(tokens) == 10
    prompts = select([short, SENTENCES[0], "x", short], prompts=3)
    assert [prompt.id for prompt in prompts] == ["plays.txt#1", "plays.txt#0", "plays.txt#3"]
    assert prompts[1].token_ids == tuple(tokens[: len(tokens) // 2])
    assert prompts[1].reference_ids == tuple(tokens[len(tokens) // 2 :])
    assert [prompt.id for prompt in select([short, SENTENCES[0], SENTENCES[1]])] == ["plays.txt#1", "plays.txt#2"]


@pytest.mark.parametrize("texts", [[], [""], ["a", "", "b"]])
def test_no_document_with_two_tokens_is_a_user_error(select: Select, texts: list[str]) -> None:
    with pytest.raises(UserError, match=f"none of the {len(texts)} validation documents.*--skip-decoding"):
        select(texts)


def test_only_the_beginning_of_a_long_document_is_tokenized(select: Select, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    call = PreTrainedTokenizerFast.__call__

    def count(self: Any, texts: str | list[str], **other: Any) -> Any:
        read.append(sum(map(len, texts)))
        return call(self, texts, **other)

    monkeypatch.setattr(PreTrainedTokenizerFast, "__call__", count)
    text = " ".join(SENTENCES * 10_000)
    (prompt,) = select([text], prompts=1)
    assert len(prompt.token_ids) == 8
    assert [length for length in read if length > 1] == [1312, 2624], "of 4,369,999 characters"


def test_a_prompt_begins_as_the_tokenizer_begins_every_text(select: Select, tokenizer_with: Any) -> None:
    marked = tokenizer_with(eos_token="<|endoftext|>", bos_token="<mark>")
    bos = marked.bos_token_id
    marked.backend_tokenizer.post_processor = TemplateProcessing(single="<mark> $A", special_tokens=[("<mark>", bos)])
    (plain,), (prompt,) = select(SENTENCES, prompts=1), select(SENTENCES, marked, prompts=1)
    assert prompt.token_ids == (bos, *plain.token_ids) == tuple(marked(prompt.text)["input_ids"])
    assert (prompt.text, prompt.reference_ids) == (plain.text, plain.reference_ids)


def test_the_prompt_of_an_example_is_its_own_and_must_fit(select: Select, tokenizer: Any) -> None:
    examples = [
        Document("a#0", "a", f"{question} 4", question, (), True) for question in ("2 + 2?" * 40, "2 + 2?", "1 + 3?")
    ]
    found = select_prompts(examples, tokenizer, prompts=9, prompt_tokens=2, max_new_tokens=10, context=64)
    assert [(prompt.text, tokenizer.decode(prompt.reference_ids)) for prompt in found] == [
        ("2 + 2?", " 4"),
        ("1 + 3?", " 4"),
    ]
    with pytest.raises(UserError, match="none of the prompts of the 1 validation examples fits"):
        select_prompts(examples[:1], tokenizer, prompts=9, prompt_tokens=2, max_new_tokens=10, context=64)


@pytest.mark.parametrize(("prompt", "completion"), [("2 + 2?", " 4"), ("2 + 2? ", "4"), ("A\n\n", "B"), (" ", "B")])
def test_the_prompt_of_an_example_is_what_precedes_the_targets_in_training(
    tokenizer: Any, prompt: str, completion: str
) -> None:
    example = Document("a#0", "a", prompt + completion, prompt, (), True)
    (encoded,) = encode_documents(tokenizer, [example])
    (found,) = select_prompts([example], tokenizer, prompts=1, prompt_tokens=2, max_new_tokens=4, context=64)
    context = [token for token, is_target in zip(encoded.ids, encoded.scored or [], strict=True) if not is_target]
    assert list(found.token_ids) == context == tokenizer(prompt)["input_ids"]
    assert [*found.token_ids, *found.reference_ids] == encoded.ids


def test_an_empty_prompt_is_the_token_before_the_document(tokenizer: Any) -> None:
    example = Document("a#0", "a", "4", "", (), True)
    (prompt,) = select_prompts([example], tokenizer, prompts=1, prompt_tokens=2, max_new_tokens=4, context=64)
    assert prompt.token_ids == (tokenizer.eos_token_id,)


def test_the_prompt_is_the_examples_own_if_all_of_it_is_scored_too(tokenizer: Any) -> None:
    example = Document("a#0", "a", "2 + 2? 4", "2 + 2?", (), False)
    (prompt,) = select_prompts([example], tokenizer, prompts=1, prompt_tokens=1, max_new_tokens=4, context=64)
    assert prompt.text == "2 + 2?"
