"""Shared fixtures. Tests use no network, write to temporary directories only, and train tiny models."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from prefork import Prefork

SENTENCES = [
    "The cat sat on the mat, and the dog sat on the cat.",
    "It was the best of times, it was the worst of times, it was the age of wisdom.",
    "Call me Ishmael. Some years ago, never mind how long precisely.",
    "A naïve café — with “quotes”, an ellipsis… and 42 numbers.",
]


def pytest_configure(config: pytest.Config) -> None:
    # Here and not in a fixture: the libraries read these once, when test modules import them.
    home = Path(tempfile.mkdtemp(prefix="textgen-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    os.environ |= {"TEXTGEN_CACHE": str(home / "textgen"), "HF_HOME": str(home / "huggingface")}
    os.environ |= {f"WANDB_{kind}": str(home / "wandb") for kind in ("DIR", "DATA_DIR", "CACHE_DIR", "CONFIG_DIR")}
    os.environ["ACCELERATE_USE_CPU"] = "true"  # even if there is a GPU; tests marked `gpu` unset it
    os.environ |= {"WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    # Benchmarks are scripts that import each other by name; last in the path, their names hide no library's.
    sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
    settings.register_profile("textgen", deadline=None)  # no time limit per example, since the machine may be busy
    settings.load_profile("textgen")


@pytest.fixture(scope="session")
def python() -> Iterator[Prefork]:
    """``python.run(["script.py", "--flag"], processes=2)``: runs a script in processes that fork from a warm server."""
    with Prefork() as server:
        yield server


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Matrices are so small that waking a second thread takes longer than the multiplication."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_tokenizer(**special: str) -> Any:
    """A byte-level BPE tokenizer with 300 tokens, which encodes and decodes any text without loss."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=trained, **special)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A tokenizer with 300 tokens; token 0 is the end of text."""
    return make_tokenizer(eos_token="<|endoftext|>")


@pytest.fixture(scope="session")
def tokenizer_with() -> Callable[..., Any]:
    """The same vocabulary with other special tokens: ``tokenizer_with(bos_token="<|endoftext|>")``."""
    return make_tokenizer


@pytest.fixture(scope="session")
def tiny_gpt2() -> Callable[..., Any]:
    """``tiny_gpt2(seed, n_embd=16, …)``: a random GPT-2 without dropout, with a context of 64 tokens."""

    def make(seed: int = 0, **shape: Any) -> Any:
        import torch
        from transformers import GPT2Config, GPT2LMHeadModel

        sizes = {"vocab_size": 300, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
        dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        torch.manual_seed(seed)
        return GPT2LMHeadModel(GPT2Config(**(sizes | dropout | {"bos_token_id": 0, "eos_token_id": 0} | shape)))

    return make


@pytest.fixture(scope="session")
def tiny_llama() -> Callable[..., Any]:
    """``tiny_llama(seed, …)``: a random Llama, which has ``nn.Linear`` layers and an untied head."""

    def make(seed: int = 0, **shape: Any) -> Any:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 64}
        heads = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
        torch.manual_seed(seed)
        return LlamaForCausalLM(LlamaConfig(**(sizes | heads | {"bos_token_id": 0, "eos_token_id": 0} | shape)))

    return make


@pytest.fixture(scope="session")
def accelerator() -> Any:
    """One process, on the CPU."""
    from accelerate import Accelerator

    return Accelerator(cpu=True, mixed_precision="no")
