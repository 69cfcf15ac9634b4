"""The synthetic source: its entropy and nll are right, and its documents are data like any other."""

import itertools
import math

import numpy as np
import pytest

from textgen.data.config import DataConfig
from textgen.data.corpus import load_corpus, load_held_out
from textgen.data.document import Document
from textgen.data.sources import find_data, find_sources, read_documents
from textgen.data.sources.markov import SYMBOLS, MarkovSource
from textgen.errors import UserError

SMALL = "markov:seed=1,states=5,documents=40,length=60"


@pytest.mark.parametrize(("states", "order"), [(2, 1), (3, 1), (3, 2), (2, 3)])
def test_the_probabilities_of_all_texts_of_one_length_sum_to_one(states, order):
    source = MarkovSource(4, states=states, order=order)
    for length in (1, 2, 5):
        texts = map("".join, itertools.product(SYMBOLS[:states], repeat=length))
        assert math.fsum(math.exp(-source.nll(text)) for text in texts) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("states", "order"), [(2, 1), (3, 2)])
def test_the_expected_nll_is_the_entropy_of_all_texts_of_that_length(states, order):
    source = MarkovSource(7, states=states, order=order)
    for length in (order, 6):
        nlls = [source.nll("".join(text)) for text in itertools.product(SYMBOLS[:states], repeat=length)]
        assert source.expected_nll(length) == pytest.approx(math.fsum(math.exp(-nll) * nll for nll in nlls), rel=1e-12)


def test_the_entropy_rate_of_two_states_is_the_textbook_one():
    source = MarkovSource(2, states=2)
    leave, enter = source.transitions[0, 1], source.transitions[1, 0]
    binary = [-(p * math.log2(p) + (1 - p) * math.log2(1 - p)) for p in (leave, enter)]
    by_hand = (enter * binary[0] + leave * binary[1]) / (leave + enter)  # Cover & Thomas 2006, example 4.2.1
    assert source.entropy_rate == pytest.approx(by_hand, rel=1e-12)


def test_a_text_with_another_character_is_impossible():
    source = MarkovSource(1, states=3)
    assert source.nll("ab ab") < math.inf
    assert source.nll("abc") == source.nll("zzz") == math.inf


@pytest.mark.parametrize("order", [1, 2])
def test_documents_follow_the_chain(order):
    source = MarkovSource(3, states=3, order=order, documents=300, length=200)
    seen = np.zeros_like(source.transitions)
    firsts = np.zeros(len(source.stationary))
    for text in source.texts():
        digits = [SYMBOLS.index(character) for character in text]
        contexts = [int(np.polyval(digits[i : i + order], 3)) for i in range(len(digits) - order + 1)]
        firsts[contexts[0]] += 1
        np.add.at(seen, (contexts[:-1], digits[order:]), 1)
    error = np.sqrt(source.transitions * (1 - source.transitions) / seen.sum(axis=1, keepdims=True))
    assert (np.abs(seen / seen.sum(axis=1, keepdims=True) - source.transitions) < 4.5 * error).all()
    error = np.sqrt(source.stationary * (1 - source.stationary) / firsts.sum())
    assert (np.abs(firsts / firsts.sum() - source.stationary) < 4.5 * error).all()


def test_lengths_spread_evenly_around_their_mean():
    lengths = [len(text) for text in MarkovSource(1, documents=600, length=40).texts()]
    assert (min(lengths), max(lengths)) == (20, 60)
    assert np.mean(lengths) == pytest.approx(40, abs=4.5 * 41 / math.sqrt(12 * 600))


def test_increasing_the_number_of_documents_only_appends(monkeypatch):
    few, many = (list(MarkovSource(1, documents=count).texts()) for count in (5, 9))
    assert many[:5] == few
    assert len(set(many)) == 9
    monkeypatch.setattr("textgen.data.sources.markov._BATCH_CHARACTERS", 1000)
    assert list(MarkovSource(1, documents=9).texts()) == many


def test_another_seed_gives_another_chain_and_other_documents():
    one, other = MarkovSource(1), MarkovSource(2)
    assert abs(one.entropy_rate - other.entropy_rate) > 0.01
    assert next(one.texts()) != next(other.texts())


def test_it_is_read_split_and_cached_like_any_other_data(tokenizer):
    config = DataConfig(data=SMALL, block_size=16)
    documents = list(read_documents(find_sources(SMALL, config), config))
    assert [document.text for document in documents] == list(MarkovSource.parse(SMALL).texts())
    assert documents[3] == Document(f"{SMALL}#3", SMALL, documents[3].text)
    corpus = load_corpus(config, tokenizer)
    assert list(corpus.validation) == list(load_held_out(config))
    assert len(corpus.validation) == 4
    assert len(corpus.offsets) == 40 - len(corpus.validation)


def test_sources_have_the_same_fingerprint_only_if_they_are_equal():
    names = ["markov:seed=1,documents=20", "markov:seed=1,documents=21", "markov:seed=2,documents=20"]
    prints = [find_data(DataConfig(data=name)).fingerprint for name in (*names, names[0])]
    assert len(set(prints)) == 3
    assert prints[0] == prints[3]


def test_omitted_parameters_have_their_defaults():
    assert MarkovSource.parse("markov") == MarkovSource()
    assert MarkovSource.parse("markov:seed=1, order=2") == MarkovSource(seed=1, order=2)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("markov:sed=1", "unknown parameter 'sed' of markov; did you mean seed?"),
        ("markov:color=1", "choose from seed, states, order, documents, length."),
        ("markov:states=99", "states must be from 2 to 27, not 99."),
        ("markov:documents=1", "documents must be from 2 to 1000000, not 1."),
        ("markov:seed=-1", "seed must be a whole number, such as seed=0."),
        ("markov:seed", "seed must be a whole number"),
        ("markov:seed=1,seed=2", "seed is specified twice."),
    ],
)
def test_an_invalid_description_is_named_with_a_remedy(data, expected):
    with pytest.raises(UserError) as caught:
        find_sources(data, DataConfig(), setting="--validation-data")
    assert str(caught.value).startswith(f"--validation-data {data}: ")
    assert expected in str(caught.value)


def test_all_problems_are_reported_at_once():
    with pytest.raises(UserError) as caught:
        find_sources("markov:order=9,states=1,length=x", DataConfig())
    assert len(caught.value.problems) == 3
