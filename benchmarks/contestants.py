"""The training loops that `benchmarks/step.py` compares, each a process that takes one step at a time.

A contestant builds its model and prints {"ready": true}. Then, for every line that it reads, it takes one optimizer
step and prints one line {"seconds", "loss", "peak_bytes"}. While others are measured, it waits for its next line.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
LORA = {"r": 8, "lora_alpha": 16, "target_modules": ["c_attn"], "fan_in_fan_out": True}
LEARNING_RATE = 1e-4


def answer(**values: Any) -> None:
    print(json.dumps(values), file=ANSWERS, flush=True)


def wait_for_request() -> bool:
    """Wait for the next line; False at the end of the input."""
    return bool(sys.stdin.readline().strip())


def peak_bytes() -> int:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def now() -> float:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def tokens(options: argparse.Namespace) -> Iterator[Any]:
    """The same batches for all contestants, (rows, tokens) each."""
    import torch

    generator = torch.Generator().manual_seed(0)
    while True:
        yield torch.randint(0, options.vocabulary, (options.rows, options.tokens), generator=generator)


def serve(step: Callable[[], float]) -> None:
    """Take a step for every request."""
    answer(ready=True)
    while wait_for_request():
        started = now()
        loss = step()
        answer(seconds=now() - started, loss=loss, peak_bytes=peak_bytes())


def load(options: argparse.Namespace, **changed: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32, use_cache=False, **changed)
    if options.method == "lora":
        import peft

        model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **LORA))
    return model


def plain(options: argparse.Namespace, **changed: Any) -> None:
    """The training loop of Accelerate's examples."""
    import torch
    from accelerate import Accelerator

    mixed = "no" if options.precision == "fp32" else options.precision
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=mixed)
    model = load(options, **changed)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE)
    model, optimizer = accelerator.prepare(model, optimizer)
    model.train()
    batches = tokens(options)

    def step() -> float:
        ids = next(batches).to(accelerator.device)
        loss = model(input_ids=ids, labels=ids).loss
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    serve(step)


def plain_without_dropout(options: argparse.Namespace) -> None:
    plain(options, **NO_DROPOUT)


def textgen(options: argparse.Namespace) -> None:
    """The model, optimizer and step of recipes/finetune.py; ``--levers`` are additional flags of the recipe."""
    import numpy as np

    from recipes.finetune import FinetuneConfig
    from textgen.config import parse
    from textgen.data.blocks import GlobalBatches
    from textgen.data.token_stream import Microbatch, TokenStream
    from textgen.model.build import build_model
    from textgen.model.locate import find_model
    from textgen.training.distributed.processes import compute_dtype, start_process
    from textgen.training.prepare import prepare
    from textgen.training.step import training_step

    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    flags = ["--model", options.model, "--method", options.method, "--lora-targets", "c_attn"]
    flags += ["--learning-rate", str(LEARNING_RATE), "--weight-decay", "0.01", "--precision", options.precision]
    flags += ["--global-batch-size", str(options.rows), "--microbatch-size", str(options.rows // world_size)]
    flags += ["--threads", str(options.threads), *(options.levers.split() if options.levers else [])]
    config = parse(FinetuneConfig, flags)
    accelerator = start_process(config.engine.threads, precision=config.engine.precision, exact=config.engine.exact)
    trainable = build_model(
        find_model(config.model), config.adapters, device=accelerator.device, dtype=compute_dtype(accelerator), seed=0,
        gradient_checkpointing=config.engine.gradient_checkpointing,
    )  # fmt: skip
    prepared = prepare(accelerator, trainable, config.training, config.engine, config.adapters)
    source, number = tokens(options), iter(range(1, 10**9))

    class SameTokens(GlobalBatches):
        """Batches of the common tokens instead of a corpus."""

        def targets(self, step: int) -> int:
            return options.rows * (options.tokens - 1)

        def process_share(self, step: int, rank: int, world_size: int) -> Iterator[Microbatch]:
            mine = next(source).chunk(world_size)[rank]
            for i, ids in enumerate(mine.split(self.global_batch_size // self.microbatches)):
                yield Microbatch(rank * self.microbatches // world_size + i, ids, ids)

    assert isinstance(config.training.microbatch_size, int)
    batches = SameTokens(
        TokenStream(np.zeros(2, np.uint16), np.array([1])),
        block_size=options.tokens,
        global_batch_size=options.rows,
        microbatch_size=config.training.microbatch_size,
        seed=0,
    )

    def step() -> float:
        result = training_step(
            accelerator, prepared.training_model, prepared.optimizer, batches, step=next(number),
            learning_rate=LEARNING_RATE, max_grad_norm=1.0, exact=config.engine.exact,
        )  # fmt: skip
        return result.loss

    serve(step)


def trainer(options: argparse.Namespace) -> None:
    """Hugging Face's Trainer with its defaults."""
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(**_arguments(options))
    rows = _rows(options)
    for row in rows:
        row["labels"] = row["input_ids"]
    _run(Trainer(model=load(options), args=arguments, train_dataset=rows))  # type: ignore[arg-type]


def sft_trainer(options: argparse.Namespace) -> None:
    """TRL's SFTTrainer with packing and its defaults."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(**_arguments(options), packing=True, max_length=options.tokens)
    rows = Dataset.from_list([{"input_ids": row["input_ids"].tolist()} for row in _rows(options)])
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    tokenizer.pad_token = tokenizer.eos_token
    _run(SFTTrainer(model=load(options), args=arguments, train_dataset=rows, processing_class=tokenizer))


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    return {
        "output_dir": options.scratch,
        "per_device_train_batch_size": options.rows,
        "max_steps": 1000,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": options.precision == "bf16",
        "disable_tqdm": True,
    }


def _rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    batches = tokens(options)
    return [{"input_ids": row} for _ in range(60) for row in next(batches)]


def _run(trainer: Any) -> None:
    from transformers import TrainerCallback

    class OneAtATime(TrainerCallback):
        def __init__(self) -> None:
            self.started, self.seconds = 0.0, 0.0

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            if not wait_for_request():
                os._exit(0)
            self.started = now()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.seconds = now() - self.started

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if "loss" in logs:
                answer(seconds=self.seconds, loss=float(logs["loss"]), peak_bytes=peak_bytes())

    trainer.add_callback(OneAtATime())
    answer(ready=True)
    trainer.train()


def matmul(options: argparse.Namespace) -> None:
    """Not a training loop: the speed of a layer's matrix multiplication; its "loss" is in GFLOP/s."""
    import torch

    dtype = torch.float32 if options.precision == "fp32" else torch.bfloat16
    a, b = torch.randn(1024, 768, dtype=dtype), torch.randn(768, 3072, dtype=dtype)
    a, b = (x.cuda() if torch.cuda.is_available() else x for x in (a, b))

    def speed() -> float:
        started, times = now(), 20
        for _ in range(times):
            a @ b
        return times * 2 * 1024 * 768 * 3072 / (now() - started) / 1e9

    serve(speed)


KINDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "textgen": textgen,
    "plain": plain,
    "plain, no dropout": plain_without_dropout,
    "Trainer": trainer,
    "SFTTrainer": sft_trainer,
    "matmul": matmul,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    for name, kind in (("model", str), ("scratch", str), ("method", str), ("rows", int), ("tokens", int)):
        parser.add_argument(f"--{name}", type=kind)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--vocabulary", type=int)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--levers", help="additional flags of recipes/finetune.py, for textgen")
    ANSWERS = os.fdopen(os.dup(1), "w")  # the libraries' own output goes to stderr
    os.dup2(2, 1)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    KINDS[options.kind](options)
