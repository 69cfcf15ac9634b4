"""Compare measuring perplexity with what else one would use, on GPT-2 124M (random weights, real shape), in one run.

    python benchmarks/perplexity.py --convention strided     # against the transformers guide's loop
    python benchmarks/perplexity.py --convention rolling     # against lm-evaluation-harness

Contestants are processes that stay alive and score the same text, in turn; nothing else computes while one is timed.
All run float32. textgen, lm-eval and "guide, batched" read eight windows of 1,024 tokens in a forward pass; the guide's
own loop reads one. Reported are medians over rounds of scored tokens a second, the most memory that a process ever
had, and ratios of both; and the run fails unless all found the same nll. textgen counts accuracy, calibration and the
rest in the same pass, the others nothing but the nll.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textgen.run.allocator import preload_variables

HERE = Path(__file__).parent
CONTESTANTS = {"strided": ("textgen", "guide", "guide, batched"), "rolling": ("textgen", "lm-eval")}
BATCH = 8
SHAPES: dict[str, dict[str, int]] = {
    "124m": {},
    "tiny": {"n_embd": 64, "n_layer": 2, "n_head": 2, "vocab_size": 4096, "n_positions": 128},
}

Pass = Callable[[str], tuple[float, int]]  # text → Σ nll and number of scored tokens


def textgen(options: argparse.Namespace) -> Pass:
    """What recipes/evaluate.py runs."""
    from textgen.data.document import Document
    from textgen.evaluation.perplexity.document_sums import hardest_tokens, token_figures
    from textgen.evaluation.perplexity.summary import score
    from textgen.model.config import ModelConfig
    from textgen.model.kernels.swap_modules import swap_modules
    from textgen.model.loading import load_model
    from textgen.model.locate import load_tokenizer, locate
    from textgen.training.distributed.processes import start_process

    accelerator = start_process(options.threads)
    location = locate(options.model)
    model, tokenizer = swap_modules(load_model(location, ModelConfig())), load_tokenizer(location, ModelConfig())
    context = model.config.n_positions
    settings = {"convention": options.convention, "context": context, "batch_tokens": BATCH * context}

    def measure(text: str) -> tuple[float, int]:
        documents = [Document("text", "benchmark", text)]
        scored = score(accelerator, model, tokenizer, documents, **settings)
        token_figures(scored.tallies, seed=0)
        hardest_tokens(scored.passages, scored.scores, documents, tokenizer)
        return scored.documents[0].nll, scored.documents[0].tokens

    return measure


def load_plain(options: argparse.Namespace) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(options.threads)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(options.model)


def guide(options: argparse.Namespace) -> Pass:
    """The loop of the transformers guide "Perplexity of fixed-length models", counted exactly."""
    import torch

    model, tokenizer = load_plain(options)
    length = model.config.n_positions

    def measure(text: str) -> tuple[float, int]:
        ids = tokenizer(text, return_tensors="pt", verbose=False).input_ids
        total, count, read = 0.0, 0, 0
        for begin in range(0, ids.shape[1], length // 2):
            end = min(begin + length, ids.shape[1])
            inputs = ids[:, begin:end]
            labels = inputs.clone()
            labels[:, : -(end - read)] = -100
            with torch.no_grad():
                loss = model(inputs, labels=labels).loss
            targets = int((labels[:, 1:] != -100).sum())
            total, count, read = total + float(loss) * targets, count + targets, end
            if end == ids.shape[1]:
                break
        return total, count

    return measure


def guide_batched(options: argparse.Namespace) -> Pass:
    """The same with eight windows in a forward pass; the text is a whole number of strides, so that all are full."""
    import torch

    model, tokenizer = load_plain(options)
    length = model.config.n_positions

    def measure(text: str) -> tuple[float, int]:
        ids = tokenizer(text, verbose=False).input_ids
        windows = torch.tensor(ids).unfold(0, length, length // 2)
        labels = windows.clone()
        labels[1:, : length // 2] = -100
        total, count = 0.0, 0
        for rows, targets in zip(windows.split(BATCH), labels.split(BATCH), strict=True):
            with torch.no_grad():
                loss = model(rows, labels=targets).loss
            scored = int((targets[:, 1:] != -100).sum())
            total, count = total + float(loss) * scored, count + scored
        return total, count

    return measure


def lm_eval(options: argparse.Namespace) -> Pass:
    """lm-evaluation-harness's own loglikelihood_rolling."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = load_plain(options)
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCH, device="cpu")

    def measure(text: str) -> tuple[float, int]:
        [value] = harness.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (text,), 0)], disable_tqdm=True)
        return -float(value), len(tokenizer(text, verbose=False).input_ids)

    return measure


KINDS: dict[str, Callable[[argparse.Namespace], Pass]] = {
    "textgen": textgen,
    "guide": guide,
    "guide, batched": guide_batched,
    "lm-eval": lm_eval,
}


def serve(options: argparse.Namespace) -> None:
    """Score the text once for every line that comes in, after a part of it to warm up."""
    from contestants import peak_bytes

    answers = os.fdopen(os.dup(1), "w")  # whatever the libraries print goes elsewhere
    os.dup2(2, 1)
    measure = KINDS[options.contestant](options)
    text = options.text.read_text()
    measure((options.text.parent / "warm-up.txt").read_text())
    print(json.dumps({"ready": True}), file=answers, flush=True)
    while sys.stdin.readline().strip():
        started = time.perf_counter()
        nll, tokens = measure(text)
        seconds = time.perf_counter() - started
        answer = {"seconds": seconds, "nll": nll, "tokens": tokens, "peak_bytes": peak_bytes()}
        print(json.dumps(answer), file=answers, flush=True)


def start(name: str, options: argparse.Namespace, model: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, str(Path(__file__)), "--contestant", name, "--convention", options.convention]
    command += ["--model", str(model), "--text", str(model.parent / "text.txt"), "--threads", str(options.threads)]
    # Threads that wait must not spin on the cores of those that are measured.
    environment = os.environ | {"OMP_WAIT_POLICY": "passive", "PYTHONPATH": str(HERE.parent), "HF_HUB_OFFLINE": "1"}
    environment |= preload_variables(environment) if name == "textgen" else {}  # as the recipes do by themselves
    with (model.parent / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )


def answer(name: str, process: "subprocess.Popen[str]", log: Path) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        sys.exit(f"{name} ended with {process.wait()}:\n{log.read_text()[-2000:]}")
    return json.loads(line)


def make_model_and_text(directory: Path, options: argparse.Namespace) -> Path:
    """Random weights of GPT-2's shape, the bundled tokenizer, and pages of Python's documentation as text."""
    from pydoc_data.topics import topics

    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    shape = SHAPES[options.shape]
    config = GPT2Config(**shape, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(directory / "model")
    tokenizer = AutoTokenizer.from_pretrained(HERE.parent / "textgen" / "assets" / "tiny-gpt2")
    tokenizer.save_pretrained(directory / "model")
    length = config.n_positions
    wanted = (options.windows + 1) * length // 2 if options.convention == "strided" else options.windows * length
    text = "\n\n".join(topics.values())
    offsets = tokenizer(text, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    assert len(offsets) > wanted, f"--windows {options.windows}: there is no text for so many"
    for name, tokens in (("text.txt", wanted), ("warm-up.txt", length)):
        (directory / name).write_text(text[: offsets[tokens][0]])
    return directory / "model"


def run(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Every contestant once a round; what it found must be what the others found."""
    model = make_model_and_text(directory, options)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in options.contestants}
    processes: dict[str, subprocess.Popen[str]] = {}
    try:
        for name in found:  # one after the other: loading must not disturb loading
            processes[name] = start(name, options, model)
            assert answer(name, processes[name], directory / f"{name}.log")["ready"]
        for number in range(options.rounds):
            for name, process in processes.items():
                assert process.stdin is not None
                process.stdin.write("score\n")
                process.stdin.flush()
                found[name].append(answer(name, process, directory / f"{name}.log"))
                print(f"round {number + 1} {name}: {found[name][-1]}", file=sys.stderr, flush=True)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    first = found["textgen"][0]
    for name, passes in found.items():
        for one in passes:
            assert one["tokens"] == first["tokens"], (name, one, first)
            assert abs(one["nll"] - first["nll"]) <= 1e-4 * first["nll"], (name, one, first)
    own = [one["tokens"] / one["seconds"] for one in found["textgen"]]
    own_peak = max(one["peak_bytes"] for one in found["textgen"])
    rows = {}
    for name, passes in found.items():
        rates, peak = [one["tokens"] / one["seconds"] for one in passes], max(one["peak_bytes"] for one in passes)
        rows[name] = {"tokens_per_second": statistics.median(rates), "range": [min(rates), max(rates)], "peak": peak}
        rows[name] |= {"faster": statistics.median(own) / statistics.median(rates), "memory": own_peak / peak}
    return {"convention": options.convention, "tokens": first["tokens"], "rounds": options.rounds, "contestants": rows}


def table(result: dict[str, Any]) -> str:
    lines = [
        f"| {result['convention']}, {result['tokens']:,} tokens | tokens/s (range) | peak memory | textgen is |",
        "| --- | --- | --- | --- |",
    ]
    for name, row in result["contestants"].items():
        low, high = row["range"]
        versus = "" if name == "textgen" else f"{row['faster']:.2f}× as fast, {row['memory']:.2f}× the memory"
        speed = f"{row['tokens_per_second']:.0f} ({low:.0f}–{high:.0f})"
        lines.append(f"| {name} | {speed} | {row['peak'] / 1e9:.2f} GB | {versus} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--convention", choices=CONTESTANTS, default="strided")
    parser.add_argument("--contestants", type=lambda text: text.split(";"), help="separated by ;")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--windows", type=int, default=BATCH, help="how many the text is read in")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--shape", choices=SHAPES, default="124m")
    parser.add_argument("--output", type=Path, help="also write everything measured to this JSON file")
    for name, kind in (("contestant", str), ("model", str), ("text", Path)):  # of a contestant's own process
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        serve(options)
        return
    options.contestants = options.contestants or list(CONTESTANTS[options.convention])
    if "textgen" not in options.contestants:
        parser.error("--contestants: textgen is what the others are compared with; name it too")
    with tempfile.TemporaryDirectory(prefix="textgen-benchmark-") as scratch:
        result = run(options, Path(scratch))
    print(table(result), flush=True)
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
