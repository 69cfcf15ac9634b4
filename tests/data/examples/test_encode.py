"""Token ids of documents and examples, and which of them are targets."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from textgen.data.document import Document
from textgen.data.examples.encode import check_documents, encode_documents
from textgen.data.tokenization import decode_text, encode_batch
from textgen.errors import UserError

TEXTS = st.text("ab <|>é\n", min_size=1, max_size=20)


def chat(*contents: str, completion_only: bool = True) -> Document:
    roles = ["user", "assistant"] * len(contents)
    messages = tuple({"role": role, "content": text} for role, text in zip(roles, contents, strict=False))
    return Document("a#0", "a", "", messages=messages, completion_only=completion_only)


def test_plain_texts_are_encoded_as_they_are(tokenizer):
    documents = [Document("a#0", "a", "the times"), Document("a#1", "a", "it was")]
    encoded = encode_documents(tokenizer, documents)
    assert [one.ids for one in encoded] == encode_batch(tokenizer, ["the times", "it was"])
    assert {one.scored for one in encoded} == {None}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS, TEXTS)
def test_a_prompt_is_encoded_as_it_is_when_the_model_continues_it(tokenizer, prompt, completion):
    (encoded,) = encode_documents(tokenizer, [Document("a", "a", prompt + completion, prompt, (), True)])
    before, after = encode_batch(tokenizer, [prompt, completion])
    assert encoded.ids == before + after
    assert encoded.scored == [False] * len(before) + [True] * len(after)
    assert encoded.prompt_length == len(before)


def test_everything_is_scored_if_asked_for(tokenizer):
    (encoded,) = encode_documents(tokenizer, [Document("a", "a", "the times", "the ", (), False)])
    assert (encoded.scored, encoded.prompt_length) == (None, 0)


def test_a_chat_is_encoded_as_transformers_encodes_it(chat_tokenizer):
    tokenizer, document = chat_tokenizer(), chat("Hi", "Yes?", "Bye", "Bye!")
    (encoded,) = encode_documents(tokenizer, [document])
    assert encoded.ids == tokenizer.apply_chat_template(list(document.messages), tokenize=True)["input_ids"]
    scored = [token for token, is_target in zip(encoded.ids, encoded.scored, strict=True) if is_target]
    assert decode_text(tokenizer, scored, skip_special_tokens=False) == "Yes?<|end|>Bye!<|end|>"
    prompt = tokenizer.apply_chat_template(list(document.messages[:3]), tokenize=True, add_generation_prompt=True)
    assert encoded.ids[: encoded.prompt_length] == prompt["input_ids"]


@pytest.mark.parametrize("text", ["Write <|end|> here.", "<|end|>", "a<|assistant|>b<|end|>"])
def test_the_name_of_a_special_token_in_a_message_is_text(chat_tokenizer, text):
    tokenizer = chat_tokenizer()
    (encoded,) = encode_documents(tokenizer, [chat(text, text)])
    marks = [token for token in encoded.ids if token in tokenizer.all_special_ids]
    names = tokenizer.convert_ids_to_tokens(marks)
    assert names == ["<|user|>", "<|end|>", "<|assistant|>", "<|end|>"]
    written = decode_text(tokenizer, encoded.ids, skip_special_tokens=False)
    assert written == f"<|user|>{text}<|end|><|assistant|>{text}<|end|>"


def test_such_a_name_in_a_message_that_the_template_changes_is_a_user_error(chat_tokenizer):
    upper = "{% for m in messages %}{{ m.content | upper }}<|end|>{% endfor %}"
    with pytest.raises(
        UserError, match=r"a#0 \(row 1 of a\): the name of a special token is in a message that the chat template"
    ):
        encode_documents(chat_tokenizer(upper), [chat("a", "b <|end|>", completion_only=False)])


def test_the_begin_of_text_that_a_template_writes_is_the_mark_before_the_document(chat_tokenizer):
    template = "{{ bos_token }}{% for m in messages %}{{ m.content }}<|end|>{% endfor %}"
    tokenizer = chat_tokenizer(template, bos_token="<mark>")
    (encoded,) = encode_documents(tokenizer, [chat("a", "b", completion_only=False)])
    bos = tokenizer.bos_token_id
    assert encoded.ids[0] == bos
    assert bos not in encoded.after(bos).ids
    assert encoded.after(bos).after(bos) == encoded.after(bos)


def test_an_error_names_the_chat(chat_tokenizer):
    with pytest.raises(UserError, match=r"^a#0 \(row 1 of a\): .* has no chat template"):
        encode_documents(chat_tokenizer(None), [chat("a", "b")])


def test_all_bad_chats_that_are_read_together_are_named_up_to_ten(chat_tokenizer):
    strict = chat_tokenizer("{% if messages[0].content == 'bad' %}{{ raise_exception('no') }}{% endif %}a<|end|>")
    rows = [replace(chat(text, "b"), id=f"a#{i}") for i, text in enumerate(["good", *["bad"] * 12])]
    with pytest.raises(UserError) as caught:
        encode_documents(strict, rows)
    assert caught.value.problems[0].startswith("a#1 (row 2 of a): the chat template does not accept this chat: no. ")
    assert len(caught.value.problems) == 11
    assert caught.value.problems[-1] == "and 2 more near these"


def test_documents_can_be_checked_without_being_encoded(chat_tokenizer):
    check_documents(chat_tokenizer(), [chat("a", "b"), Document("a#1", "a", "text")])
    check_documents(chat_tokenizer(None), [Document("a#1", "a", "text")])
    with pytest.raises(UserError, match=r"^a#0 \(row 1 of a\): .* has no chat template"):
        check_documents(chat_tokenizer(None), [chat("a", "b")])


LLAMA_2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token }}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize("scheme", ["first", "always", "legacy"])
@pytest.mark.parametrize("contents", [("two", "four"), ("two", "four", "2+2", "4")])
def test_a_chat_of_a_sentencepiece_tokenizer_is_encoded_as_transformers_encodes_it(llama_tokenizer, scheme, contents):
    tokenizer = llama_tokenizer(scheme, LLAMA_2)
    document = chat(*contents)
    messages = list(document.messages)
    (encoded,) = encode_documents(tokenizer, [document])
    assert encoded.ids == tokenizer.apply_chat_template(messages, tokenize=True)["input_ids"]
    prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=True, add_generation_prompt=True)["input_ids"]
    assert encoded.ids[: encoded.prompt_length] == prompt


@pytest.mark.parametrize("scheme", ["first", "always", "legacy"])
def test_white_space_after_a_special_token_is_part_of_it_if_the_tokenizer_has_it_so(llama_tokenizer, scheme):
    turns = "{% for m in messages %}<|turn|>\n{{ m.content }}{% endfor %}"
    tokenizer, document = llama_tokenizer(scheme, turns), chat("two", "four")
    (encoded,) = encode_documents(tokenizer, [document])
    assert encoded.ids == tokenizer.apply_chat_template(list(document.messages), tokenize=True)["input_ids"]


@pytest.mark.parametrize("scheme", ["first", "always", "legacy"])
def test_a_prompt_and_its_completion_have_the_ids_of_one_text(llama_tokenizer, scheme):
    tokenizer = llama_tokenizer(scheme)
    (encoded,) = encode_documents(tokenizer, [Document("a", "a", "2+2=4", "2+2=", (), True)])
    prompt, whole = encode_batch(tokenizer, ["2+2=", "2+2=4"])
    assert encoded.ids == whole
    assert encoded.ids[: encoded.prompt_length] == prompt
    assert encoded.scored == [False] * len(prompt) + [True]


def test_a_blank_prompt_is_context(tokenizer):
    (encoded,) = encode_documents(tokenizer, [Document("a", "a", "\nthe times", "\n", (), True)])
    assert tokenizer.decode(encoded.ids[: encoded.prompt_length]) == "\n"


def test_a_tool_call_is_scored_as_the_template_writes_it(chat_tokenizer):
    template = (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% for c in m.tool_calls %}{{ c.function.name }}"
        "({{ c.function.arguments.a }}){% endfor %}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    call = {"function": {"name": "add", "arguments": {"a": 1}}}
    messages = ({"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [call]})
    tokenizer = chat_tokenizer(template)
    (encoded,) = encode_documents(tokenizer, [Document("a#0", "a", "", messages=messages, completion_only=True)])
    scored = [token for token, is_target in zip(encoded.ids, encoded.scored, strict=True) if is_target]
    assert decode_text(tokenizer, scored, skip_special_tokens=False) == "add(1)<|end|>"
