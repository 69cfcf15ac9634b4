"""What a configuration alone says: causal or not, the context, the rows of the embedding."""

import json
from pathlib import Path
from typing import Any

import pytest
from families import FAMILIES, tiny_config
from transformers import AutoConfig, GPT2Config, LlamaConfig

from textgen.errors import UserError
from textgen.model.architecture import build_skeleton, check_vocabulary, context_length
from textgen.model.config import ModelConfig
from textgen.model.locate import find_model, locate, model_config


def skeleton(config: Any, **options: bool) -> Any:
    return build_skeleton(config, "--model here", **options)


def refusal(config: Any, **options: bool) -> str:
    """The message of the error for a configuration."""
    with pytest.raises(UserError) as caught:
        skeleton(config, **options)
    return str(caught.value)


@pytest.mark.parametrize("family", sorted({*FAMILIES} - {"xlnet"}))  # which allocates its weights in its own way
def test_every_family_has_a_skeleton_without_values(family: str) -> None:
    model = skeleton(tiny_config(family))
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert model.get_input_embeddings().weight.shape[0] == 60


REFUSED = [
    ("t5", "T5ForConditionalGeneration", "T5ForConditionalGeneration is an encoder–decoder, not"),
    ("bart", "BartForConditionalGeneration", "BartForConditionalGeneration is an encoder–decoder, not"),
    ("whisper", "WhisperForConditionalGeneration", "WhisperForConditionalGeneration is an encoder–decoder, not"),
    (
        "gpt2",
        "GPT2ForSequenceClassification",
        "GPT2ForSequenceClassification (it is for sequence classification) is not",
    ),
    ("bert", "BertForTokenClassification", "BertForTokenClassification (it is for token classification) is not"),
    ("vit", "ViTForImageClassification", "ViTForImageClassification (it is for image classification) is not"),
    ("wav2vec2", "Wav2Vec2ForCTC", "Wav2Vec2ForCTC (it is for ctc) is not"),
    ("clip", "CLIPModel", "CLIPModel (it is for zero shot image classification) is not"),
]


@pytest.mark.parametrize(("kind", "architecture", "beginning"), REFUSED)
def test_other_models_are_refused_by_what_they_are(kind: str, architecture: str, beginning: str) -> None:
    message = refusal(AutoConfig.for_model(kind, architectures=[architecture]))
    assert message.startswith(f"--model here: {beginning} a causal language model.")
    assert "from-scratch" not in message
    assert "again" not in message


@pytest.mark.parametrize("kind", ["t5", "bart", "vit"])
def test_random_weights_do_not_make_them_causal(kind: str) -> None:
    assert " a causal language model." in refusal(AutoConfig.for_model(kind), from_scratch=True)


def test_from_scratch_the_task_of_the_saved_weights_does_not_matter() -> None:
    config = tiny_config("gpt2", architectures=["GPT2ForSequenceClassification"])
    assert type(skeleton(config, from_scratch=True)).__name__ == "GPT2LMHeadModel"
    assert type(skeleton(tiny_config("gpt2", architectures=["GPT2Model"]))).__name__ == "GPT2LMHeadModel"


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"num_hidden_layers": "two"}, "Field 'num_hidden_layers' expected int, got str (value: 'two')"),
        ({"num_attention_heads": 5}, "config.json "),
        ({"hidden_act": "nonsense"}, "nonsense"),
        ({"rope_parameters": {"rope_type": "nonsense"}}, "nonsense"),
    ],
)
def test_bad_values_in_config_json_are_refused_and_quoted(
    tmp_path: Path, tokenizer: Any, changes: dict[str, Any], part: str
) -> None:
    content = LlamaConfig(hidden_size=32, num_attention_heads=4, vocab_size=300, num_hidden_layers=1).to_dict()
    (tmp_path / "config.json").write_text(json.dumps(content | changes))
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError) as caught:
        find_model(ModelConfig(model=str(tmp_path)))
    message = str(caught.value)
    assert message.startswith(f"--model {tmp_path}: config.json ")
    assert part in message
    assert "\n" not in message


def test_the_context_length_is_found_under_each_familys_name() -> None:
    assert context_length(GPT2Config(n_positions=77)) == 77
    assert context_length(LlamaConfig(max_position_embeddings=99)) == 99
    assert context_length(AutoConfig.for_model("mpt", max_seq_len=33)) == 33
    assert context_length(AutoConfig.for_model("dbrx", max_seq_len=34)) == 34
    assert context_length(AutoConfig.for_model("bloom", seq_length=35)) == 35
    assert context_length(AutoConfig.for_model("rwkv", context_length=36)) == 36
    assert context_length(AutoConfig.for_model("whisper", max_target_positions=37)) == 37
    gemma = AutoConfig.for_model("gemma3", text_config={"max_position_embeddings": 38})
    assert context_length(gemma) == 38
    assert context_length(AutoConfig.for_model("mamba")) == 2048
    assert context_length(object()) == 2048


def test_positions_counted_from_behind_the_padding_token_shorten_the_context() -> None:
    roberta = tiny_config("roberta", max_position_embeddings=66, pad_token_id=1)
    assert context_length(roberta, skeleton(roberta)) == 64
    bert = tiny_config("bert", max_position_embeddings=66, pad_token_id=1)
    assert context_length(bert, skeleton(bert)) == 66
    gpt2 = tiny_config("gpt2")
    assert context_length(gpt2, skeleton(gpt2)) == 64


@pytest.mark.parametrize("family", ["roberta", "opt", "gpt2", "bart", "mpt"])
def test_the_context_is_as_many_tokens_as_the_model_can_read(family: str) -> None:
    import torch
    from families import tiny_model

    model: Any = tiny_model(family)
    context = context_length(model.config, model)
    assert model(torch.randint(2, 60, (1, context))).logits.shape[1] == context
    if family not in ("bart", "opt"):  # which have spare rows that no configuration counts
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.randint(2, 60, (1, context + 1)))


class _Vocabulary:
    """As much of a tokenizer as the check needs."""

    def __init__(self, vocabulary: dict[str, int]) -> None:
        self.vocabulary = vocabulary

    def get_vocab(self) -> dict[str, int]:
        return self.vocabulary


def test_every_token_needs_a_row() -> None:
    model = skeleton(tiny_config("llama"))
    check_vocabulary(model, _Vocabulary({"a": 0, "z": 59}), "--model here")
    with pytest.raises(UserError, match="and 1 more tokens") as caught:
        check_vocabulary(model, _Vocabulary({"a": 0, "<|last|>": 70, "<|user|>": 60}), "--model here")
    assert str(caught.value) == (
        "--model here: its tokenizer has the token '<|user|>' with id 60 and 1 more tokens, but the embedding has "
        "60 rows (ids 0 to 59). Add rows with model.resize_token_embeddings(71) and save the model, or remove the "
        "token from the tokenizer."
    )
    with pytest.raises(UserError, match=r"Set vocab_size in config\.json to 61, or remove"):
        check_vocabulary(model, _Vocabulary({"<|user|>": 60}), "--model here", from_scratch=True)


def test_the_rows_of_a_model_are_checked_when_it_is_found(tmp_path: Path, tokenizer: Any) -> None:
    tiny_config("llama", vocab_size=299).save_pretrained(tmp_path)  # type: ignore[attr-defined]
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(
        UserError, match=r"--model .*: its tokenizer has the token .* with id 299, but the embedding has 299"
    ):
        find_model(ModelConfig(model=str(tmp_path)))


def test_remote_code_that_needs_weights_has_no_skeleton(tmp_path: Path) -> None:
    config = tiny_config("gpt2", auto_map={"AutoModelForCausalLM": "nowhere.Own"})
    config.save_pretrained(tmp_path)  # type: ignore[attr-defined]
    trusting = model_config(locate(str(tmp_path)), ModelConfig(trust_remote_code=True))
    assert skeleton(trusting, trust_remote_code=True) is None
    assert context_length(trusting, None) == 64
