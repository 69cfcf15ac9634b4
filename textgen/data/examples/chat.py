"""Chats as the model's chat template writes them, cut into what is scored and what is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from textgen.errors import UserError, first_line
from textgen.signals import time_limit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SECONDS = 10  # that a template gets for a chat: it comes with a model, and Jinja has loops

Part = tuple[str, bool]  # a piece of text, and whether it is scored


def chat_parts(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, Any]], *, completion_only: bool
) -> list[Part]:
    """A chat as the tokenizer's template writes it, in parts that are scored or not.

    What is scored of a message of the assistant is all that the template writes after the prompt for its answer: the
    answer and the end of the turn, which the model must learn to write. Nothing depends on a particular template: the
    chat is written once up to the prompt for an answer and once up to the answer's end, and the difference is scored.

    Args:
        tokenizer: has the chat template.
        messages: the chat.
        completion_only: False: everything is scored.

    Raises:
        UserError: there is no template, it refuses these messages, or it rewrites earlier messages when more follow, so
            that no part of the chat can be told to be the answer.
    """
    whole = write_chat(tokenizer, messages)
    if not completion_only:
        return [(whole, True)]
    parts: list[Part] = []
    position = 0
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = write_chat(tokenizer, messages[:i], prompt_for_answer=True) if i else ""  # templates read messages[0]
        after = write_chat(tokenizer, messages[: i + 1])
        if not (whole.startswith(after) and after.startswith(before) and len(before) >= position):
            raise UserError(
                "the chat template writes a message differently when others follow it, so that answers cannot be told "
                "from the rest. Use --loss-on all, --chat-template with a template that does not, or chats with one "
                "answer each."
            )
        parts += [(whole[position : len(before)], False), (whole[len(before) : len(after)], True)]
        position = len(after)
    return [part for part in [*parts, (whole[position:], False)] if part[0]]


def write_chat(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, Any]], *, prompt_for_answer: bool = False
) -> str:
    """A chat as the tokenizer's template writes it.

    Raises:
        UserError: there is no template, or it does not accept these messages.
    """
    if not tokenizer.chat_template:
        raise UserError(
            f"--model {tokenizer.name_or_path}: its tokenizer has no chat template, which the data's messages need. "
            "Give one with --chat-template FILE, or use a chat model."
        )
    try:
        return _apply(tokenizer, messages, prompt_for_answer=prompt_for_answer)
    except UserError:
        raise
    except Exception as error:  # templates raise errors of their own, such as "roles must alternate"
        check_template(tokenizer)
        raise UserError(
            f"the chat template does not accept this chat: {first_line(error).removesuffix('.')}. Correct or remove "
            "the chat, or use another --chat-template."
        ) from None


def check_template(tokenizer: PreTrainedTokenizerBase, setting: str = "the chat template") -> None:
    """Check that the tokenizer's chat template is valid Jinja; nothing is checked if it has none.

    Args:
        tokenizer: has the chat template.
        setting: where the template comes from, for the error message.

    Raises:
        UserError: it is not; the message names the line.
    """
    from jinja2 import TemplateSyntaxError

    if not tokenizer.chat_template:
        return
    try:
        _apply(tokenizer, [{"role": "user", "content": "Hi"}], prompt_for_answer=False)
    except TemplateSyntaxError as error:
        reason = (error.message or "").removesuffix(".")
        raise UserError(f"{setting}: line {error.lineno} is not valid Jinja: {reason}. Correct the template.") from None
    except UserError:
        raise
    except Exception:  # about this chat
        return


def _apply(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, Any]], *, prompt_for_answer: bool
) -> str:
    with time_limit(_SECONDS, f"the chat template does not end within {_SECONDS} s. Correct it."):
        written = tokenizer.apply_chat_template(
            [dict(message) for message in messages], tokenize=False, add_generation_prompt=prompt_for_answer
        )
    assert isinstance(written, str)
    return written
