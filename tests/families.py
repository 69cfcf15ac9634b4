"""Tiny random models of many families, from transformers' own configurations: what tests of "any model" run on."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM

VOCABULARY = 60

# Sizes by the names that configurations have for them; a family gets those that it knows.
_SIZES = {
    "vocab_size": VOCABULARY,
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "lru_width", "emb_dim", "embedding_size"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "n_inner", "d_inner"), 48),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "decoder_layers", "encoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "context_length"), 64),
    **dict.fromkeys(
        ("state_size", "mamba_d_state", "ssm_state_size", "mamba_head_dim", "mamba_headdim", "head_dim"), 8
    ),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads", "mamba_d_head", "kv_channels"), 8),
    **dict.fromkeys(("n_groups", "mamba_n_groups", "n_group", "topk_group"), 1),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size", "time_step_rank", "mamba_dt_rank"), 4),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_key_value_heads", "linear_num_key_heads"), 2),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "linear_key_head_dim"), 8),
    **dict.fromkeys(("linear_value_head_dim", "attention_window_size"), 8),
    "linear_num_value_heads": 4,
    "sliding_window": 6,
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0),
}
_MIXED = {"layer_types": ["linear_attention", "full_attention"]}
_ZAMBA = {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2, "attention_head_dim": 16}
_ZAMBA |= {"attention_hidden_size": 64, "num_key_value_heads": 4}

# Family → what its configuration needs besides the sizes.
FAMILIES: dict[str, dict[str, object]] = {
    # attention only
    "gpt2": {},
    "bloom": {},
    "gpt_neox": {},
    "llama": {},
    "mistral": {},
    "gemma2": {},
    "mixtral": {},
    "deepseek_v3": {"num_key_value_heads": 4},
    "mpt": {},
    "opt": {"word_embed_proj_dim": 16, "do_layer_norm_before": False},  # as in OPT-350m
    "bart": {"is_decoder": True, "is_encoder_decoder": False},
    "roberta": {"is_decoder": True, "pad_token_id": 1, "max_position_embeddings": 66, "type_vocab_size": 1},
    "xlnet": {"attn_type": "uni", "d_inner": 48},
    "openai-gpt": {},
    # state spaces and recurrent layers
    "mamba": {},
    "mamba2": {"num_heads": 8},
    "falcon_mamba": {},
    "rwkv": {"attention_hidden_size": 32},
    "xlstm": {"num_heads": 2, "qk_dim_factor": 0.5, "v_dim_factor": 1.0},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    # both
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    "falcon_h1": {"mamba_d_ssm": 64},
    "bamba": {"attn_layer_indices": [1], "mamba_d_head": 8},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "nemotron_h": {"hybrid_override_pattern": "M*-"},
    "zamba": _ZAMBA | {"n_mamba_heads": 2},
    "zamba2": _ZAMBA | {"hybrid_layer_ids": [1, 3], "num_query_groups": 4},
    "qwen3_next": _MIXED,
    "olmo_hybrid": _MIXED,
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "minimax": _MIXED,
}


def tiny_config(family: str, **other: object) -> object:
    """A configuration of the family with tiny sizes."""
    config_class = type(AutoConfig.for_model(family))
    known = config_class().to_dict()
    sizes = {name: size for name, size in _SIZES.items() if name in known}
    if known.get("head_dim", 0) is None:  # it follows from the other sizes
        del sizes["head_dim"]
    return config_class(**(sizes | FAMILIES.get(family, {}) | other))


def tiny_model(family: str, seed: int = 0, **other: object) -> torch.nn.Module:
    """A random model of the family in evaluation mode, with clear preferences among tokens."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(tiny_config(family, **other), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, 0.2)
    return model.eval()
