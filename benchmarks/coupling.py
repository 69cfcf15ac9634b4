"""How much closer a difference between two strategies is known when both are given the same luck.

    python benchmarks/coupling.py

Pairs of strategies continue the same prompts with the bundled tiny-gpt2, under many seeds. The difference between the
two of a metric, taken over all prompts, varies from seed to seed: once with both under the same seed, as the comparison
does it, and once with each under a seed of its own. The ratio of the two variances is what coupling is worth: with a
ratio of 2, independent sampling would take twice as many samples for an interval as narrow. Its 95 % interval comes
from resampling the seeds. "common" is how many tokens a pair's continuations share before they part, on average.
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
    from textgen.data.readers import held_out_documents
    from textgen.model.locate import BUNDLED_MODELS

    place = BUNDLED_MODELS["tiny-gpt2"]
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()
    texts = [document.text for document in held_out_documents(DataConfig())]
    return model, AutoTokenizer.from_pretrained(place), texts


def nll(model: Any, prompts: torch.Tensor, continuations: torch.Tensor) -> float:
    """Nats a token of the continuations under the model at temperature 1."""
    length = prompts.shape[1]
    with torch.no_grad():
        logits = model(torch.cat([prompts, continuations], dim=1), use_cache=False).logits[:, length - 1 : -1]
    return float(torch.nn.functional.cross_entropy(logits.transpose(1, 2), continuations))


def ratio(together: np.ndarray, apart: np.ndarray) -> dict[str, Any]:
    """Variance apart over variance together, with its bootstrap interval over seeds."""
    drawn = np.random.default_rng(0).integers(len(together), size=(2000, len(together)))
    values = apart[drawn].var(axis=1, ddof=1) / together[drawn].var(axis=1, ddof=1)
    low, high = np.quantile(values, [0.025, 0.975])
    found = apart.var(ddof=1) / together.var(ddof=1)
    return {"ratio": round(float(found), 2), "interval": [round(float(low), 2), round(float(high), 2)]}


def common(a: torch.Tensor, b: torch.Tensor) -> float:
    """Tokens until two continuations differ, on average over rows."""
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

    figures: dict[str, dict[str, list[float]]] = {s.name: {"nll": [], "diversity": []} for s in strategies}
    shared: dict[tuple[str, str], list[float]] = {pair: [] for pair in PAIRS}
    for seed in range(options.seeds):
        rows = [Request(n, s, NoiseKey(seed, str(n), 0)) for s in strategies for n in range(len(ids))]
        decoded = decode_batch(model, prompts, rows, max_new_tokens=options.new_tokens, eos_token_id=None)
        tokens = torch.tensor([row.tokens for row in decoded]).view(len(strategies), len(ids), -1)
        made = {strategy.name: tokens[number] for number, strategy in enumerate(strategies)}
        for name, continuations in made.items():
            words = [tokenizer.decode(row) for row in continuations.tolist()]
            figures[name]["nll"].append(nll(model, prompts, continuations))
            figures[name]["diversity"].append(diversity(words))
        for a, b in PAIRS:
            shared[a, b].append(common(made[a], made[b]))

    result = []
    for a, b in PAIRS:
        entry: dict[str, Any] = {"pair": [a, b], "common": round(statistics.mean(shared[a, b]), 1)}
        for metric in ("nll", "diversity"):
            first, second = (np.array(figures[name][metric]) for name in (a, b))
            together, apart = first - second, first - np.roll(second, 1)  # the next seed's luck is another's
            entry[metric] = {"difference": round(float(together.mean()), 4)} | ratio(together, apart)
        result.append(entry)
    print(json.dumps({"options": vars(options), "prompts": len(ids), "pairs": result}, indent=1))


if __name__ == "__main__":
    main()
