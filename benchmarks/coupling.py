"""Variance reduction from common random numbers: two strategies compared with the same seed and with different seeds.

    python benchmarks/coupling.py

Pairs of strategies continue the same prompts with the bundled tiny-gpt2, with many seeds. The difference in a metric
over all prompts varies from seed to seed. Its variance is computed with both strategies using the same seed, as in the
comparison of strategies, and with different seeds. The ratio of the two variances is the benefit of coupling: with a
ratio of 2, independent sampling would need twice as many samples for an interval of the same width. The 95 % interval
of the ratio is a bootstrap over seeds. "common" is the mean number of tokens before a pair's continuations differ.
"""

import argparse
import json
import statistics
from typing import Any

import numpy as np
import torch

from textgen.evaluation.decoding.dispatch import decode_batch
from textgen.evaluation.decoding.gumbel import NoiseKey
from textgen.evaluation.decoding.strategy_parser import parse_strategies
from textgen.evaluation.decoding.token_loop import Request
from textgen.evaluation.quality.text_metrics import diversity

PAIRS = (
    ("top_p[0.95]", "top_p[0.9]"),
    ("top_p[0.95]", "typical[0.95]"),
    ("top_p[0.95]", "top_k[40]"),
    ("top_p[0.95]", "min_p[0.05]"),
    ("temperature[0.8]", "top_k[40]"),
    ("temperature[0.8]", "temperature[0.7]"),
)


def load() -> tuple[Any, Any, list[str]]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from textgen.data.config import DataConfig
    from textgen.data.corpus import load_held_out
    from textgen.model.locate import BUNDLED_MODELS

    place = BUNDLED_MODELS["tiny-gpt2"]
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()
    texts = [document.text for document in load_held_out(DataConfig())]
    return model, AutoTokenizer.from_pretrained(place), texts


def nll(model: Any, prompts: torch.Tensor, continuations: torch.Tensor) -> float:
    """Nats per token of the continuations under the model at temperature 1."""
    length = prompts.shape[1]
    with torch.no_grad():
        logits = model(torch.cat([prompts, continuations], dim=1), use_cache=False).logits[:, length - 1 : -1]
    return float(torch.nn.functional.cross_entropy(logits.transpose(1, 2), continuations))


def variance_ratio(same_seed: np.ndarray, other_seed: np.ndarray) -> dict[str, Any]:
    """Variance with different seeds over variance with the same seed, with its bootstrap interval over seeds."""
    drawn = np.random.default_rng(0).integers(len(same_seed), size=(2000, len(same_seed)))
    values = other_seed[drawn].var(axis=1, ddof=1) / same_seed[drawn].var(axis=1, ddof=1)
    low, high = np.quantile(values, [0.025, 0.975])
    found = other_seed.var(ddof=1) / same_seed.var(ddof=1)
    return {"ratio": round(float(found), 2), "interval": [round(float(low), 2), round(float(high), 2)]}


def common(a: torch.Tensor, b: torch.Tensor) -> float:
    """Number of tokens before two continuations differ, averaged over rows."""
    return float((a == b).int().cumprod(dim=1).sum(dim=1).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=64)
    options = parser.parse_args()
    model, tokenizer, texts = load()
    ids = [tokenizer(text)["input_ids"][: options.prompt_tokens] for text in texts]
    ids = [tokens for tokens in ids if len(tokens) == options.prompt_tokens][: options.prompts]
    prompts = torch.tensor(ids)
    strategies = parse_strategies(",".join(dict.fromkeys(name for pair in PAIRS for name in pair)))

    values: dict[str, dict[str, list[float]]] = {s.name: {"nll": [], "diversity": []} for s in strategies}
    shared: dict[tuple[str, str], list[float]] = {pair: [] for pair in PAIRS}
    for seed in range(options.seeds):
        requests = [Request(n, s, NoiseKey(seed, str(n), 0)) for s in strategies for n in range(len(ids))]
        decoded = decode_batch(model, prompts, requests, max_new_tokens=options.new_tokens, eos_token_id=None)
        tokens = torch.tensor([row.tokens for row in decoded]).view(len(strategies), len(ids), -1)
        continuations = {strategy.name: tokens[number] for number, strategy in enumerate(strategies)}
        for name, rows in continuations.items():
            values[name]["nll"].append(nll(model, prompts, rows))
            values[name]["diversity"].append(diversity([tokenizer.decode(row) for row in rows.tolist()]))
        for a, b in PAIRS:
            shared[a, b].append(common(continuations[a], continuations[b]))

    result = []
    for a, b in PAIRS:
        entry: dict[str, Any] = {"pair": [a, b], "common": round(statistics.mean(shared[a, b]), 1)}
        for metric in ("nll", "diversity"):
            first, second = (np.array(values[name][metric]) for name in (a, b))
            same_seed, other_seed = first - second, first - np.roll(second, 1)
            entry[metric] = {"difference": round(float(same_seed.mean()), 4)} | variance_ratio(same_seed, other_seed)
        result.append(entry)
    print(json.dumps({"options": vars(options), "prompts": len(ids), "pairs": result}, indent=1))


if __name__ == "__main__":
    main()
