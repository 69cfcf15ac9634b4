"""Scores of tokens compared with plain log-softmax, for all kinds of heads, without storing all logits."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from textgen.model.kernels import logits as logits_module
from textgen.model.layers import compile_blocks
from textgen.model.token_scores import score_hidden, score_tokens, scoring_head, without_gradients

ROWS, LENGTH, VOCABULARY = 3, 24, 300


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, VOCABULARY, (ROWS, LENGTH), generator=generator)
    positions = torch.tensor([(row, column) for row in range(ROWS) for column in range(4 * row, LENGTH)])
    targets = torch.randint(0, VOCABULARY, (len(positions),), generator=generator)
    return ids, positions, targets


def with_likely_targets(logits, positions, targets):
    """The targets, with every third replaced by the most likely token and every third by the third most likely."""
    ranked = logits[positions[:, 0], positions[:, 1]].float().argsort(dim=-1, descending=True)
    targets = targets.clone()
    targets[::3], targets[1::3] = ranked[::3, 0], ranked[1::3, 2]
    return targets


def by_definition(logits, positions, targets):
    chosen = logits[positions[:, 0], positions[:, 1]].float()
    probabilities = chosen.softmax(-1)
    ranked = chosen.argsort(dim=-1, descending=True)
    return {
        "nll": -chosen.log_softmax(-1)[torch.arange(len(targets)), targets],
        "likeliest": ranked[:, 0],
        "confidence": probabilities.max(-1).values,
        "among_top": (ranked[:, :5] == targets[:, None]).any(-1),
    }


def assert_same(scores, expected):
    assert torch.equal(scores.likeliest, expected["likeliest"])
    assert torch.equal(scores.among_top, expected["among_top"])
    assert 0 < scores.among_top.sum() < len(scores.among_top)
    torch.testing.assert_close(scores.nll, expected["nll"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(scores.confidence, expected["confidence"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["tiny_gpt2", "tiny_llama"])
@pytest.mark.parametrize("chunk", [1, 7, 10**6])
def test_scores_are_those_of_the_full_logits(name, chunk, batch, request, monkeypatch):
    ids, positions, targets = batch
    model = request.getfixturevalue(name)(3, initializer_range=0.4).eval()
    monkeypatch.setattr(logits_module, "MAX_CHUNK_BYTES", 4 * VOCABULARY * chunk)
    with torch.no_grad():
        logits = model(ids).logits
        targets = with_likely_targets(logits, positions, targets)
        expected = by_definition(logits, positions, targets)
        head = scoring_head(model)
        assert head is model.get_output_embeddings()
        for separate in (head, None):  # the head separately, or the whole model
            assert_same(score_tokens(model, separate, ids, None, positions, targets), expected)


def test_a_head_with_a_bias_and_one_in_bfloat16(batch):
    _, positions, targets = batch
    hidden = torch.randn(len(targets), 16, generator=torch.Generator().manual_seed(0))
    head = torch.nn.Linear(16, VOCABULARY)
    torch.nn.init.normal_(head.bias)
    everything = torch.stack([torch.zeros_like(positions[:, 1]), torch.arange(len(targets))], 1)
    with torch.no_grad():
        targets = with_likely_targets(head(hidden)[None], everything, targets)
        assert_same(score_hidden(hidden, head, targets), by_definition(head(hidden)[None], everything, targets))
        low = copy.deepcopy(head).bfloat16()
        product = hidden.bfloat16() @ low.weight.t()
        logits = product.float() + low.bias.float()  # the bias is added in float32
        assert_same(score_hidden(hidden.bfloat16(), low, targets), by_definition(logits[None], everything, targets))


def test_a_vocabulary_of_fewer_than_five_tokens():
    head = torch.nn.Linear(2, 3)
    with torch.no_grad():
        scores = score_hidden(torch.randn(4, 2), head, torch.tensor([0, 1, 2, 0]))
    assert scores.among_top.all()


def test_a_model_that_caps_its_logits_is_scored_as_a_whole(tiny_gpt2, batch):
    ids, positions, targets = batch
    model = tiny_gpt2(3, initializer_range=0.4).eval()
    plain = model.forward
    model.forward = lambda **kwargs: capped(plain(**kwargs))

    def capped(output):
        output.logits = 5 * torch.tanh(output.logits / 5)
        return output

    assert scoring_head(model) is None
    with torch.no_grad():
        logits = model(input_ids=ids).logits
        targets = with_likely_targets(logits, positions, targets)
        expected = by_definition(logits, positions, targets)
        assert_same(score_tokens(model, None, ids, None, positions, targets), expected)


def test_the_logits_of_all_tokens_are_never_stored(tiny_gpt2, batch, monkeypatch):
    ids, positions, targets = batch
    model = tiny_gpt2(0).eval()
    chunk = 5
    monkeypatch.setattr(logits_module, "MAX_CHUNK_BYTES", 4 * VOCABULARY * chunk)
    largest = []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            outputs = result if isinstance(result, tuple | list) else [result]
            created = [t for t in outputs if torch.is_tensor(t) and t.data_ptr() != model.lm_head.weight.data_ptr()]
            largest.extend(t.numel() for t in created if VOCABULARY in t.shape[-1:])
            return result

    head = scoring_head(model)
    with torch.no_grad(), Watching():
        score_tokens(model, head, ids, None, positions, targets)
    assert 0 < max(largest) <= chunk * VOCABULARY
    largest.clear()
    with torch.no_grad(), Watching():
        score_tokens(model, None, ids, None, positions, targets)
    assert max(largest) == ROWS * LENGTH * VOCABULARY  # so this test can fail


def test_inference_mode_is_used_unless_the_model_keeps_tensors(tiny_gpt2, tiny_llama):
    with without_gradients(tiny_gpt2()):
        assert torch.is_inference_mode_enabled()
    compiled = tiny_llama()
    compile_blocks(compiled)
    quantized = tiny_llama()
    quantized.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(
        torch.zeros(4, dtype=torch.int8), requires_grad=False
    )
    for model in (compiled, quantized):
        with without_gradients(model):
            assert not torch.is_inference_mode_enabled()
            assert not torch.is_grad_enabled()
