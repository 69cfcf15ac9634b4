"""Scoring against a known truth: a model that equals the source, and models that do not."""

import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from textgen.data.document import Document
from textgen.data.sources.markov import SYMBOLS, MarkovSource
from textgen.evaluation.config import EvaluationConfig
from textgen.evaluation.draw_documents import draw_documents
from textgen.evaluation.loaded_model import LoadedModel
from textgen.evaluation.measure_model import Evaluation
from textgen.evaluation.perplexity.document_sums import DocumentScore
from textgen.evaluation.perplexity.entropy_floor import floor_metrics
from textgen.evaluation.perplexity.windows import WindowSettings

PREFIX = "<s>"
ROLLING = WindowSettings("rolling", 64)
STRIDED = WindowSettings("strided", 64, 32)


class ChainModel(torch.nn.Module):
    """A language model over single characters that predicts exactly like the chain; token 0 starts a text."""

    def __init__(self, source: MarkovSource) -> None:
        super().__init__()
        self.states, self.order = source.states, source.order
        # Before a whole context has been read, the predictions follow from how often texts begin with each prefix.
        beginnings = [source.stationary.reshape(self.states**known, -1).sum(axis=1) for known in range(self.order + 1)]
        tables = [later.reshape(-1, self.states) / earlier[:, None] for earlier, later in pairwise(beginnings)]
        for known, table in enumerate([*tables, source.transitions]):
            self.register_buffer(f"table_{known}", torch.from_numpy(np.log(table)))

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        """Logits [rows, length, 1 + states]; the prefix is never predicted."""
        logits = torch.full((*input_ids.shape, 1 + self.states), -torch.inf)
        for row, ids in enumerate(input_ids.tolist()):
            for position in range(len(ids)):
                context = [token - 1 for token in ids[: position + 1] if token > 0][-self.order :]
                number = int(np.polyval(context, self.states)) if context else 0
                logits[row, position, 1:] = getattr(self, f"table_{len(context)}")[number]
        return SimpleNamespace(logits=logits)


def character_tokenizer(source: MarkovSource) -> PreTrainedTokenizerFast:
    vocabulary = {PREFIX: 0} | {symbol: 1 + n for n, symbol in enumerate(SYMBOLS[: source.states])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=PREFIX))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=PREFIX)


def documents_of(description: str) -> list[Document]:
    texts = MarkovSource.parse(description).texts()
    return [Document(f"{description}#{number}", description, text) for number, text in enumerate(texts)]


# With order 1, windows may be shorter than a document, since each shares one token with the next.
@pytest.mark.parametrize(("order", "context"), [(1, 128), (1, 16), (2, 128)])
def test_a_model_that_equals_the_chain_scores_like_the_chain(score, order, context):
    description = f"markov:seed=5,states=6,order={order},documents=30,length=60"
    source, documents = MarkovSource.parse(description), documents_of(description)
    tokenizer = character_tokenizer(source)
    scores = score(ChainModel(source), context=context, documents=documents, tokenizer=tokenizer)
    assert [one.tokens for one in scores] == [len(document.text) for document in documents]
    for one, document in zip(scores, documents, strict=True):
        assert one.nll == pytest.approx(source.nll(document.text), rel=1e-6)
    figures = floor_metrics(documents, scores, ROLLING, seed=0)
    assert figures["excess_bits_per_byte"] == pytest.approx(0, abs=1e-6)
    assert figures["excess_bits_per_byte_interval"] == pytest.approx([0, 0], abs=1e-6)
    assert figures["source"]["token_perplexity"] == pytest.approx(2 ** figures["source"]["bits_per_byte"], rel=1e-12)


def test_the_interval_of_the_source_contains_its_entropy():
    within = {"entropy_rate": 0, "expected_bits_per_byte": 0}
    for seed in range(40):
        description = f"markov:seed={seed},documents=30"
        documents = documents_of(description)
        figures = floor_metrics(documents, uniform_scores(documents), ROLLING, seed=0)["source"]
        low, high = figures["bits_per_byte_interval"]
        assert high - low < 0.08
        assert figures["entropy_rate"] == MarkovSource(seed).entropy_rate
        assert figures["name"] == description
        for name in within:
            within[name] += low <= figures[name] <= high
    assert all(times >= 34 for times in within.values()), within  # 38 expected; fewer than 34 has probability 1/80


def uniform_scores(documents: list[Document]) -> list[DocumentScore]:
    return [DocumentScore(d.id, len(d.text) * math.log(16), len(d.text), d.words, d.bytes) for d in documents]


def test_the_excess_of_a_uniform_model_is_log2_of_the_states_minus_the_entropy():
    documents = documents_of("markov:seed=1,documents=100")
    figures = floor_metrics(documents, uniform_scores(documents), ROLLING, seed=0)
    expected = math.log2(16) - MarkovSource(1).entropy_rate
    low, high = figures["excess_bits_per_byte_interval"]
    assert low <= expected <= high
    assert figures["excess_bits_per_byte"] == pytest.approx(4 - figures["source"]["bits_per_byte"], rel=1e-12)


def test_there_is_no_floor_for_strided_or_other_sources():
    known = documents_of("markov:seed=1,documents=4")
    assert floor_metrics(known, uniform_scores(known), ROLLING, seed=0)
    assert floor_metrics(known, uniform_scores(known), STRIDED, seed=0) == {}
    for other in ([Document("a#0", "a", "aa")], [*known, Document("a#0", "a", "aa")]):
        assert floor_metrics(other, uniform_scores(other), ROLLING, seed=0) == {}


def test_a_measurement_contains_the_floor(accelerator, tokenizer, tiny_gpt2):
    documents = documents_of("markov:seed=1,documents=6,length=40")
    config = EvaluationConfig(skip_decoding=True)
    loaded = LoadedModel(accelerator, tiny_gpt2(), tokenizer, 64, "tiny")
    figures = Evaluation(config, draw_documents(documents), seed=0).measure(loaded).perplexity
    assert figures["excess_bits_per_byte"] == pytest.approx(
        figures["bits_per_byte"] - figures["source"]["bits_per_byte"], rel=1e-12
    )
    assert figures["source"]["tokens"] == figures["tokens"]
    assert figures["excess_bits_per_byte_interval"][0] > 0, "random weights predict worse than the source"
