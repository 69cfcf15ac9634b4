"""Print what lets a shell complete the commands and flags of `textgen`.

In ~/.bashrc or ~/.zshrc: eval "$(textgen completion bash)", or zsh. It knows the flags of this version; files are
completed wherever a flag has no fixed values.
"""

import dataclasses
import importlib
import importlib.util
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from textgen.commands.recipe import recipe_path
from textgen.commands.table import COMMANDS
from textgen.config import flag
from textgen.run.main import run_script

Shell = Literal["bash", "zsh"]

_SCRIPT = """\
_textgen() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}} flags=""
    COMPREPLY=()
    if (( COMP_CWORD == 1 )); then
        COMPREPLY=($(compgen -W "{commands}" -- "$word"))
        return
    fi
    case "$command $before" in
{values}
    esac
    case "$command" in
{flags}
    esac
    if [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$word"))
    fi
}}
complete -o default -o bashdefault -F _textgen textgen
"""
_ZSH = """\
autoload -U +X compinit && compinit
autoload -U +X bashcompinit && bashcompinit
"""


@dataclass(frozen=True)
class ShellConfig:
    """The shell."""

    shell: Annotated[Shell, Positional, arg(metavar="SHELL")] = "bash"
    """bash or zsh."""


@dataclass(frozen=True)
class CompletionConfig:
    shell: ShellConfig


def main(config: CompletionConfig) -> None:
    print(script(config.shell.shell), end="")


def script(shell: Shell) -> str:
    """The program that the shell is to run."""
    flags, values = [], []
    for name in COMMANDS:
        options = dict(options_of(name))
        flags.append(f'        {name}) flags="{" ".join(sorted(options))}" ;;')
        for option, choices in options.items():
            if choices:
                values.append(
                    f'        "{name} {option}") COMPREPLY=($(compgen -W "{" ".join(choices)}" -- "$word")); return ;;'
                )
    text = _SCRIPT.format(commands=" ".join(COMMANDS), flags="\n".join(flags), values="\n".join(values))
    return _ZSH + text if shell == "zsh" else text


def options_of(command: str) -> Iterator[tuple[str, list[str]]]:
    """The flags of a command, each with its fixed values, if it has some."""
    yield "--help", []
    for group in typing.get_type_hints(_config_class(command)).values():
        annotated = typing.get_type_hints(group, include_extras=True)
        for field in dataclasses.fields(group):
            marks = getattr(annotated[field.name], "__metadata__", ())
            if any(hasattr(mark, "metavar") for mark in marks):
                continue  # given by its place
            kind = typing.get_type_hints(group)[field.name]
            yield flag(field.name), list(_choices(kind))
            if kind is bool:
                yield flag(f"no_{field.name}"), []


def _choices(kind: Any) -> Iterator[str]:
    """The fixed values of a type: those of a literal, also in a union or a sequence."""
    if typing.get_origin(kind) is Literal:
        yield from map(str, typing.get_args(kind))
    elif typing.get_origin(kind) in (typing.Union, types.UnionType, tuple, list):
        for part in typing.get_args(kind):
            yield from _choices(part)


def _config_class(command: str) -> type:
    module = COMMANDS[command].module
    recipe = module == "textgen.commands.recipe"
    loaded = _load(recipe_path(command)) if recipe else importlib.import_module(module)
    found: type = typing.get_type_hints(loaded.main)["config"]
    return found


def _load(path: Path) -> types.ModuleType:
    """A module from its file, without running it as a program."""
    specification = importlib.util.spec_from_file_location(f"textgen_recipe_{path.stem}", path)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module  # dataclasses look their types up there
    specification.loader.exec_module(module)
    return module


def run() -> None:
    """Parse the command line, print, and exit with the documented code."""
    run_script(CompletionConfig, main, description=__doc__ or "")
