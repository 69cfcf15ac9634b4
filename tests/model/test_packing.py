"""Documents in one row do not see each other if their positions start again, or the model is refused."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, GPTNeoXConfig, MambaConfig

from textgen.data.token_stream import IGNORED
from textgen.errors import UserError
from textgen.model.loss import ModelWithLoss
from textgen.model.packing import check_isolation, isolates_documents

SIZES: dict[str, Any] = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2}


def random_model(config: Any) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, 0.2)
    return model


def test_positions_that_start_again_keep_documents_apart(tiny_gpt2, tiny_llama):
    neox = random_model(GPTNeoXConfig(**SIZES, num_attention_heads=2, intermediate_size=64))
    for model in (tiny_gpt2(), tiny_llama(), neox):
        assert isolates_documents(model)
        check_isolation(model, "this model")


@pytest.mark.parametrize(
    "config",
    [
        MambaConfig(**SIZES, state_size=4, time_step_rank=4),
        BloomConfig(vocab_size=300, hidden_size=32, n_layer=2, n_head=2),  # has no position_ids
    ],
    ids=["mamba", "bloom"],
)
def test_a_model_that_ignores_positions_is_a_user_error(config):
    with pytest.raises(UserError, match="--packing isolated: tiny does not keep documents in one row apart"):
        check_isolation(random_model(config), "tiny")


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_loss_and_gradients_are_those_of_one_document_at_a_time(request, family):
    generator = torch.Generator().manual_seed(1)
    documents = [torch.randint(300, (1, length), generator=generator) for length in (9, 4, 17)]
    model = request.getfixturevalue(family)()
    with_loss = ModelWithLoss(model)

    expected = sum(with_loss(ids, ids.clone()) for ids in documents)
    expected.backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()

    labels = torch.cat(documents, dim=1)
    ids = labels.clone()
    for start in (9, 13):
        labels[0, start] = IGNORED  # the first token of a document is predicted by none
    positions = torch.cat([torch.arange(document.shape[1]) for document in documents])[None]
    nll = with_loss(ids, labels, positions)
    nll.backward()
    assert nll.item() == pytest.approx(expected.item(), rel=1e-6)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-5)


def test_without_positions_documents_see_each_other(tiny_gpt2):
    with_loss = ModelWithLoss(tiny_gpt2())
    ids = torch.randint(300, (1, 12), generator=torch.Generator().manual_seed(0))
    positions = torch.cat([torch.arange(5), torch.arange(7)])[None]
    assert with_loss(ids, ids.clone(), positions).item() != pytest.approx(with_loss(ids, ids.clone()).item(), rel=1e-4)
