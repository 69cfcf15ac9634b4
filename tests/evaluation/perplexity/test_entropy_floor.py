"""The harness against a truth that is known: a model that is the source itself, and models that are not."""

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
from textgen.data.markov import SYMBOLS, MarkovSource
from textgen.evaluation.config import EvaluationConfig
from textgen.evaluation.measure_model import measure
from textgen.evaluation.perplexity.entropy_floor import floor_figures
from textgen.evaluation.perplexity.summary import DocumentScore, score_documents

PREFIX = "<s>"


class ChainModel(torch.nn.Module):
    """A language model over single characters whose predictions are the chain's; token 0 begins a text."""

    def __init__(self, source: MarkovSource) -> None:
        super().__init__()
        self.states, self.order = source.states, source.order
        # Before a whole context is there, what counts is how often each beginning of one begins a text.
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


# With one character of context, the harness's windows may be shorter than a document: they hand one token over.
@pytest.mark.parametrize(("order", "context"), [(1, 128), (1, 16), (2, 128)])
def test_a_model_that_is_the_chain_scores_what_the_chain_says(accelerator, order, context):
    description = f"markov:seed=5,states=6,order={order},documents=30,length=60"
    source, documents = MarkovSource.parse(description), documents_of(description)
    tokenizer = character_tokenizer(source)
    scores = score_documents(
        accelerator, ChainModel(source), tokenizer, documents, convention="rolling", context=context
    )
    assert [score.tokens for score in scores] == [len(document.text) for document in documents]
    for score, document in zip(scores, documents, strict=True):
        assert score.nll == pytest.approx(source.nll(document.text), rel=1e-6)
    figures = floor_figures(documents, scores, convention="rolling", seed=0)
    assert figures["excess_bits_per_byte"] == pytest.approx(0, abs=1e-6)
    assert figures["excess_bits_per_byte_interval"] == pytest.approx([0, 0], abs=1e-6)
    assert figures["source"]["token_perplexity"] == pytest.approx(2 ** figures["source"]["bits_per_byte"], rel=1e-12)


def test_the_entropy_of_the_source_lies_in_the_interval_of_its_documents():
    within = {"entropy_rate": 0, "expected_bits_per_byte": 0}
    for seed in range(40):
        description = f"markov:seed={seed},documents=30"
        documents = documents_of(description)
        figures = floor_figures(documents, uniform_scores(documents), convention="rolling", seed=0)["source"]
        low, high = figures["bits_per_byte_interval"]
        assert high - low < 0.08
        assert figures["entropy_rate"] == MarkovSource(seed).entropy_rate
        assert figures["name"] == description
        for name in within:
            within[name] += low <= figures[name] <= high
    assert all(times >= 34 for times in within.values()), within  # 38 are to be expected; fewer than 34 once in 80


def uniform_scores(documents: list[Document]) -> list[DocumentScore]:
    return [DocumentScore(d.id, len(d.text) * math.log(16), len(d.text), d.words, d.bytes) for d in documents]


def test_the_excess_of_a_model_that_knows_nothing_is_what_there_is_to_know():
    documents = documents_of("markov:seed=1,documents=100")
    figures = floor_figures(documents, uniform_scores(documents), convention="rolling", seed=0)
    to_know = math.log2(16) - MarkovSource(1).entropy_rate
    low, high = figures["excess_bits_per_byte_interval"]
    assert low <= to_know <= high
    assert figures["excess_bits_per_byte"] == pytest.approx(4 - figures["source"]["bits_per_byte"], rel=1e-12)


def test_there_is_no_floor_where_the_source_is_not_known():
    known = documents_of("markov:seed=1,documents=4")
    assert floor_figures(known, uniform_scores(known), convention="rolling", seed=0)
    assert floor_figures(known, uniform_scores(known), convention="strided", seed=0) == {}
    for other in ([Document("a#0", "a", "aa")], [*known, Document("a#0", "a", "aa")]):
        assert floor_figures(other, uniform_scores(other), convention="rolling", seed=0) == {}


def test_a_measurement_holds_the_floor(accelerator, tokenizer, tiny_gpt2):
    documents = documents_of("markov:seed=1,documents=6,length=40")
    config = EvaluationConfig(skip_decoding=True)
    model = tiny_gpt2()
    measured = measure(accelerator, model, tokenizer, documents, [], config, context=64, seed=0, name="tiny")
    figures = measured.perplexity
    assert figures["excess_bits_per_byte"] == pytest.approx(
        figures["bits_per_byte"] - figures["source"]["bits_per_byte"], rel=1e-12
    )
    assert figures["source"]["tokens"] == figures["tokens"]
    assert figures["excess_bits_per_byte_interval"][0] > 0, "random weights know less than the source"
