"""Decoding 16 prompts by eight strategies: textgen with all strategies in one batch, compared with `generate`.

    python benchmarks/decoding.py                      # GPT-2 124M's shape, 64 new tokens
    python benchmarks/decoding.py --new-tokens 16 --rounds 1

Three methods alternate in one process, on the same weights and prompts: textgen's `decode_batch`; one call of
`generate` per strategy, with all prompts in its batch; and one call of `generate` per prompt and strategy, measured on
`--single-prompts` prompts and extrapolated to all. The model has the shape of GPT-2 124M and random weights, scaled so
that the entropy of the next token is about 3.5 nats, as for a trained GPT-2 on web text. This matters because a full
sort takes the same time for any distribution, but a partial sort suffices only if few tokens have most of the
probability. `--flat` does not scale the weights, so probabilities are nearly equal: the worst case. The results are
medians over rounds.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from models import SHAPES
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from textgen.evaluation.decoding.dispatch import decode_batch
from textgen.evaluation.decoding.gumbel import NoiseKey
from textgen.evaluation.decoding.strategies import Strategy
from textgen.evaluation.decoding.strategy_parser import parse_strategies
from textgen.evaluation.decoding.token_loop import Request
from textgen.model.kernels.swap_modules import swap_modules

# Strategy → arguments of `generate`.
STRATEGIES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "temperature[0.8]": {"do_sample": True, "top_k": 0, "temperature": 0.8},
    "top_k[40]": {"do_sample": True, "top_k": 40},
    "top_p[0.95]": {"do_sample": True, "top_k": 0, "top_p": 0.95},
    "typical[0.95]": {"do_sample": True, "top_k": 0, "typical_p": 0.95},
    "min_p[0.05]": {"do_sample": True, "top_k": 0, "min_p": 0.05},
    "eta[0.0003]": {"do_sample": True, "top_k": 0, "eta_cutoff": 3e-4},
    "repetition_penalty[1.2]": {"repetition_penalty": 1.2},
}
ENTROPY = 3.5  # nats


def build_model(shape: str, flat: bool) -> GPT2LMHeadModel:
    """A model with random weights; the gain of its last layer norm is set so that the logits give the entropy."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**SHAPES[shape], bos_token_id=None, eos_token_id=None)).eval()
    if not flat:
        ids = torch.randint(model.config.vocab_size, (4, 32))
        low, high = 1.0, 64.0
        with torch.no_grad():
            for _ in range(12):  # bisection on the gain
                gain = (low * high) ** 0.5
                model.transformer.ln_f.weight.fill_(gain)
                log_probs = model(ids, logits_to_keep=1).logits[:, -1].log_softmax(dim=-1)
                entropy = float(-(log_probs.exp() * log_probs).sum(dim=-1).mean())
                low, high = (gain, high) if entropy > ENTROPY else (low, gain)
    return model


def textgen(model: Any, prompts: torch.Tensor, strategies: list[Strategy], new: int) -> dict[str, Any]:
    requests = [Request(n, s, NoiseKey(0, str(n), 0)) for s in strategies for n in range(len(prompts))]
    decoded = [row.tokens for row in decode_batch(model, prompts, requests, max_new_tokens=new, eos_token_id=None)]
    return {s.name: decoded[i * len(prompts) : (i + 1) * len(prompts)] for i, s in enumerate(strategies)}


def generate(model: Any, prompts: torch.Tensor, new: int) -> dict[str, Any]:
    result = {}
    for name, settings in STRATEGIES.items():
        config = GenerationConfig(max_new_tokens=new, eos_token_id=None, pad_token_id=0, **settings)
        ids = model.generate(input_ids=prompts, attention_mask=torch.ones_like(prompts), generation_config=config)
        result[name] = ids[:, prompts.shape[1] :].tolist()
    return result


def timed(run: Callable[[], dict[str, Any]]) -> tuple[float, dict[str, Any]]:
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="124m")
    parser.add_argument("--flat", action="store_true")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--single-prompts", type=int, default=1)
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    model = build_model(options.shape, options.flat)
    own = swap_modules(copy.deepcopy(model))  # as in the recipes; `generate` runs transformers' own modules
    prompts = torch.randint(model.config.vocab_size, (options.prompts, options.prompt_tokens))
    strategies = parse_strategies(",".join(STRATEGIES))
    new, single = options.new_tokens, options.single_prompts
    textgen(own, prompts, strategies, 2)  # warm-up
    generate(model, prompts[:1], 2)

    seconds: dict[str, list[float]] = {"textgen": [], "generate, a strategy": [], "generate, a prompt": []}
    for _ in range(options.rounds):
        ours_took, ours = timed(lambda: textgen(own, prompts, strategies, new))
        theirs_took, theirs = timed(lambda: generate(model, prompts, new))
        alone = [timed(lambda n=n: generate(model, prompts[n : n + 1], new))[0] for n in range(single)]  # type: ignore[misc]
        seconds["textgen"].append(ours_took)
        seconds["generate, a strategy"].append(theirs_took)
        seconds["generate, a prompt"].append(sum(alone) / single * options.prompts)
    for name in ("greedy", "repetition_penalty[1.2]"):
        assert ours[name] == theirs[name], f"{name}: tokens differ from generate's"
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    tokens = len(strategies) * options.prompts * new
    print(
        json.dumps(
            {
                "options": vars(options) | {"torch_threads": torch.get_num_threads()},
                "seconds": medians,
                "tokens_per_second": {name: tokens / value for name, value in medians.items()},
                "times_faster": {name: value / medians["textgen"] for name, value in medians.items()},
                "same_tokens_as_generate": ["greedy", "repetition_penalty[1.2]"],
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
