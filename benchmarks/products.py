"""The products of GPT-2 124M, and who takes them fastest.

    python benchmarks/products.py
    python benchmarks/products.py --rows 16      # decoding 16 rows

In turn, on eight sets of matrices, so that none is in a cache: MKL (what torch does) and oneDNN (what textgen's layers
do except on Intel's processors, textgen/model/kernels/linear.py), forward and backward; those of the output head, of
no more than 256 rows. Printed are medians in GFLOP/s.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from textgen.model.kernels.linear import multiply

LAYERS = {"c_attn": (768, 2304), "attn.c_proj": (768, 768), "c_fc": (768, 3072), "mlp.c_proj": (3072, 768)}
LAYERS |= {"lm_head": (768, 50257)}  # whose weight is (out, in), and which takes no more than 256 rows at a time
SETS = 8


def speeds(contestants: dict[str, Callable[[int], object]], operations: float, rounds: int) -> dict[str, float]:
    """GFLOP/s of each, in turn; the first two rounds warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 2):
        for name, run in contestants.items():
            started = time.perf_counter()
            run(number % SETS)
            seconds[name].append(time.perf_counter() - started)
    return {name: operations / statistics.median(values[2:]) / 1e9 for name, values in seconds.items()}


def products(
    rows: int, inputs: int, outputs: int
) -> dict[str, tuple[Callable[[int], object], Callable[[int], object]]]:
    """Of a layer: what MKL and what oneDNN does, on one of the sets of matrices."""
    x, g = ([torch.randn(rows, n) for _ in range(SETS)] for n in (inputs, outputs))
    if outputs < 10_000:
        w = [torch.randn(inputs, outputs) for _ in range(SETS)]
    else:
        w = [torch.randn(outputs, inputs).t()] * SETS  # too large for a cache
    return {
        "forward": (lambda i: x[i] @ w[i], lambda i: multiply(x[i], w[i].t(), None)),
        "gradient of inputs": (lambda i: g[i] @ w[i].t(), lambda i: multiply(g[i], w[i], None)),
        "gradient of weights": (lambda i: x[i].t() @ g[i], lambda i: multiply(x[i].t(), g[i].t(), None)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| product | MKL | oneDNN |\n| --- | --- | --- |")
    for layer, (inputs, outputs) in LAYERS.items():
        rows = min(options.rows, 256) if layer == "lm_head" else options.rows
        for name, (mkl, onednn) in products(rows, inputs, outputs).items():
            found = speeds({"MKL": mkl, "oneDNN": onednn}, 2 * rows * inputs * outputs, options.rounds)
            print(f"| {layer}, {name} | {found['MKL']:.0f} | {found['oneDNN']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
