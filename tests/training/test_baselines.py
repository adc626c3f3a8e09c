from __future__ import annotations

import pytest

from lnmt.errors import LnmtError, UnknownName
from lnmt.training.baselines import BASELINES, Majority, Tfidf, Vader

LABELS = ["negative", "neutral", "positive"]


def test_majority_takes_the_most_frequent_and_of_two_the_first() -> None:
    baseline = Majority(LABELS, 0)
    baseline.fit(["a", "b", "c"], ["positive", "neutral", "positive"])
    assert baseline.predict(["x", "y"]) == ["positive", "positive"]
    baseline.fit(["a", "b"], ["positive", "neutral"])
    assert baseline.predict(["x"]) == ["neutral"]


def test_tfidf_learns_words_and_their_order() -> None:
    texts = ["not good", "good", "bad", "not bad"] * 5
    labels = ["negative", "positive", "negative", "positive"] * 5
    baseline = Tfidf(LABELS, 0)
    baseline.fit(texts, labels)
    assert baseline.predict(["not bad", "good", "bad", "not good"]) == ["positive", "positive", "negative", "negative"]


def test_tfidf_gives_the_same_again() -> None:
    texts, labels = [f"word{index % 7} word{index % 3}" for index in range(40)], [LABELS[i % 3] for i in range(40)]
    guesses = []
    for _ in range(2):
        baseline = Tfidf(LABELS, 3)
        baseline.fit(texts, labels)
        guesses.append(baseline.predict(texts))
    assert guesses[0] == guesses[1]


def test_tfidf_says_what_it_cannot_learn_from() -> None:
    with pytest.raises(LnmtError, match="one label only"):
        Tfidf(LABELS, 0).fit(["good film", "good book"], ["positive", "positive"])
    with pytest.raises(LnmtError, match="no word that two training texts share"):
        Tfidf(LABELS, 0).fit(["alpha", "beta"], ["positive", "negative"])


def test_vader_uses_its_authors_thresholds() -> None:
    baseline = Vader(LABELS, 0)
    baseline.fit([], [])
    texts = ["What a great, lovely film!", "It is awful and I hate it.", "The film lasts two hours."]
    assert baseline.predict(texts) == ["positive", "negative", "neutral"]


def test_vader_refuses_other_labels() -> None:
    with pytest.raises(LnmtError, match="vader baseline knows sentiment alone") as caught:
        Vader(["spam", "ham"], 0)
    assert caught.value.value == "spam, ham"
    assert caught.value.allowed == "negative, neutral, positive"


def test_names() -> None:
    assert BASELINES.names() == ["majority", "tfidf", "vader"]
    with pytest.raises(UnknownName, match="did you mean 'tfidf'"):
        BASELINES.get("tdidf", where="params.yaml: evaluate.baselines")
