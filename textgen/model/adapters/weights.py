"""The weights that could get an adapter: found by structure, on a model with or without values (the meta device).

Linear layers are modules, and peft adapts them as such. The experts of a mixture are not: transformers 5 stacks their
weights in parameters of three dimensions, (experts, out, in) or (experts, in, out), which peft adapts by name
(``target_parameters``), with matrices of the given rank for each expert.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.overrides import TorchFunctionMode
from transformers.pytorch_utils import Conv1D

from textgen.model.adapters.quiet_peft import quiet_peft
from textgen.model.config import AdapterConfig
from textgen.model.contexts import evaluating

Kind = Literal["linear layer", "stack of experts", "router", "stacked weight"]

# Why a weight gets no adapter: of one or of several.
ROUTER = "the choice of experts stays as it was pretrained, as is usual"
NOT_EXPERTS = "stacked matrices that are not known to be experts"
NOT_LINEAR = "more is computed than a product with the weight"
REFUSED = "refused by peft, since fused kernels of this architecture read the weight without calling the layer"
BYPASSED = "the model reads the weight without calling the layer, which would skip an adapter"
QUANTIZED = "peft takes the name for that of experts, and cannot adapt those if they are quantized"


@dataclass(frozen=True)
class Weight:
    """A weight that could get an adapter.

    Attributes:
        name: full name of the module; of the parameter, if it is one of several stacks in its module.
        kind: what it is.
        parameter: full name of the parameter, if peft adapts it by that name rather than as a module.
        left_out: why ``--lora-targets auto`` leaves it out, if it does.
        possible: whether it gets an adapter if ``--lora-targets`` names it.
    """

    name: str
    kind: Kind
    parameter: str | None = None
    left_out: str | None = None
    possible: bool = True

    @property
    def leaf(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]


def linear_layers(model: Any) -> dict[str, torch.nn.Module]:
    """Every linear layer by its full name, except the output head.

    Decided by type: ``nn.Linear``, or GPT-2's ``Conv1D``, a linear layer whose weight is stored transposed.
    """
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
    }


def adaptable_weights(model: Any, config: AdapterConfig) -> list[Weight]:
    """Every weight that could get an adapter, in the model's order, with the reason if it gets none.

    Args:
        model: a transformers model without adapters.
        config: its variant and dropout decide whether peft can adapt parameters by name.
    """
    layers = linear_layers(model)
    modules = dict(model.named_modules())
    experts = {name: module.num_experts for name, module in modules.items() if any(_stacks(module, of_experts=True))}
    routers = _routers(model, experts)
    renamed, refused = _peft_rules(model, layers)
    bypassed = _bypassed(model, layers)
    by_name = _problem_of_parameters(config)
    found = []
    for name, module in modules.items():
        if name in routers:
            found.append(_router(name, module, by_name))
        elif name in layers:
            leaf = name.rpartition(".")[2]
            problem = REFUSED if leaf in refused else BYPASSED if name in bypassed else None
            found.append(_linear_layer(name, module, problem, leaf in renamed, by_name))
        for parameter in _stacks(module, of_experts=True):
            found.append(_stack(name, parameter, "stack of experts", by_name))
        for parameter in _stacks(module, of_experts=False):
            found.append(_stack(name, parameter, "stacked weight", NOT_EXPERTS))
    return found


def _linear_layer(
    name: str, module: torch.nn.Module, problem: str | None, renamed: bool, problem_by_name: str | None
) -> Weight:
    parameter = None
    if problem is None and not _is_linear(module):
        problem = NOT_LINEAR
    if problem is None and renamed:
        parameter = f"{name}.weight"
        problem = problem_by_name if _is_floating_point(module) else QUANTIZED
    return Weight(name, "linear layer", parameter, problem, problem is None)


def _router(name: str, module: torch.nn.Module, problem_by_name: str | None) -> Weight:
    if isinstance(module, torch.nn.Linear) and _is_linear(module):
        return Weight(name, "router", None, ROUTER)
    return Weight(name, "router", f"{name}.weight", problem_by_name or ROUTER, problem_by_name is None)


def _stack(module: str, parameter: str, kind: Kind, problem: str | None) -> Weight:
    full = f"{module}.{parameter}"
    return Weight(module if parameter == "weight" else full, kind, full, problem, problem is None)


def _stacks(module: torch.nn.Module, *, of_experts: bool) -> Iterator[str]:
    """Names of a module's own stacks of matrices: of experts, if it says that it has as many experts."""
    if isinstance(module, torch.nn.modules.conv._ConvNd):
        return
    experts = getattr(module, "num_experts", None)
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.ndim == 3 and min(parameter.shape) > 1 and (parameter.shape[0] == experts) is of_experts:
            yield name


def _routers(model: Any, experts: Mapping[str, int]) -> set[str]:
    """Modules that choose among experts: next to them, and with a weight that has a row for each."""
    found = set()
    for name, count in experts.items():
        block = name.rpartition(".")[0]
        for inner, module in model.get_submodule(block).named_modules(prefix=block):
            weight = getattr(module, "weight", None)
            if inner not in experts and isinstance(weight, torch.Tensor) and weight.ndim == 2 and len(weight) == count:
                found.add(inner)
    return found


def _is_floating_point(layer: Any) -> bool:
    return bool(layer.weight.is_floating_point())


def _is_linear(layer: Any) -> bool:
    """Whether a linear layer returns one tensor of its output features; subclasses have forwards of their own."""
    if isinstance(layer, Conv1D) or not _is_floating_point(layer):  # quantized layers are what they replaced
        return True
    out_features, in_features = layer.weight.shape
    empty = {name: torch.empty_like(p, device="meta") for name, p in layer.named_parameters()}
    try:
        output = torch.func.functional_call(layer, empty, (empty["weight"].new_empty(2, in_features),))
    except (RuntimeError, TypeError, ValueError, IndexError):  # it takes something else
        return False
    return isinstance(output, torch.Tensor) and output.shape == (2, out_features)


@quiet_peft()
def _peft_rules(model: Any, layers: Collection[str]) -> tuple[set[str], set[str]]:
    """Last parts of layer names that peft takes for those of experts, and those that it refuses.

    Until transformers 5, the experts of most mixtures were linear layers called ``gate_proj``, ``up_proj`` and
    ``down_proj``. peft rewrites these names to those of the stacks, in new adapters as in old ones, even where dense
    layers or shared experts still have them. Both rules are asked of peft itself.
    """
    import peft
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    renamed, refused = set(), set()
    for leaf in {name.rpartition(".")[2] for name in layers}:
        config = peft.LoraConfig(target_modules=[leaf])
        try:
            convert_peft_config_for_transformers(config, model, None)
        except ValueError:  # it can be rewritten together with another name only
            renamed.add(leaf)
        else:
            renamed |= {leaf} - set(config.target_modules or ())
        try:
            peft.LoraModel._check_target_module_compatiblity(None, config, model, leaf)  # type: ignore[arg-type]
        except ValueError:
            refused.add(leaf)
    return renamed, refused


def _bypassed(model: Any, layers: Mapping[str, Any]) -> set[str]:
    """Layers whose weight the model uses without calling them. Decided by trying, with two tokens."""
    called: set[str] = set()
    hooks = [layer.register_forward_pre_hook(lambda *_, name=name: called.add(name)) for name, layer in layers.items()]
    uses = _UsesOf({id(layer.weight): name for name, layer in layers.items()})
    ids = torch.zeros(1, 2, dtype=torch.long, device=next(model.parameters()).device)
    try:
        with torch.no_grad(), evaluating(model), uses:
            model(input_ids=ids, use_cache=False)
    except Exception:
        if ids.device.type != "meta":  # without values, code that needs some fails: experts cannot be chosen, say
            raise
    finally:
        for hook in hooks:
            hook.remove()
    return uses.seen - called


class _UsesOf(TorchFunctionMode):
    """Records from which of some tensors torch functions compute others; ``names`` are by the id of a tensor."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self.names, self.seen = names, set[str]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):  # and not a shape or a dtype
            self.seen |= {self.names[id(argument)] for argument in args if id(argument) in self.names}
        return result


def _problem_of_parameters(config: AdapterConfig) -> str | None:
    """Why peft cannot adapt parameters by name with these settings (``peft.tuners.lora.layer.ParamWrapper``), if so."""
    if config.lora_dropout:
        return f"peft adapts parameters by name only without --lora-dropout (given: {config.lora_dropout:g})"
    if config.lora_variant in ("dora", "pissa"):
        return f"peft adapts parameters by name only with --lora-variant lora or rslora (given: {config.lora_variant})"
    return None
