"""Training on 1, 2 and 4 processes: the same losses up to rounding, and the same bits with --exact.

50 steps of AdamW with dropout, clipping and a short last batch; full fine-tuning and adapters, also on experts.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow

STEPS, WORLDS = 50, (1, 2, 4)
CASES = [
    ("full", False, "fp32"),
    ("full", True, "fp32"),
    ("lora", False, "fp32"),
    ("lora", True, "fp32"),
    ("experts", True, "fp32"),
    ("full", True, "fp16"),
    ("full", True, "bf16"),
]


def train(method: str, exact: bool, precision: str) -> dict[str, Any]:
    """Losses and gradient norms of all steps, and a digest of the final weights."""
    import torch
    from accelerate.state import AcceleratorState
    from transformers import GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM

    from textgen.data.blocks import GlobalBatches
    from textgen.data.token_stream import TokenStream
    from textgen.model.adapters.lora import add_adapters
    from textgen.model.config import AdapterConfig
    from textgen.model.loss import ModelWithLoss
    from textgen.training.config import TrainingConfig
    from textgen.training.distributed.processes import start_process
    from textgen.training.optimizers import build_optimizer
    from textgen.training.prepare import wrap
    from textgen.training.step import training_step

    AcceleratorState._reset_state()  # of the previous case, whose precision may differ
    accelerator = start_process(1, exact=exact, precision=precision)
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
    dropout = {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1}
    model: Any = GPT2LMHeadModel(GPT2Config(**sizes, **dropout, bos_token_id=0, eos_token_id=0))
    if method == "lora":
        model = add_adapters(model, AdapterConfig(lora_dropout=0.1), "base", seed=0)
    if method == "experts":
        shape = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
        experts = {"num_attention_heads": 2, "num_key_value_heads": 1, "num_local_experts": 4, "num_experts_per_tok": 2}
        model = add_adapters(MixtralForCausalLM(MixtralConfig(**shape, **experts)), AdapterConfig(), "base", seed=0)
    tokens = np.random.default_rng(0).zipf(1.5, 21 * 11 + 4).clip(max=299).astype(np.uint16)
    data = GlobalBatches(
        TokenStream(tokens, np.array([1])), block_size=12, global_batch_size=8, microbatch_size=2, seed=0
    )
    assert data.blocks % 8, "the last batch of an epoch is short"
    scored, optimizer = wrap(accelerator, ModelWithLoss(model), build_optimizer(model, TrainingConfig()), exact=exact)
    assert getattr(scored, "gradient_as_bucket_view", True), "DDP stores gradients once, not in its buckets as well"
    scored.train()
    settings: dict[str, Any] = {"learning_rate": 3e-3, "max_grad_norm": 0.5, "exact": exact}
    results = [
        training_step(accelerator, scored, optimizer, data, step=step, **settings) for step in range(1, STEPS + 1)
    ]
    assert max(result.grad_norm for result in results) > 0.5, "gradients were clipped"
    digest = hashlib.sha256()
    for p in model.parameters():
        digest.update(p.detach().numpy().tobytes())
    return {
        "loss": [result.loss for result in results],
        "grad_norm": [result.grad_norm for result in results],
        "weights": digest.hexdigest(),
    }


@pytest.fixture(scope="module")
def outcomes(python, tmp_path_factory) -> dict[int, list[dict[str, Any]]]:
    """Number of processes → outcome of each case."""
    directory = tmp_path_factory.mktemp("outcomes")
    for world in WORLDS:
        python.run([__file__, directory / str(world)], processes=world, check=True)
    return {world: json.loads((directory / str(world)).read_text()) for world in WORLDS}


@pytest.mark.parametrize("case", range(len(CASES)), ids=[f"{m}-{'exact' if e else 'plain'}-{p}" for m, e, p in CASES])
def test_losses_do_not_depend_on_the_number_of_processes(outcomes, case):
    alone = outcomes[1][case]
    assert len(alone["loss"]) == STEPS
    for world in WORLDS[1:]:
        assert outcomes[world][case]["loss"] == pytest.approx(alone["loss"], rel=1e-5)
        assert outcomes[world][case]["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("case", [1, 3, 4, 5], ids=["full", "lora", "scaled", "bf16"])
def test_exact_training_gives_the_same_bits_on_any_number_of_processes(outcomes, case):
    assert outcomes[1][case] == outcomes[2][case] == outcomes[4][case]


def test_without_exact_the_bits_differ(outcomes):
    """So the test above can fail."""
    assert outcomes[1][0]["weights"] != outcomes[4][0]["weights"]


if __name__ == "__main__":
    found = [train(*case) for case in CASES]
    import torch.distributed as dist

    if not dist.is_initialized() or dist.get_rank() == 0:
        Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")
