"""What a configuration says about a model, before its weights are read: whether it is a causal language model, how many
tokens it reads, and whether it has an embedding for each id of the tokenizer."""

from collections.abc import Iterator
from typing import Any

from textgen.errors import UserError, first_line

DECODER_ONLY = "Use a decoder-only model, such as GPT-2, Llama or Qwen."

_LONGEST = 300  # characters that are quoted of a library's message

# Where model families have their context length.
_CONTEXT_NAMES = (
    "max_position_embeddings",
    "n_positions",
    "max_sequence_length",
    "seq_length",
    "max_seq_len",
    "max_target_positions",
    "context_length",
    "model_max_length",
)
# Heads that predict text. Whether a model with such a head is causal is measured (textgen/model/probe.py).
_TEXT_TASKS = {"CAUSAL_LM", "PRETRAINING", "MASKED_LM", "IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM"}


def build_skeleton(
    architecture: Any, place: str, *, from_scratch: bool = False, trust_remote_code: bool = False
) -> Any:
    """The model that a configuration describes, with the shapes of its weights but without their values.

    Args:
        architecture: a transformers configuration.
        place: the flag and its value, for error messages.
        from_scratch: the weights will be random, so the task that saved ones were trained for does not matter.
        trust_remote_code: the configuration's own code may run.

    Returns:
        A model on the meta device; None if only its own remote code can build it and cannot do it without weights.

    Raises:
        UserError: it is not a causal language model, or its settings contradict each other.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    remote = trust_remote_code and "AutoModelForCausalLM" in (getattr(architecture, "auto_map", None) or {})
    if not remote:
        _refuse_other_tasks(architecture, place, from_scratch)
    try:
        with torch.device("meta"), no_init_weights():
            skeleton = AutoModelForCausalLM.from_config(architecture, trust_remote_code=trust_remote_code)
            skeleton.tie_weights()
            return skeleton
    except ImportError as error:
        raise UserError(f"{place}: {first_line(error)}") from None
    except Exception as error:  # whatever a model's own code raises for values that it was not written for
        if remote:
            return None
        raise invalid_values(error, place) from None


def invalid_config(error: Exception, place: str) -> UserError:
    """The error for a config.json that transformers cannot read."""
    return UserError(f"{place}: config.json cannot be read: {_one_line(error)}. Correct it, or copy it again.")


def invalid_values(error: Exception, place: str) -> UserError:
    """The error for a config.json that a model cannot be built from."""
    return UserError(
        f"{place}: config.json does not describe a model ({type(error).__name__}: {_one_line(error)}). "
        "Correct config.json, or copy it again from where the model came."
    )


def architecture_name(architecture: Any) -> str:
    """The class that the weights were saved from, such as GPT2LMHeadModel; the configuration's, if it does not say."""
    names = getattr(architecture, "architectures", None) or [type(architecture).__name__]
    return str(names[0])


def context_length(architecture: Any, skeleton: Any = None) -> int:
    """Context length in tokens, according to a model's configuration.

    Args:
        architecture: its configuration.
        skeleton: the result of :func:`build_skeleton`. In models of fairseq's lineage (RoBERTa), positions are counted
            from behind the padding token's row, so that the first rows of the position embedding are never used.
    """
    text = architecture.get_text_config(decoder=True) if hasattr(architecture, "get_text_config") else architecture
    for name in _CONTEXT_NAMES:
        value = getattr(text, name, None)
        if isinstance(value, int) and value > 0:
            return value - max(_padding_rows(skeleton, value), default=0)
    return 2048  # no position limit: the default of lm-evaluation-harness


def _padding_rows(skeleton: Any, positions: int) -> Iterator[int]:
    """Rows up to that of padding, in each embedding of this many positions that has one."""
    import torch

    words = skeleton.get_input_embeddings() if skeleton is not None else None
    for module in skeleton.modules() if skeleton is not None else ():
        is_table = isinstance(module, torch.nn.Embedding) and module is not words
        if is_table and module.num_embeddings == positions and module.padding_idx is not None:
            yield module.padding_idx + 1


def check_vocabulary(skeleton: Any, tokenizer: Any, place: str, *, from_scratch: bool = False) -> None:
    """Check that every id of the tokenizer has a row in the embedding and in the output head.

    Args:
        skeleton: the result of :func:`build_skeleton`.
        tokenizer: the model's tokenizer.
        place: the flag and its value, for error messages.
        from_scratch: whether config.json alone decides the number of rows.

    Raises:
        UserError: it has not, so that text with this token cannot be read or written.
    """
    layers = {"embedding": skeleton.get_input_embeddings(), "output head": skeleton.get_output_embeddings()}
    vocabulary = tokenizer.get_vocab()
    for name, layer in layers.items():
        rows = getattr(getattr(layer, "weight", None), "shape", [None])[0]
        beyond = [] if rows is None else sorted((id, token) for token, id in vocabulary.items() if id >= rows)
        if beyond:
            (first, token), needed = beyond[0], beyond[-1][0] + 1
            count = "" if len(beyond) == 1 else f" and {len(beyond) - 1} more tokens"
            remedy = (
                f"Set vocab_size in config.json to {needed}"
                if from_scratch
                else f"Add rows with model.resize_token_embeddings({needed}) and save the model"
            )
            raise UserError(
                f"{place}: its tokenizer has the token {token!r} with id {first}{count}, but the {name} has "
                f"{rows} rows (ids 0 to {rows - 1}). {remedy}, or remove the token from the tokenizer."
            )


def _refuse_other_tasks(architecture: Any, place: str, from_scratch: bool) -> None:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    name = architecture_name(architecture)
    if getattr(architecture, "is_encoder_decoder", False):
        raise UserError(f"{place}: {name} is an encoder–decoder, not a causal language model. {DECODER_ONLY}")
    tasks = _tasks_of(name)
    known = type(architecture) in MODEL_FOR_CAUSAL_LM_MAPPING
    if known and (from_scratch or not tasks or _TEXT_TASKS & set(tasks)):
        return
    made_for = f" (it is for {tasks[0].lower().replace('_', ' ')})" if tasks and not _TEXT_TASKS & set(tasks) else ""
    raise UserError(f"{place}: {name}{made_for} is not a causal language model. {DECODER_ONLY}")


def _tasks_of(name: str) -> list[str]:
    """The tasks that transformers lists a class under, such as SEQUENCE_CLASSIFICATION."""
    from transformers.models.auto import modeling_auto

    prefix, suffix = "MODEL_FOR_", "_MAPPING_NAMES"
    return [
        key[len(prefix) : -len(suffix)]
        for key, classes in vars(modeling_auto).items()
        if key.startswith(prefix) and key.endswith(suffix) and name in classes.values()
    ]


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
