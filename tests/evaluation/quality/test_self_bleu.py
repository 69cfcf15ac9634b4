"""Self-BLEU against nltk and sacrebleu, which score each text against all the others one by one."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from sacrebleu import BLEU

from textgen.evaluation.quality.self_bleu import self_bleu_scores

texts_of_few_words = st.lists(st.lists(st.sampled_from(["a", "b", "c"]), max_size=9).map(" ".join), max_size=6)


def nltk_self_bleu(texts: list[str], n: int) -> list[float]:
    words = [text.split() for text in texts]
    smoothing = SmoothingFunction().method1
    weights = (1 / n,) * n
    return [
        sentence_bleu(words[:i] + words[i + 1 :], words[i], weights=weights, smoothing_function=smoothing)
        for i in range(len(words))
    ]


@given(texts_of_few_words.filter(lambda texts: len(texts) >= 2), st.integers(1, 5))
def test_scores_agree_with_nltk(texts, n):
    assert self_bleu_scores(texts, n) == pytest.approx(nltk_self_bleu(texts, n), rel=1e-12)


def test_scores_agree_with_nltk_and_sacrebleu_on_longer_texts_of_different_length(random_texts):
    texts = [text for words in (5, 17, 18, 40) for text in random_texts(4, words, 12, seed=words)]
    scores = self_bleu_scores(texts, 4)
    expected = nltk_self_bleu(texts, 4)
    assert scores == pytest.approx(expected, rel=1e-12)
    assert scores.mean() == pytest.approx(math.fsum(expected) / len(expected), rel=1e-12)
    sacrebleu = BLEU(tokenize="none", smooth_method="floor", smooth_value=0.1)
    others = [texts[:i] + texts[i + 1 :] for i in range(len(texts))]
    theirs = [sacrebleu.sentence_score(text, rest).score / 100 for text, rest in zip(texts, others, strict=True)]
    assert scores == pytest.approx(theirs, rel=1e-12)


def test_copies_score_one_and_texts_without_a_common_word_zero():
    assert self_bleu_scores(["c d e f g h"] * 3, 4) == pytest.approx(1)
    assert self_bleu_scores(["a b c d", "e f g h"], 4).tolist() == [0, 0]
    assert self_bleu_scores(["a b c d"], 4).tolist() == [0]
