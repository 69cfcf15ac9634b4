"""What a model's own files may say: nothing that runs code, leads out of the model's directory, or never ends.

A config.json, a tokenizer and an adapter come from whoever made the model. transformers and peft follow some of their
keys to code: ``auto_map`` to Python files, implementations of attention to kernels on the hub, ``megatron_core`` to a
module. Only ``--trust-remote-code`` lets them.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from textgen.errors import UserError

_MOST_LAYERS = 10_000  # more than any model has; building the layers of a damaged number would not end
_LARGEST = 1 << 53
_CODE = ("auto_map", "custom_pipelines")  # keys that name Python files
_BUILT_IN = ("eager", "sdpa", "grouped_mm", "batched_mm")
_OBJECTS = ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json")
_INDEX = "model.safetensors.index.json"
_REMEDY = "Correct it, or copy it again from where the model came."


def check_config_values(values: Any, place: str) -> None:
    """Check the contents of a config.json before transformers builds anything from them.

    Args:
        values: the contents.
        place: the flag and its value, for error messages.

    Raises:
        UserError: a value has the wrong type or is out of range, or names weights that are not safetensors files of the
            model.
    """
    problem = _problem(values)
    if problem:
        raise UserError(f"{place}: config.json cannot be read: {problem}. {_REMEDY}")


def _problem(values: Any) -> str:
    if not isinstance(values, Mapping):
        return "it is not a JSON object"
    architectures = values.get("architectures")
    if architectures is not None and not _is_list_of_names(architectures):
        return f"'architectures: {_short(architectures)}' is not a list of class names"
    weights = values.get("transformers_weights")
    if weights is not None and not (isinstance(weights, str) and _is_weights_file(weights)):
        return f"'transformers_weights: {_short(weights)}' is not a safetensors file in the model's directory"
    for key, value in _numbers(values):
        if abs(value) > _LARGEST:
            return f"'{key}: {_short(value)}' is out of range"
        if value > _MOST_LAYERS and (key == "n_layer" or "layers" in key.split("_")):
            return f"'{key}: {_short(value)}' is out of range: no model has as many layers"
    return ""


def _numbers(values: Any) -> Iterator[tuple[str, int]]:
    """Every integer, with its key."""
    left = [("", values)]
    while left:
        key, value = left.pop()
        if isinstance(value, Mapping):
            left += [(str(inner), found) for inner, found in value.items()]
        elif isinstance(value, list):
            left += [(key, found) for found in value]
        elif isinstance(value, int) and not isinstance(value, bool):
            yield key, value


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)


def _is_weights_file(name: str) -> bool:
    return Path(name).name == name and name.endswith((".safetensors", ".safetensors.index.json"))


def _short(value: Any) -> str:
    try:
        text = str(value)
    except ValueError:  # an integer of thousands of digits
        return "a very long number"
    return text if len(text) <= 60 else f"{text[:60]}…"


def check_templates(templates: Any) -> None:
    """Check that a tokenizer's chat templates are text: one, or several by name.

    Raises:
        ValueError: they are not.
    """
    several = isinstance(templates, Mapping) and all(isinstance(text, str) for text in templates.values())
    if not (templates is None or isinstance(templates, str) or several):
        raise ValueError("its chat_template is not text")


def forget_code(architecture: Any) -> None:
    """Remove from a configuration what names code, so that it neither runs nor is saved with the trained model.

    Of implementations of attention and of experts, config.json can name only those that are built in: others may be
    downloaded from the hub.
    """
    left = [architecture]
    while left:
        config = left.pop()
        for name in list(vars(config)):
            config.__dict__[name] = _without_code(config.__dict__[name])
        for key in _CODE:
            config.__dict__.pop(key, None)
        left += [value for value in vars(config).values() if hasattr(value, "sub_configs")]
        for name in ("_attn_implementation_internal", "_experts_implementation_internal"):
            if config.__dict__.get(name) not in (None, *_BUILT_IN):
                config.__dict__[name] = None


def _without_code(value: Any) -> Any:
    """A value of a configuration without the keys that name code, at any depth of plain mappings."""
    if type(value) is not dict:
        return value
    return {key: _without_code(inner) for key, inner in value.items() if key not in _CODE}


def forget_tokenizer_code(tokenizer: Any) -> None:
    """The same for a tokenizer."""
    tokenizer._auto_map = None
    for key in _CODE:
        tokenizer.init_kwargs.pop(key, None)


def forget_adapter_code(config: Any) -> None:
    """The same for an adapter's configuration: what names modules to import, or files outside of its directory."""
    for name in ("auto_mapping", "megatron_config", "prompt_tuning_init_state_dict_path"):
        if hasattr(config, name):
            setattr(config, name, None)


def check_objects(directory: Path, place: str) -> None:
    """Check that the JSON files beside config.json are objects: transformers' own message names no file.

    Raises:
        UserError: one is something else.
    """
    for name in _OBJECTS:
        try:
            value = json.loads((directory / name).read_bytes())
        except (OSError, ValueError, RecursionError):  # absent, or for transformers to say
            continue
        if not isinstance(value, dict):
            raise UserError(f"{place}: {name} is not a JSON object. {_REMEDY}")


def check_weight_files(directory: Path, place: str) -> None:
    """Check that the index of divided weights names files of its own directory.

    Raises:
        UserError: it is damaged, or names others.
    """
    path = directory / _INDEX
    if not path.is_file():
        return
    try:
        files = set(json.loads(path.read_bytes())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{place}: {_INDEX} is damaged. {_REMEDY}") from None
    wrong = sorted(str(name) for name in files if not isinstance(name, str) or not _is_weights_file(name))
    if wrong:
        raise UserError(
            f"{place}: {_INDEX} names {_short(wrong[0])}, which is not a safetensors file in the model's directory. "
            f"{_REMEDY}"
        )
