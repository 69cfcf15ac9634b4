"""Finding a model, and reading everything about it that does not take its weights."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textgen.errors import UserError
from textgen.model.config import ModelConfig

BUNDLED_MODELS = {"tiny-gpt2": Path(__file__).parent.parent / "assets" / "tiny-gpt2"}


@dataclass(frozen=True)
class Location:
    """Where a model's files are: a directory or hub id; for an adapter, also its own directory."""

    base: str
    adapter: Path | None = None
    revision: str | None = None


@dataclass(frozen=True)
class FoundModel:
    """A model that can be loaded, with what its files say about it.

    Attributes:
        config: the settings that it will be loaded with.
        setting: the flag that named it, for error messages.
        location: where its files are.
        tokenizer: the model's own.
        context: number of tokens that the model can see.
        architecture: class name, such as GPT2LMHeadModel.
    """

    config: ModelConfig
    setting: str
    location: Location
    tokenizer: Any
    context: int
    architecture: str


def find_model(config: ModelConfig, *, setting: str = "--model") -> FoundModel:
    """Locate a model and read its configuration and tokenizer.

    Args:
        config: names the model.
        setting: the flag that named it, for error messages.

    Raises:
        UserError: any of these is missing or cannot be read.
    """
    location = locate(config.model, config.revision, setting=setting)
    architecture = model_config(location, config, setting=setting)
    names = getattr(architecture, "architectures", None) or [type(architecture).__name__]
    tokenizer = load_tokenizer(location, config, setting=setting)
    return FoundModel(config, setting, location, tokenizer, context_length(architecture), names[0])


def locate(model: str, revision: str | None = None, *, setting: str = "--model") -> Location:
    """Where the model of that name is; nothing is loaded.

    Raises:
        UserError: there is no such model, or a directory holds none.
    """
    if model in BUNDLED_MODELS:
        return Location(str(BUNDLED_MODELS[model]))
    path = Path(model).expanduser()
    if path.is_dir():
        if (path / "adapter_config.json").is_file():
            return Location(_base_of(path, setting), path, None)
        if not (path / "config.json").is_file():
            hint = " Its model/ is one." if (path / "model").is_dir() else ""
            raise UserError(f"{setting} {model}: the directory holds no model (no config.json).{hint}")
        return Location(str(path.resolve()))
    if path.is_file():
        raise UserError(
            f"{setting} {model}: this is a file; name the directory that holds config.json and the weights."
        )
    if model.startswith(("/", ".", "~")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model):
        raise UserError(f"{setting} {model}: there is no such directory.")
    return Location(model, None, revision)


def model_config(location: Location, config: ModelConfig, *, setting: str = "--model") -> Any:
    """The architecture's configuration, without the weights.

    Raises:
        UserError: it cannot be read, or needs remote code that was not allowed.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            location.base, revision=location.revision, trust_remote_code=config.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{setting} {location.base}: {first_line(error)}") from None


def load_tokenizer(location: Location, config: ModelConfig, *, setting: str = "--model") -> Any:
    """The model's tokenizer.

    Raises:
        UserError: it has none, or needs remote code that was not allowed.
    """
    from transformers import AutoTokenizer

    place = (
        str(location.adapter) if location.adapter and (location.adapter / "tokenizer.json").exists() else location.base
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            place, revision=location.revision, trust_remote_code=config.trust_remote_code
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{setting} {place}: its tokenizer cannot be loaded: {first_line(error)}") from None
    if len(tokenizer) <= len(set(tokenizer.all_special_tokens)):  # what transformers makes up where there is no file
        raise UserError(f"{setting} {place}: there is no tokenizer in it. Save the model's tokenizer beside it.")
    return tokenizer


def context_length(model_config: Any) -> int:
    """Most tokens that the model can see at once."""
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"):
        value = getattr(model_config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return 2048  # models without position limits: what evaluation harnesses take by default


def first_line(error: Exception) -> str:
    """The first line of a library's error message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _base_of(adapter: Path, setting: str) -> str:
    try:
        base = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    except (json.JSONDecodeError, KeyError):
        base = None
    if not isinstance(base, str) or not base:
        raise UserError(f"{setting} {adapter}: its adapter_config.json does not name a base model.")
    if Path(base).is_dir():
        return base
    if Path(base).name in BUNDLED_MODELS:  # saved on another machine, where the package lies elsewhere
        return str(BUNDLED_MODELS[Path(base).name])
    if base.startswith("/"):
        raise UserError(
            f"{setting} {adapter}: an adapter for {base}, which is not on this machine. Put the base model there, or "
            "correct base_model_name_or_path in adapter_config.json."
        )
    return base
