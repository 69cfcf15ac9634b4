"""Likelihoods of given texts: batches, and log-probabilities against one position at a time."""

import numpy as np
import pytest
import torch

from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.quality.teacher_forcing import Span, score_spans, span_batches


def test_batches_hold_every_span_once_and_at_most_512_positions():
    draw = np.random.default_rng(1)
    spans = [Span([1] * int(p), [2] * int(c)) for p, c in draw.integers([1, 1], [60, 90], size=(300, 2))]
    batches = span_batches(spans, range(300))
    assert sorted(number for batch in batches for number in batch) == list(range(300))
    for batch in batches:
        longest = max(len(spans[n].context_ids) + len(spans[n].target_ids) for n in batch)
        assert len(batch) == 1 or len(batch) * (longest - min(len(spans[n].context_ids) for n in batch)) <= 512
    assert len(batches) <= 41, "spans of similar length share a batch"


@pytest.mark.parametrize("architecture", ["tiny_gpt2", "tiny_llama"])
def test_read_gets_the_model_s_log_probabilities(accelerator, tokenizer, request, architecture):
    model = request.getfixturevalue(architecture)(0).eval()
    spans = [Span([7, 8, 9], [4, 5]), Span([3], []), Span([1, 2], [6, 7, 8, 9])]
    loaded = LoadedModel(accelerator, model, tokenizer, context=64)
    found = score_spans(loaded, spans, lambda p, t: -p.gather(1, t[:, None]), columns=1)
    assert [one.shape for one in found] == [(2, 1), (0, 1), (4, 1)]
    for span, nll in zip(spans, found, strict=True):
        for place, token in enumerate(span.target_ids):
            with torch.no_grad():
                logits = model(torch.tensor([[*span.context_ids, *span.target_ids[:place]]])).logits[0, -1]
            assert nll[place, 0] == pytest.approx(-float(logits.double().log_softmax(-1)[token]), rel=1e-5)
