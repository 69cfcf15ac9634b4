"""The probe: which models predict each token from those before it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from families import FAMILIES, VOCABULARY, tiny_model
from transformers import AutoModelForCausalLM, ReformerConfig

from textgen.errors import UserError
from textgen.model.probe import check_causal, check_trains, probe_texts, relative_difference, rounding


def check(model: Any, context: int = 64, vocabulary: int = VOCABULARY) -> None:
    check_causal(model, "--model here", context=context, vocabulary=vocabulary)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_causal_family_passes(family: str) -> None:
    model = tiny_model(family)
    check(model)
    check_trains(model, "--model here")


def test_a_model_that_reads_one_length_only_in_training_is_refused() -> None:
    torch.manual_seed(0)
    config = ReformerConfig(
        vocab_size=VOCABULARY, is_decoder=True, attn_layers=["local"], hidden_size=32, num_attention_heads=2,
        attention_head_size=16, feed_forward_size=32, axial_pos_embds=True, axial_pos_shape=(4, 8),
        axial_pos_embds_dim=(16, 16), max_position_embeddings=32, local_attn_chunk_length=8,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    check(model, context=32)
    message = (
        r"^--model here: ReformerModelWithLMHead cannot be trained on texts of any length \(ValueError: If training"
    )
    with pytest.raises(UserError, match=message):
        check_trains(model, "--model here")
    assert not any(module.training for module in model.modules())


def test_the_training_check_leaves_random_numbers_as_they_were(tiny_gpt2: Callable[..., Any]) -> None:
    model = tiny_gpt2(resid_pdrop=0.5)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    check_trains(model, "--model here")
    assert torch.equal(torch.rand(3), expected)


BIDIRECTIONAL: list[tuple[str, dict[str, object]]] = [
    ("bert", {}),
    ("roberta", {"is_decoder": False}),
    ("electra", {}),
    ("rembert", {"output_embedding_size": 32}),
    ("roformer", {}),
    ("xlnet", {"attn_type": "bi"}),
]


@pytest.mark.parametrize(("family", "settings"), BIDIRECTIONAL)
def test_models_that_see_later_tokens_are_refused_by_numbers(family: str, settings: dict[str, object]) -> None:
    with pytest.raises(UserError, match="later tokens change the logits of earlier ones, by up to ") as caught:
        check(tiny_model(family, **settings))
    message = str(caught.value)
    assert message.startswith("--model here: ")
    assert " is not a causal language model: " in message
    assert message.endswith("Use a decoder-only model, such as GPT-2, Llama or Qwen.")


@pytest.mark.parametrize("family", ["bert", "electra", "roformer"])
def test_the_same_models_as_decoders_pass(family: str) -> None:
    check(tiny_model(family, is_decoder=True))


@pytest.mark.parametrize("context", [2, 5, 64])
def test_it_reads_no_more_than_the_context_and_leaves_the_mode(tiny_gpt2: Callable[..., Any], context: int) -> None:
    model = tiny_gpt2(n_positions=context, vocab_size=VOCABULARY, resid_pdrop=0.5).train()
    check(model, context)
    assert model.training


def test_nothing_can_be_compared_in_one_token_or_with_one_id(tiny_gpt2: Callable[..., Any]) -> None:
    check(tiny_gpt2(n_positions=1), context=1)
    check(tiny_gpt2(vocab_size=1), vocabulary=1)
    check(tiny_gpt2(vocab_size=2), vocabulary=2)


def test_a_small_leak_is_more_than_rounding(tiny_gpt2: Callable[..., Any]) -> None:
    model = tiny_gpt2(vocab_size=VOCABULARY).eval()

    def leak(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output + 0.01 * output.std() * (output.mean(dim=1, keepdim=True) - output).sign()

    check(model)
    model.transformer.h[0].mlp.register_forward_hook(leak)
    with pytest.raises(UserError, match="later tokens change the logits"):
        check(model)


def test_bfloat16_and_quantized_weights_pass(tiny_llama: Callable[..., Any]) -> None:
    model = tiny_llama(vocab_size=VOCABULARY).eval().bfloat16()
    check(model)
    assert rounding(model) == 2**-3.5
    assert rounding(tiny_llama()) == 2**-11.5
    model = tiny_llama()
    model.lm_head.weight = torch.nn.Parameter(torch.zeros(4, 4, dtype=torch.uint8), requires_grad=False)
    assert rounding(model) == 2**-3.5


def test_weights_that_are_not_finite_are_not_called_bidirectional(tiny_llama: Callable[..., Any]) -> None:
    model = tiny_llama(vocab_size=VOCABULARY).eval()
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    check(model)


def test_models_that_cannot_read_tokens_alone_are_refused() -> None:
    class Vision(torch.nn.Linear):
        def forward(self, input_ids: Any = None, use_cache: bool = False, pixel_values: Any = None) -> Any:
            raise ValueError("You have to specify pixel_values\nand more")

    with pytest.raises(
        UserError, match=r"Vision is not .* tokens alone \(ValueError: You have to specify pixel_values\)"
    ):
        check(Vision(2, 2))


def test_models_with_logits_of_another_shape_are_refused() -> None:
    class Classifier(torch.nn.Linear):
        def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> Any:
            return type("Output", (), {"logits": torch.zeros(len(input_ids), 5)})

    with pytest.raises(UserError, match=r"for \(2, 8\) tokens it has logits of shape \(2, 5\)"):
        check(Classifier(2, 2))


@pytest.mark.parametrize("vocabulary", [2, 3, 60])
def test_the_texts_differ_in_every_token_of_their_second_half(vocabulary: int) -> None:
    one, two = probe_texts(10, 4, vocabulary)
    assert (one == two).tolist() == [True] * 4 + [False] * 6
    assert set(one.tolist()) | set(two.tolist()) <= set(range(vocabulary))


def test_differences_are_relative_to_the_spread_of_the_logits() -> None:
    logits = torch.tensor([1.0, 3.0, 5.0])  # standard deviation 2
    assert relative_difference(logits + torch.tensor([0.0, 0.5, 0.0]), logits) == 0.25
    assert relative_difference(torch.ones(3), torch.ones(3)) == 0
