"""The recipes as modules, since ``recipes/`` is a folder of scripts and not a package."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

RECIPES = Path(__file__).parents[1] / "recipes"


def recipe(name: str) -> ModuleType:
    """The module of ``recipes/NAME.py``."""
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up their annotations
    spec.loader.exec_module(module)
    return module


CONFIG_CLASSES = {
    "finetune": recipe("finetune").FinetuneConfig,
    "evaluate": recipe("evaluate").EvaluateConfig,
    "make_tokenizer": recipe("make_tokenizer").MakeTokenizerConfig,
}
