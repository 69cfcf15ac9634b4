"""Speed of GPT-2 124M's matrix multiplications with MKL and oneDNN.

    python benchmarks/products.py
    python benchmarks/products.py --rows 16      # decoding 16 rows

MKL (torch's default) and oneDNN (which textgen's layers use except on Intel processors,
textgen/model/kernels/linear.py) take turns, forward and backward, on eight sets of matrices, so that none is in a
cache; the output head is limited to 256 rows. The table has medians in GFLOP/s.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from textgen.model.kernels.linear import onednn_linear

LAYERS = {"c_attn": (768, 2304), "attn.c_proj": (768, 768), "c_fc": (768, 3072), "mlp.c_proj": (3072, 768)}
LAYERS |= {"lm_head": (768, 50257)}  # its weight is (out, in), and it gets at most 256 rows at a time
SETS = 8


def speeds(backends: dict[str, Callable[[int], object]], operations: float, rounds: int) -> dict[str, float]:
    """GFLOP/s of each backend, in turn, after two warm-up rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in backends}
    for number in range(rounds + 2):
        for name, run in backends.items():
            started = time.perf_counter()
            run(number % SETS)
            seconds[name].append(time.perf_counter() - started)
    return {name: operations / statistics.median(values[2:]) / 1e9 for name, values in seconds.items()}


def multiplications(
    rows: int, inputs: int, outputs: int
) -> dict[str, tuple[Callable[[int], object], Callable[[int], object]]]:
    """The matrix multiplications of a layer, by MKL and by oneDNN, given the number of a set of matrices."""
    x, g = ([torch.randn(rows, n) for _ in range(SETS)] for n in (inputs, outputs))
    if outputs < 10_000:
        w = [torch.randn(inputs, outputs) for _ in range(SETS)]
    else:
        w = [torch.randn(outputs, inputs).t()] * SETS  # too large for a cache
    return {
        "forward": (lambda i: x[i] @ w[i], lambda i: onednn_linear(x[i], w[i].t(), None)),
        "gradient of inputs": (lambda i: g[i] @ w[i].t(), lambda i: onednn_linear(g[i], w[i], None)),
        "gradient of weights": (lambda i: x[i].t() @ g[i], lambda i: onednn_linear(x[i].t(), g[i].t(), None)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| matrix multiplication | MKL | oneDNN |\n| --- | --- | --- |")
    for layer, (inputs, outputs) in LAYERS.items():
        rows = min(options.rows, 256) if layer == "lm_head" else options.rows
        for name, (mkl, onednn) in multiplications(rows, inputs, outputs).items():
            found = speeds({"MKL": mkl, "oneDNN": onednn}, 2 * rows * inputs * outputs, options.rounds)
            print(f"| {layer}, {name} | {found['MKL']:.0f} | {found['oneDNN']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
