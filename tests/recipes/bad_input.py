"""The table of bad inputs: what is given, and what the message says. Every one ends with exit code 2.

In flags, ``{here}`` is a directory with the files of the case, and ``{run}`` one with a copy of a finished run.
"""

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Bad:
    """A bad input.

    Attributes:
        flags: what is added to the command.
        says: parts of the message, separated by " … ".
        files: name → content below ``{here}``; a dictionary is written as JSON, on top of what is in the bundled
            model's file of the same name; None removes it.
        model: start with a copy of the bundled model in ``{here}/m``.
        environment: variables; None unsets one.
        recipe: which one.
        dry: whether ``--dry-run`` finds it too.
    """

    flags: str
    says: str
    files: dict[str, Any] = field(default_factory=dict)
    model: bool = False
    environment: dict[str, str | None] = field(default_factory=dict)
    recipe: str = "finetune"
    dry: bool = True


def data(name: str, content: Any, says: str, flags: str = "") -> Bad:
    return Bad(f"--data {{here}}/{name} {flags}", says, {name: content})


def settings(text: str | bytes, says: str) -> Bad:
    return Bad("--config {here}/c.yaml", says, {"c.yaml": text})


def model(says: str, flags: str = "", **files: Any) -> Bad:
    """A copy of the bundled model with other files: ``config={"n_layer": 0}`` is config.json."""
    names = {"config": "config.json", "tokenizer": "tokenizer.json", "tokenizer_config": "tokenizer_config.json"}
    names |= {"weights": "model.safetensors", "index": "model.safetensors.index.json", "adapter": "adapter_config.json"}
    return Bad(f"--model {{here}}/m {flags}", says, {f"m/{names[k]}": v for k, v in files.items()}, model=True)


def environment(says: str, flags: str = "", **variables: str | None) -> Bad:
    return Bad(flags, says, environment=variables)


ROWS = "\n".join(json.dumps({"text": f"Document {i} has a few words of text in it."}) for i in range(50))
PAIRS = "\n".join(json.dumps({"prompt": f"Question {i}?", "completion": f" Answer {i}."}) for i in range(50))
CHATS = "\n".join(
    json.dumps({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": f"{i}"}]})
    for i in range(50)
)

FILES = [
    data("no-such.txt", None, "--data … no-such.txt: there is no such file"),
    data("empty.txt", b"", "empty.txt: the file is empty"),
    data("blank.txt", b" \n\n\t", "contains only white space"),
    data("nul.txt", b"text\0more", "byte 4 is NUL"),
    data("latin.txt", b"caf\xe9", "not UTF-8 at byte 3 (0xe9)"),
    data("utf16.txt", "text".encode("utf-16"), "the text is in UTF-16"),
    data("cut.txt", "é".encode()[:1], "not UTF-8 at byte 0"),
    data("odd.xyz", b"text", "unknown format '.xyz'"),
    data("none", b"text", "unknown format"),
    data("short.txt", b"one\n\ntwo\n\nthree\n\nfour\n\nfive", "--block-size"),
    data("one.txt", b"a single document of a few words", "too few for a validation split"),
    data("a.jsonl", b'{"text": "a"}\n{"text": \n', "a.jsonl: line 2 … not valid JSON"),
    data("a.jsonl", b'{"text": 5}\n', "is of type int, not text"),
    data("a.jsonl", b'{"text": "a"}\n5\n', "line 2 … is not a JSON object"),
    data("a.jsonl", b'{"body": "a"}\n', "--text-column text: … It has: body"),
    data("a.jsonl", b"[" * 100_000, "a.jsonl"),
    data("a.jsonl", b'{"text": ' + b"[" * 100_000, "nested too deeply"),
    data("a.json", b'[{"text": "a"}', "ends before the end of the array"),
    data("a.json", b"NaN", "is not a JSON object"),
    data("a.csv", b"title,body\na,b\n", "--text-column text: … It has: title, body"),
    data("a.csv", b'text\n"open', "a quote is opened, and not closed"),
    data("a.csv", b"text\na,b\n", "line 2 has 2 fields, but the header has 1"),
    data("a.parquet", b"PAR1 is not enough", "cannot be read as Parquet"),
    data("a.parquet", b"text", "does not start with PAR1"),
    data("a.arrow", b"ARROW1\0\0nothing", "cannot be read as Arrow"),
    data("a.txt.gz", b"not gzip", "damaged after 0 bytes of text"),
    data("a.jsonl.zst", b"not zstd", "damaged after 0 bytes of text"),
    data("a.jsonl", PAIRS.replace(" Answer", "").replace('"completion": "', '"completion": "", "x": "').encode(),
         "there is nothing to train on"),
    data("a.jsonl", b'{"messages": "hello"}\n', "messages"),
    data("a.jsonl", b'{"messages": [{"role": 5}]}\n', "role"),
    data("a.jsonl", b'{"prompt": 5, "completion": "x"}\n', "prompt"),
    data("a.jsonl", CHATS.encode(), "its tokenizer has no chat template"),
    Bad("--data {here}/d", "no file with a supported extension", {"d/readme.md": "x"}),
    Bad("--data {here}/*.nothing", "--data", {"a.txt": "x"}),
    Bad("--data /dev/null", "not a file but a pipe or a device"),
    Bad("--data ''", "--data: it is empty"),
    Bad("--data {here}/a.jsonl:0.5,{here}/a.jsonl:0.5", "named 2 times", {"a.jsonl": ROWS}),
    Bad("--data {here}/a.jsonl:0,{here}/b.jsonl:1", "a weight must be a positive number", {"a.jsonl": ROWS}),
    Bad("--data {here}/a.jsonl:1,{here}/b.jsonl", "is not a name with a weight", {"a.jsonl": ROWS}),
    Bad("--data markov:seed=x", "--data markov:seed=x"),
    Bad("--data https://127.0.0.1:1/a.txt", "cannot be fetched"),
    Bad("--data nonsense://host/a.txt", "cannot be fetched: Protocol not known"),
    Bad("--validation-data {here}/v.txt", "--validation-data … v.txt: the file is empty", {"v.txt": b""}),
    Bad("--retain-data {here}/no-such.txt", "--retain-data … no such file"),
    Bad("--data {here}/s", "s/state.json: damaged", {"s/state.json": "{", "s/dataset_info.json": "{}"}),
]  # fmt: skip

FLAGS = [
    Bad("--lerning-rate 1", "--learning-rate"),
    Bad("unexpected", "unexpected"),
    Bad("--steps", "--steps"),
    Bad("--steps three", "--steps"),
    Bad("--steps -1", "--steps -1"),
    Bad("--steps 0", "--steps 0"),
    Bad("--steps 99999999999999999999999999", "--steps"),
    Bad("--epochs -1", "--epochs -1"),
    Bad("--epochs nan", "--epochs nan"),
    Bad("--learning-rate -1", "--learning-rate -1"),
    Bad("--learning-rate nan", "--learning-rate nan"),
    Bad("--learning-rate inf", "--learning-rate inf"),
    Bad("--weight-decay -1", "--weight-decay -1"),
    Bad("--max-grad-norm -1", "--max-grad-norm -1"),
    Bad("--max-grad-norm nan", "--max-grad-norm nan"),
    Bad("--warmup-steps -1", "--warmup-steps -1"),
    Bad("--schedule sideways", "--schedule"),
    Bad("--optimizer adamv", "--optimizer"),
    Bad("--precision fp8", "--precision"),
    Bad("--global-batch-size 0 --microbatch-size auto", "--global-batch-size 0"),
    Bad("--microbatch-size 3", "--microbatch-size 1 or 2 or 4 or 8"),
    Bad("--microbatch-size -2", "--microbatch-size -2"),
    Bad("--block-size 1", "--block-size 1"),
    Bad("--block-size 257", "--block-size 257 … 256"),
    Bad("--seed -1", "--seed -1"),
    Bad("--threads -1", "--threads -1"),
    Bad("--threads 1000000000", "--threads 1000000000"),
    Bad("--dropout 1", "--dropout 1"),
    Bad("--attention-dropout nan", "--attention-dropout nan"),
    Bad("--log-every 0", "--log-every 0"),
    Bad("--keep-checkpoints 0", "--keep-checkpoints 0"),
    Bad("--evaluate-every -1", "--evaluate-every -1"),
    Bad("--validation-fraction 0", "--validation-fraction 0"),
    Bad("--validation-fraction nan", "--validation-fraction nan"),
    Bad("--method lora --lora-rank 0", "--lora-rank 0"),
    Bad("--method lora --lora-alpha nan", "--lora-alpha nan"),
    Bad("--method lora --lora-targets q_proj", "c_attn"),
    Bad("--method lora --lora-targets ''", "--lora-targets"),
    Bad("--method lora --lora-targets '('", "--lora-targets"),
    Bad("--method lora --from-scratch", "--from-scratch with --method lora"),
    Bad("--method qlora --lora-variant pissa", "pissa needs unquantized weights"),
    Bad("--strategies gredy", "greedy"),
    Bad("--strategies 'top_p[2]'", "top_p '2'"),
    Bad("--strategies 'top_k[1'", "brackets"),
    Bad("--strategies ''", "--strategies"),
    Bad("--strategies gredy --skip-decoding", "greedy"),
    Bad("--strategies speculative", "--amateur"),
    Bad("--prompts 0", "--prompts 0"),
    Bad("--prompt-tokens 200 --max-new-tokens 57", "--prompt-tokens 200"),
    Bad("--samples 0", "--samples 0"),
    Bad("--stride 5", "requires --convention strided"),
    Bad("--convention strided --stride 999", "--stride 999"),
    Bad("--judge {here}/nowhere", "--judge"),
    Bad("--judge tiny-gpt2 --skip-decoding", "nothing to judge"),
    Bad("--resume nowhere", "--resume nowhere: not a checkpoint"),
    Bad("--resume ~nobody-here/x", "--resume"),
    Bad("--track comet", "--track comet: no such tracker"),
    Bad("--track none,wandb", "none cannot be combined with a tracker"),
    Bad("--wandb-mode sometimes", "--wandb-mode"),
    Bad("--chat-template {here}/nowhere", "--chat-template"),
    Bad("--chat-template {here}/t", "not UTF-8", {"t": b"\xff"}),
    Bad("--chat-template {here}/t --data {here}/a.jsonl", "not valid Jinja", {"t": "{% for", "a.jsonl": CHATS}),
    Bad("--run-dir {here}/file/run", "cannot be written", {"file": "x"}),
    Bad("--run-dir {here}/file", "cannot be written: this is a file", {"file": "x"}),
    Bad("--run-dir {here}/d", "the directory is not empty and holds no run", {"d/thesis.txt": "x"}),
    Bad("--run-dir /proc/run", "cannot be written"),
    Bad(f"--run-dir {'x' * 300}", "cannot be written: File name too long"),
    Bad("--config {here}/no-such.yaml", "there is no such file"),
    Bad("--config", "--config"),
]

YAML = [
    settings("lerning_rate: 1", "did you mean 'learning_rate'?"),
    settings("steps: 3\nseed: 1\nsteps: 4", "c.yaml: 'steps' is there twice"),
    Bad("--config {here}", "this is not a file"),
    settings("steps: [", "not valid YAML"),
    settings("- steps", "found a list"),
    settings("5", "found a int"),
    settings("log_every:", "'log_every' has no value"),
    settings("steps: {a: 1}", "settings are flat"),
    settings("steps: [[1]]", "is a list of lists"),
    settings("seed: many", "--seed"),
    settings("dry_run: 5", "must be true or false"),
    settings(b"data: \xff", "not valid YAML"),
    settings("data: !!python/object/apply:os.getcwd []", "not valid YAML"),
    settings('data: "a\\0b"', "NUL"),
    settings('data: "\\ud800"', "half of a character"),
    settings("steps: 0x" + "f" * 5000, "too long"),
    settings("a: " + "[" * 3000, "nested too deeply"),
    settings("steps: 1\n\tepochs: 2", "not valid YAML"),
]

MODELS = [
    Bad("--model {here}/nowhere", "no such directory"),
    Bad("--model {here}/d", "the directory contains no model (no config.json)", {"d/x": ""}),
    Bad("--model {here}/m/config.json", "this is a file", model=True),
    Bad("--model ''", "--model"),
    Bad("--model 'a b c'", "no such directory"),
    Bad("--model nobody/no-such-model", "nobody/no-such-model"),
    Bad(f"--model {'x' * 300}", "--model"),
    model("--model", config=b""),
    model("--model", config=b"[]"),
    model("--model", config=b"{"),
    model("out of range", config={"n_layer": 10**9}),
    model("config.json", config={"n_layer": "four"}),
    model("config.json", config={"n_embd": 127}),
    model("config.json", config={"n_head": 0}),
    model("config.json", config={"activation_function": "evil"}),
    model("--model", config={"model_type": "evil"}),
    model("is not a list of class names", config={"architectures": "GPT2LMHeadModel"}),
    model("is not a causal language model", config={"architectures": ["GPT2ForSequenceClassification"]}),
    model("its weights are quantized", config={"quantization_config": {"quant_method": "nonsense"}}),
    model("has the token", config={"vocab_size": 100}, flags="--from-scratch"),
    model("the tokenizer cannot be loaded", tokenizer=b"{}"),
    model("the tokenizer cannot be loaded", tokenizer=b""),
    model("the tokenizer cannot be loaded", tokenizer_config={"model_max_length": "x"}),
    model("token", tokenizer=None, tokenizer_config=None),
    model("the weights cannot be loaded", weights=None),
    model("the weights cannot be loaded", weights=b""),
    model("the weights cannot be loaded", weights=b"\xff" * 100),
    model("the weights", config={"n_embd": 64}),
    model("the weights are incomplete", config={"n_layer": 5}),
    model("which is not a safetensors file", index={"weight_map": {"a": "../x.safetensors"}}),
    model("is damaged", index=b"{"),
    model("does not name a base model", adapter=b"{}"),
    model("is not on this machine", adapter={"base_model_name_or_path": "/nowhere/base"}),
    model("this is an adapter, but fine-tuning starts from a full model",
          adapter={"base_model_name_or_path": "tiny-gpt2"}),
]  # fmt: skip

ADAPTERS = [
    Bad("--model {here}/m", says, {"m/adapter_config.json": {"base_model_name_or_path": "tiny-gpt2"} | config} | files,
        model=True, recipe="evaluate", dry=False)
    for says, config, files in (
        ("adapter_model.safetensors is missing", {"peft_type": "LORA"}, {}),
        ("adapter_config.json cannot be read", {"peft_type": "EVIL"}, {"m/adapter_model.safetensors": b""}),
        ("adapter_config.json cannot be read", {}, {"m/adapter_model.safetensors": b""}),
        ("damaged", {"peft_type": "LORA", "target_modules": ["c_attn"]}, {"m/adapter_model.safetensors": b"x"}),
        ("another base model", {"peft_type": "LORA", "r": "x"}, {"m/adapter_model.safetensors": b"x"}),
        ("base_fingerprint.json", {"peft_type": "LORA"}, {"m/base_fingerprint.json": b"["}),
        ("base_fingerprint.json", {"peft_type": "LORA"}, {"m/base_fingerprint.json": b'{"quantize_bits": "x"}'}),
    )
]  # fmt: skip

RESUME = "--resume {run}/checkpoints/step-00000006 --run-dir {here}/new"
CHECKPOINTS = [
    Bad("--resume {run}", "not a checkpoint"),
    Bad(f"{RESUME} --seed 1", "seed: 0 (existing) vs 1"),
    Bad(f"{RESUME} --data {{here}}/a.jsonl", "this checkpoint was written with other settings", {"a.jsonl": ROWS}),
    Bad("--run-dir {run} --steps 9", "cannot go on to 9 steps. Its steps so far would have had other learning rates"),
    Bad("--run-dir {run} --learning-rate 0.5", "learning_rate"),
]

ENVIRONMENT = [
    environment("Set TEXTGEN_CACHE to a directory that you can write to", TEXTGEN_CACHE="/proc/cache"),
    environment("Set TEXTGEN_CACHE to a directory that you can write to", TEXTGEN_CACHE="/dev/null"),
    environment("there is no home directory", TEXTGEN_CACHE="~nobody-here/cache"),
    environment("WORLD_SIZE x: this environment variable must be a number from 1 on", WORLD_SIZE="x", RANK="0"),
    environment("WORLD_SIZE 0: this environment variable must be a number from 1 on", WORLD_SIZE="0"),
    environment(
        "Accelerate cannot start: … of the variables ACCELERATE_GRAD", ACCELERATE_GRADIENT_ACCUMULATION_STEPS="x"
    ),
    environment("'JUNK' is not a valid DynamoBackend", ACCELERATE_DYNAMO_BACKEND="junk"),
    environment("RANK x: this environment variable must be a number from 0 on", WORLD_SIZE="2", RANK="x"),
    environment("RANK 3: this environment variable must be below WORLD_SIZE, which is 1", WORLD_SIZE="1", RANK="3"),
    environment("MASTER_PORT x: this environment variable must be the number of a port", MASTER_PORT="x"),
    environment("TEXTGEN_RANK_TIMEOUT soon: must be a number of seconds", TEXTGEN_RANK_TIMEOUT="soon"),
    Bad("--run-dir ' '", "--run-dir ' ': must be the name of a directory"),
    Bad(
        "--model {here}/m",
        "generation_config.json is not a JSON object",
        {"m/generation_config.json": "[]"},
        model=True,
    ),
    Bad("--model {here}/m", "special_tokens_map.json is not a JSON object", {"m/special_tokens_map.json": "[1]"}, True),
    environment("LOCAL_RANK -1: this environment variable must be a number", LOCAL_RANK="-1"),
]

TABLE = [*FILES, *FLAGS, *YAML, *MODELS, *ADAPTERS, *CHECKPOINTS, *ENVIRONMENT]
