"""The weights that get an adapter, as ``--lora-targets`` says."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textgen.errors import UserError
from textgen.model.adapters.weights import Weight, adaptable_weights
from textgen.model.config import AdapterConfig

PLURALS = {
    "linear layer": "linear layers",
    "stack of experts": "stacks of experts",
    "router": "routers",
    "stacked weight": "stacked weights",
}


@dataclass(frozen=True)
class AdapterTargets:
    """The weights that get an adapter and, with ``auto``, those that do not."""

    adapted: tuple[Weight, ...]
    left_out: tuple[Weight, ...] = ()

    def modules(self) -> list[str]:
        """Full names of the modules that peft adapts."""
        return [weight.name for weight in self.adapted if weight.parameter is None]

    def parameters(self) -> list[str]:
        """Full names of the parameters that peft adapts."""
        return [weight.parameter for weight in self.adapted if weight.parameter is not None]

    def __str__(self) -> str:
        text = f"adapters on {_count(self.adapted)}"
        return f"{text}; {_reasons(self.left_out)}" if self.left_out else text

    def facts(self) -> dict[str, Any]:
        """What has an adapter and what has none, by kind and name, for ``environment.json``."""
        left_out = [_counts(weights) | {"reason": reason} for reason, weights in _by_reason(self.left_out).items()]
        return {"adapted": _counts(self.adapted), "not_adapted": left_out}


def find_targets(model: Any, config: AdapterConfig) -> AdapterTargets:
    """The weights that get an adapter.

    Args:
        model: the base model, or one of the same structure on the meta device.
        config: ``lora_targets`` is "auto", or comma-separated names or name suffixes (``c_attn``, ``attn.c_proj``,
            ``experts.gate_up_proj``).

    Raises:
        UserError: a name matches nothing, or something that cannot get an adapter. The message has the names that
            exist, or the reason.
    """
    weights = adaptable_weights(model, config)
    if config.lora_targets.strip() == "auto":
        left_out = tuple(weight for weight in weights if weight.left_out)
        chosen = tuple(weight for weight in weights if not weight.left_out)
        if not chosen:
            raise UserError(
                f"--lora-targets auto: no weight of the model can get an adapter: {_reasons(left_out)}. "
                "Use --method full."
            )
        return AdapterTargets(chosen, left_out)
    names = [name.strip() for name in config.lora_targets.split(",") if name.strip()]
    matched = {name: [weight for weight in weights if _matches(weight.name, name)] for name in names}
    if problems := _problems(config.lora_targets, matched, weights):
        raise UserError.of(problems)
    named = {weight.name for found in matched.values() for weight in found}
    return AdapterTargets(tuple(weight for weight in weights if weight.name in named))


def shorten(targets: Sequence[str], names: Iterable[str], *, parts: int = 1) -> list[str]:
    """The last parts of the target names if they match exactly the targets, otherwise the full names.

    Args:
        targets: full names.
        names: all full names that peft compares with them.
        parts: how many parts of a name, which dots separate.
    """
    endings = sorted({".".join(name.split(".")[-parts:]) for name in targets})
    matched = {name for name in names if any(_matches(name, ending) for ending in endings)}
    return endings if matched == set(targets) else sorted(targets)


def _problems(lora_targets: str, matched: Mapping[str, Sequence[Weight]], weights: Sequence[Weight]) -> list[str]:
    problems = []
    missing = [name for name, found in matched.items() if not found]
    existing = sorted({weight.leaf for weight in weights if weight.possible})
    if missing or not matched:
        problems.append(
            f"--lora-targets {', '.join(missing) or repr(lora_targets)}: the model has no such linear layer. "
            f"It has: {', '.join(existing)}."
        )
    for name, found in matched.items():
        if impossible := [weight for weight in found if not weight.possible]:
            problems.append(
                f"--lora-targets {name}: no adapter can be added to {_count(impossible)}: {impossible[0].left_out}. "
                f"Use auto, or other names or longer suffixes of names: {', '.join(existing)}."
            )
    return problems


def _reasons(left_out: Sequence[Weight]) -> str:
    return "; ".join(f"none on {_count(weights)}: {reason}" for reason, weights in _by_reason(left_out).items())


def _by_reason(left_out: Sequence[Weight]) -> dict[str, list[Weight]]:
    groups: dict[str, list[Weight]] = {}
    for weight in left_out:
        groups.setdefault(str(weight.left_out), []).append(weight)
    return groups


def _count(weights: Sequence[Weight]) -> str:
    """Such as "4 linear layers (q_proj 2, o_proj 2) and 1 router (gate 1)"."""
    items = []
    for kind, names in _counts(weights).items():
        number = sum(names.values())
        noun = kind if number == 1 else PLURALS[kind]
        items.append(f"{number} {noun} ({', '.join(f'{name} {count}' for name, count in names.items())})")
    return " and ".join(items)


def _counts(weights: Sequence[Weight]) -> dict[str, Any]:
    kinds = dict.fromkeys(weight.kind for weight in weights)
    return {kind: dict(Counter(weight.leaf for weight in weights if weight.kind == kind)) for kind in kinds}


def _matches(layer: str, name: str) -> bool:
    return layer == name or layer.endswith("." + name)
