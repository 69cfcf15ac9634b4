"""Speed and memory of measuring perplexity, compared with lm-evaluation-harness and the transformers guide.

    python benchmarks/perplexity.py --convention strided     # compared with the loop of the transformers guide
    python benchmarks/perplexity.py --convention rolling     # compared with lm-evaluation-harness

The model has the shape of GPT-2 124M and random weights. Contestants are processes that stay alive and score the same
text in turn; nothing else computes while one is timed. All use float32. textgen, lm-eval and "guide, batched" read
eight windows of 1,024 tokens per forward pass, and the guide's own loop reads one. The output has medians over rounds
of scored tokens per second, the peak memory of each process, and ratios of both; the run fails unless all contestants
found the same nll. textgen also computes accuracy, calibration and the hardest tokens in the same pass; the others
compute only the nll.
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

from models import SHAPES, make_model

from textgen.run.allocator import preload_variables

HERE = Path(__file__).parent
CONTESTANTS = {"strided": ("textgen", "guide", "guide, batched"), "rolling": ("textgen", "lm-eval")}
BATCH = 8

Pass = Callable[[str], tuple[float, int]]  # text → Σ nll and number of scored tokens


def textgen(options: argparse.Namespace) -> Pass:
    """The same computation as recipes/evaluate.py."""
    from textgen.data.document import Document
    from textgen.evaluation.loaded_model import LoadedModel
    from textgen.evaluation.perplexity.measure_perplexity import score_pass
    from textgen.evaluation.perplexity.token_report import hardest_tokens, token_metrics
    from textgen.evaluation.perplexity.windows import WindowSettings
    from textgen.model.config import ModelConfig
    from textgen.model.locate import find_model
    from textgen.training.distributed.processes import start_process

    loaded = LoadedModel.load(start_process(options.threads), find_model(ModelConfig(model=options.model)), seed=0)
    settings = WindowSettings.resolve(options.convention, loaded.context)

    def measure(text: str) -> tuple[float, int]:
        documents = [Document("text", "benchmark", text)]
        scored = score_pass(loaded, documents, settings, batch_tokens=BATCH * loaded.context)
        token_metrics(scored.sums, seed=0)
        hardest_tokens(scored.windows, scored.hardest, documents, loaded.tokenizer)
        return scored.document_scores[0].nll, scored.document_scores[0].tokens

    return measure


def load_plain(options: argparse.Namespace) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(options.threads)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(options.model)


def guide(options: argparse.Namespace) -> Pass:
    """The loop of the transformers guide "Perplexity of fixed-length models", with exact token counts."""
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
    """The same with eight windows per forward pass; the text is a whole number of strides, so that all are full."""
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
    """Score the text once per line of standard input, after scoring a part of it as a warm-up."""
    from contestants import peak_bytes

    answers = os.fdopen(os.dup(1), "w")  # keep what libraries print out of the answers
    os.dup2(2, 1)
    measure = KINDS[options.contestant](options)
    text = options.text.read_text(encoding="utf-8")
    measure((options.text.parent / "warm-up.txt").read_text(encoding="utf-8"))
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
    # Waiting threads must not spin on the cores of the process that is timed.
    environment = os.environ | {"OMP_WAIT_POLICY": "passive", "PYTHONPATH": str(HERE.parent), "HF_HUB_OFFLINE": "1"}
    environment |= preload_variables(environment) if name == "textgen" else {}  # as the recipes do by themselves
    with (model.parent / f"{name}.log").open("w", encoding="utf-8") as log:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )


def answer(name: str, process: "subprocess.Popen[str]", log: Path) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        sys.exit(f"{name} ended with {process.wait()}:\n{log.read_text(encoding='utf-8')[-2000:]}")
    return json.loads(line)


def make_model_and_text(directory: Path, options: argparse.Namespace) -> Path:
    """GPT-2's shape with random weights, the bundled tokenizer, and pages of Python's documentation as the text."""
    from pydoc_data.topics import topics

    from transformers import AutoConfig, AutoTokenizer

    model = make_model(directory, options.shape)
    tokenizer = AutoTokenizer.from_pretrained(model)
    length = AutoConfig.from_pretrained(model).n_positions
    wanted = (options.windows + 1) * length // 2 if options.convention == "strided" else options.windows * length
    text = "\n\n".join(topics.values())
    offsets = tokenizer(text, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    assert len(offsets) > wanted, f"--windows {options.windows}: the text is too short"
    for name, tokens in (("text.txt", wanted), ("warm-up.txt", length)):
        (directory / name).write_text(text[: offsets[tokens][0]], encoding="utf-8")
    return model


def run(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Time every contestant once per round, and check that all find the same nll."""
    model = make_model_and_text(directory, options)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in options.contestants}
    processes: dict[str, subprocess.Popen[str]] = {}
    try:
        for name in found:  # one after another, since loading is heavy
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
    parser.add_argument("--windows", type=int, default=BATCH, help="length of the text in windows")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--shape", choices=SHAPES, default="124m")
    parser.add_argument("--output", type=Path, help="also write everything measured to this JSON file")
    for name, kind in (("contestant", str), ("model", str), ("text", Path)):  # for the process of a contestant
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        serve(options)
        return
    options.contestants = options.contestants or list(CONTESTANTS[options.convention])
    if "textgen" not in options.contestants:
        parser.error("--contestants: textgen is missing, which the others are compared with. Add it.")
    with tempfile.TemporaryDirectory(prefix="textgen-benchmark-") as scratch:
        result = run(options, Path(scratch))
    print(table(result), flush=True)
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
