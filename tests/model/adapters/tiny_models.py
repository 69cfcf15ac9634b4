"""Tiny random models of architectures whose linear layers and experts are stored in different ways."""

import copy
from typing import Any

import torch
import transformers as hf
from transformers import AutoModelForCausalLM

_SIZES: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
_LATENT_ATTENTION = {
    "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}  # fmt: skip
_FEW = {"num_experts_per_tok": 2}


def _config(name: str, **sizes: Any) -> Any:
    return getattr(hf, f"{name}Config")(**(_SIZES | sizes))


# Mixtures of experts, by the name of the architecture.
MIXTURES = {
    "mixtral": _config("Mixtral", num_local_experts=4, **_FEW),
    "qwen2_moe": _config(
        "Qwen2Moe", num_experts=4, moe_intermediate_size=24, shared_expert_intermediate_size=40, mlp_only_layers=[0],
        **_FEW,
    ),
    "qwen3_moe": _config("Qwen3Moe", num_experts=4, moe_intermediate_size=24, head_dim=8, **_FEW),
    "gpt_oss": _config(
        "GptOss", num_local_experts=4, head_dim=8, layer_types=["sliding_attention", "full_attention"], **_FEW
    ),
    "deepseek_v3": _config(
        "DeepseekV3", n_routed_experts=4, n_shared_experts=1, moe_intermediate_size=24, n_group=2, topk_group=1,
        first_k_dense_replace=1, **_LATENT_ATTENTION, **_FEW,
    ),
    "llama4_text": _config(
        "Llama4Text", num_local_experts=4, num_experts_per_tok=1, head_dim=8, intermediate_size_mlp=48,
        interleave_moe_layer_step=2, attention_chunk_size=32,
    ),
    "jetmoe": _config("JetMoe", num_local_experts=4, kv_channels=8, **_FEW),
}  # fmt: skip
MAMBA = {
    "mamba": _config("Mamba", state_size=8),
    "mamba2": _config("Mamba2", state_size=8, num_heads=4, head_dim=16, n_groups=1, chunk_size=16),
    "falcon_h1": _config(
        "FalconH1", head_dim=8, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8, mamba_chunk_size=16
    ),
}
OTHERS = {
    "falcon": hf.FalconConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=4),
    "recurrent_gemma": _config("RecurrentGemma", head_dim=8, lru_width=32, num_hidden_layers=3),
}
CONFIGS: dict[str, Any] = MIXTURES | MAMBA | OTHERS


def make(name: str, *, seed: int = 0) -> Any:
    """A model of an architecture in float32, with weights that are large enough to matter."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[name]), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, 0.1)
    return model.eval()


def make_empty(name: str) -> Any:
    """The same on the meta device."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[name]))
