"""Finding a model, and reading its configuration and tokenizer; weights are not loaded."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textgen.data.tokenization import keep_special_tokens
from textgen.errors import UserError, first_line
from textgen.files import read_utf8, user_path
from textgen.hub import use_hub
from textgen.model.architecture import (
    architecture_name,
    build_skeleton,
    check_vocabulary,
    context_length,
    invalid_config,
)
from textgen.model.config import ModelConfig
from textgen.model.quantized_checkpoint import QuantizedCheckpoint, forget_quantization, quantized_checkpoint
from textgen.model.untrusted import (
    check_config_values,
    check_objects,
    check_templates,
    check_weight_files,
    forget_code,
    forget_tokenizer_code,
)
from textgen.run.manifest import check_model

BUNDLED_MODELS = {"tiny-gpt2": Path(__file__).parent.parent / "assets" / "tiny-gpt2"}


@dataclass(frozen=True)
class Location:
    """Where a model's files are.

    Attributes:
        base: directory or hub id of the full model.
        adapter: directory of the adapter, if it is one.
        revision: branch, tag or commit of a hub model.
    """

    base: str
    adapter: Path | None = None
    revision: str | None = None


@dataclass(frozen=True)
class FoundModel:
    """A model that was found, before its weights are loaded.

    Attributes:
        config: the settings to load it with.
        setting: the flag that named it, for error messages.
        location: where its files are.
        tokenizer: the model's tokenizer.
        context: context length in tokens.
        architecture: class name, such as GPT2LMHeadModel.
        parameters: number of parameters, without those of an adapter; 0 if only remote code knows.
        quantized: how its weights are quantized, if they were saved so.
    """

    config: ModelConfig
    setting: str
    location: Location
    tokenizer: Any
    context: int
    architecture: str
    parameters: int
    quantized: QuantizedCheckpoint | None = None


def find_model(config: ModelConfig, *, setting: str = "--model") -> FoundModel:
    """Locate a model, read its configuration and tokenizer, and check that they are those of a causal language model.

    Args:
        config: names the model.
        setting: the flag that named it, for error messages.

    Raises:
        UserError: the model, its configuration or its tokenizer is missing or cannot be read; it is not a causal
            language model; it has no embedding for a token; or its weights are
            quantized in a format that cannot be used here.
    """
    location = locate(config.model, config.revision, setting=setting)
    if not config.from_scratch:
        check_weight_files(Path(location.base), f"{setting} {location.base}")
        check_objects(Path(location.base), f"{setting} {location.base}")
    architecture = model_config(location, config, setting=setting)
    place = f"{setting} {location.base}"
    quantized = None if config.from_scratch else quantized_checkpoint(architecture, setting, location.base)
    forget_quantization(architecture)  # the skeleton has no values that could be quantized
    skeleton = build_skeleton(
        architecture, place, from_scratch=config.from_scratch, trust_remote_code=config.trust_remote_code
    )
    tokenizer = load_tokenizer(location, config, setting=setting)
    parameters = 0
    if skeleton is not None:
        check_vocabulary(skeleton, tokenizer, place, from_scratch=config.from_scratch)
        parameters = sum(parameter.numel() for parameter in skeleton.parameters())
    context = context_length(architecture, skeleton)
    name = architecture_name(architecture)
    return FoundModel(config, setting, location, tokenizer, context, name, parameters, quantized)


def locate(model: str, revision: str | None = None, *, setting: str = "--model") -> Location:
    """Find a model by name: bundled, a directory, or a hub id, which is not looked up yet.

    Args:
        model: the name, as given to ``--model``.
        revision: branch, tag or commit of a hub model.
        setting: the flag that named it, for error messages.

    Raises:
        UserError: there is no such directory, or it contains no model.
    """
    if model in BUNDLED_MODELS:
        return Location(str(BUNDLED_MODELS[model]))
    path = user_path(model, setting=setting)
    try:
        is_directory, is_file = path.is_dir(), path.is_file()
    except OSError as error:  # such as a name that is too long
        raise UserError(f"{setting} {model}: cannot be read: {error.strerror}.") from None
    if is_directory:
        check_model(path, setting=setting)
        if (path / "adapter_config.json").is_file():
            return Location(_base_of(path, setting), path, None)
        if not (path / "config.json").is_file():
            hint = f" Did you mean {path / 'model'}?" if (path / "model").is_dir() else ""
            raise UserError(f"{setting} {model}: the directory contains no model (no config.json).{hint}")
        return Location(str(path.resolve()))
    if is_file:
        raise UserError(
            f"{setting} {model}: this is a file. Use the directory that contains config.json and the weights."
        )
    if model.startswith(("/", ".", "~")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model):
        raise UserError(f"{setting} {model}: no such directory.")
    return Location(model, None, revision)


def model_config(location: Location, config: ModelConfig, *, setting: str = "--model") -> Any:
    """Read a model's configuration (config.json).

    Raises:
        UserError: it cannot be read, or needs remote code and ``--trust-remote-code`` is off.
    """
    offline = _use_hub(location.base)
    from transformers import AutoConfig, PretrainedConfig

    place = f"{setting} {location.base}"
    try:
        values, _ = PretrainedConfig.get_config_dict(location.base, revision=location.revision)
        check_config_values(values, place)
        found = AutoConfig.from_pretrained(
            location.base, revision=location.revision, trust_remote_code=config.trust_remote_code
        )
    except UserError:
        raise
    except (OSError, ValueError) as error:
        if "trust_remote_code" in str(error):
            raise UserError(
                f"{place}: needs Python code of its own, which is not run. Read it, then use --trust-remote-code, or "
                "name a model that transformers knows."
            ) from None
        raise UserError(f"{place}: {first_line(error)}{offline}") from None
    except Exception as error:  # a value that its class refuses, in many ways; remote code has more
        raise invalid_config(error, place) from None
    if getattr(found, "output_attentions", False):  # says what to return, and only some kernels can, so saving fails
        found.output_attentions = False
    if not config.trust_remote_code:
        forget_code(found)
    return found


def load_tokenizer(location: Location, config: ModelConfig, *, setting: str = "--model") -> Any:
    """Load a model's tokenizer: the one saved with the adapter if there is one, otherwise the base's.

    Raises:
        UserError: there is none, or it needs remote code and ``--trust-remote-code`` is off.
    """
    with_adapter = location.adapter and (location.adapter / "tokenizer.json").exists()
    place = str(location.adapter) if with_adapter else location.base
    offline = _use_hub(place)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            place, revision=location.revision, trust_remote_code=config.trust_remote_code
        )
        is_empty = len(tokenizer) <= len(set(tokenizer.all_special_tokens))
        check_templates(tokenizer.chat_template)
        if not is_empty:
            tokenizer("a")  # some values of a wrong type do no harm until then
    except Exception as error:  # for a damaged file or a value of the wrong type, nearly any
        reason = f"{first_line(error)}{offline}"
        raise UserError(f"{setting} {place}: the tokenizer cannot be loaded: {reason}") from None
    if not config.trust_remote_code:
        forget_tokenizer_code(tokenizer)
    if is_empty:  # transformers makes one if there is no file
        raise UserError(f"{setting} {place}: there is no tokenizer. Save the model's tokenizer in the same directory.")
    if config.chat_template:
        tokenizer.chat_template = read_utf8(
            user_path(config.chat_template, setting="--chat-template"), "Correct --chat-template."
        )
    if config.special_tokens_in_text:
        keep_special_tokens(tokenizer)
    return tokenizer


def _use_hub(place: str) -> str:
    """Prepare to look for a hub model; what to add to the message if it is not found."""
    return "" if Path(place).is_dir() else use_hub()


def _base_of(adapter: Path, setting: str) -> str:
    try:
        base = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # not JSON, or not an object with this key
        base = None
    if not isinstance(base, str) or not base:
        raise UserError(f"{setting} {adapter}: its adapter_config.json does not name a base model.")
    if Path(base).is_dir():
        if (Path(base) / "adapter_config.json").exists():
            raise UserError(
                f"{setting} {adapter}: its base model {base} is an adapter too. Merge that into its own base first."
            )
        return base
    if Path(base).name in BUNDLED_MODELS:  # saved on another machine, where the package has another path
        return str(BUNDLED_MODELS[Path(base).name])
    if base.startswith("/"):
        raise UserError(
            f"{setting} {adapter}: its base model {base} is not on this machine. Copy it there, or correct "
            "base_model_name_or_path in adapter_config.json."
        )
    return base
