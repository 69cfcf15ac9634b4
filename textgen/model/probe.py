"""A probe of a loaded model with a few tokens: does it predict each token from those before it?

By numbers, since neither a class name nor config.json can be relied on: BERT has a language-model head that
transformers loads as a causal one, and sees the text after a token unless its configuration says ``is_decoder``.
"""

from typing import Any

import torch

from textgen.errors import UserError, first_line
from textgen.model.architecture import DECODER_ONLY
from textgen.model.contexts import evaluating
from textgen.model.layers import without_adapters

TOKENS = 8  # in each of the two texts that the probe reads


def check_causal(model: Any, place: str, *, context: int, vocabulary: int) -> None:
    """Check that later tokens do not change earlier logits.

    The model reads two texts that differ in their second half. Their logits in the first half may differ by rounding.

    Args:
        model: the model, with or without adapters, on its device.
        place: the flag and its value, for error messages.
        context: the number of tokens that the model can read.
        vocabulary: the number of token ids.

    Raises:
        UserError: they do, or the model cannot read tokens alone.
    """
    half = min(TOKENS, context) // 2
    name = type(without_adapters(model)).__name__
    if half == 0 or vocabulary < 2:
        return
    ids = probe_texts(2 * half, half, vocabulary).to(next(model.parameters()).device)
    try:
        with torch.no_grad(), evaluating(model):
            logits = model(input_ids=ids, use_cache=False).logits.float()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a model's own code raises for an input that it was not written for
        raise UserError(
            f"{place}: {name} is not a causal language model: it cannot read tokens alone "
            f"({type(error).__name__}: {first_line(error)}). {DECODER_ONLY}"
        ) from error
    if logits.shape[:2] != ids.shape:
        raise UserError(
            f"{place}: {name} is not a causal language model: for {tuple(ids.shape)} tokens it has logits of shape "
            f"{tuple(logits.shape)}. {DECODER_ONLY}"
        )
    change = relative_difference(logits[0, :half], logits[1, :half])
    if change > rounding(model):
        raise UserError(
            f"{place}: {name} is not a causal language model: later tokens change the logits of earlier ones, by up to "
            f"{change:.2g} standard deviations. {DECODER_ONLY}"
        )


def check_trains(model: Any, place: str) -> None:
    """Check that the model reads a text of any length in training mode: Reformer's reads one length only.

    Args:
        model: the model, with or without adapters, on its device.
        place: the flag and its value, for error messages.

    Raises:
        UserError: it does not.
    """
    device = next(model.parameters()).device
    modes = [(module, module.training) for module in model.modules()]
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):  # dropout draws random numbers
            model.train()
            model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=device), use_cache=False)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a model's own code raises
        name = type(without_adapters(model)).__name__
        raise UserError(
            f"{place}: {name} cannot be trained on texts of any length ({type(error).__name__}: {first_line(error)})"
        ) from error
    finally:
        for module, training in modes:
            module.training = training


def probe_texts(length: int, same: int, vocabulary: int) -> torch.Tensor:
    """Two texts, [2, length], that are the same up to ``same`` tokens and differ in each one after that."""
    first = torch.randint(0, vocabulary, (length,), generator=torch.Generator().manual_seed(0))
    second = first.clone()
    second[same:] = (first[same:] + 1 + vocabulary // 2) % vocabulary if vocabulary > 2 else 1 - first[same:]
    return torch.stack([first, second])


def relative_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest absolute difference of logits, in standard deviations of the expected ones.

    0 if there is nothing to compare: logits that are all equal, or that are not finite because the weights are not.
    """
    deviation = float(expected.std())
    difference = float((found - expected).abs().max())
    return difference / deviation if 0 < deviation < float("inf") and difference < float("inf") else 0.0


def rounding(model: torch.nn.Module) -> float:
    """A bound on differences by rounding, relative to the logits' deviation: the square root of the precision's ε.

    float32: 3e-4; bfloat16, and quantized weights, whose products are rounded as coarsely: 0.09. Faults were 0.01 and
    more in float32, and rounding 1e-5 and less, in nearly all models that were tried (docs/models.md).
    """
    parameters = list(model.parameters())
    quantized = not all(parameter.is_floating_point() for parameter in parameters)
    dtypes = {parameter.dtype for parameter in parameters if parameter.is_floating_point()}
    if quantized:
        dtypes.add(torch.bfloat16)
    return max((torch.finfo(dtype).eps for dtype in dtypes), default=0.0) ** 0.5
