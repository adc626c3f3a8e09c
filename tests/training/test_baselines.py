from __future__ import annotations

import numpy as np
import pytest

from lnmt.errors import LnmtError, UnknownName
from lnmt.training.baselines import BASELINES, open_baseline
from lnmt.training.baselines.constant import FrequentTag, Majority, Mean, Prior
from lnmt.training.baselines.tfidf import Tfidf
from lnmt.training.baselines.unigram import Unigram
from lnmt.training.baselines.vader import Vader

LABELS = ["negative", "neutral", "positive"]


def test_majority_takes_the_most_frequent_and_of_two_the_first() -> None:
    baseline = Majority("text-classification", LABELS, 0)
    baseline.fit(["a", "b", "c"], ["positive", "neutral", "positive"])
    assert baseline.predict(["x", "y"]) == ["positive", "positive"]
    baseline.fit(["a", "b"], ["positive", "neutral"])
    assert baseline.predict(["x"]) == ["neutral"]


def test_tfidf_learns_words_and_their_order() -> None:
    texts = ["not good", "good", "bad", "not bad"] * 5
    labels = ["negative", "positive", "negative", "positive"] * 5
    baseline = Tfidf("text-classification", LABELS, 0)
    baseline.fit(texts, labels)
    assert baseline.predict(["not bad", "good", "bad", "not good"]) == ["positive", "positive", "negative", "negative"]


def test_tfidf_gives_the_same_again() -> None:
    texts, labels = [f"word{index % 7} word{index % 3}" for index in range(40)], [LABELS[i % 3] for i in range(40)]
    guesses = []
    for _ in range(2):
        baseline = Tfidf("text-classification", LABELS, 3)
        baseline.fit(texts, labels)
        guesses.append(baseline.predict(texts))
    assert guesses[0] == guesses[1]


def test_tfidf_says_what_it_cannot_learn_from() -> None:
    with pytest.raises(LnmtError, match="one label only"):
        Tfidf("text-classification", LABELS, 0).fit(["good film", "good book"], ["positive", "positive"])
    with pytest.raises(LnmtError, match="no word that two training texts share"):
        Tfidf("text-classification", LABELS, 0).fit(["alpha", "beta"], ["positive", "negative"])


def test_vader_uses_its_authors_thresholds() -> None:
    baseline = Vader("text-classification", LABELS, 0)
    baseline.fit([], [])
    texts = ["What a great, lovely film!", "It is awful and I hate it.", "The film lasts two hours."]
    assert baseline.predict(texts) == ["positive", "negative", "neutral"]


def test_vader_refuses_other_labels() -> None:
    with pytest.raises(LnmtError, match="vader baseline knows sentiment alone") as caught:
        Vader("text-classification", ["spam", "ham"], 0)
    assert caught.value.value == "spam, ham"
    assert caught.value.allowed == "negative, neutral, positive"


TOPICS = ["film", "phone", "price"]


def test_the_prior_is_what_half_of_the_rows_have_or_else_the_most_frequent_label() -> None:
    baseline = Prior("multi-label-classification", TOPICS, 0)
    baseline.fit(["a", "b", "c", "d"], ["film|price", '["film"]', "price", ""])
    assert baseline.predict(["x", "y"]) == ['["film", "price"]'] * 2
    baseline.fit(["a", "b", "c"], ["phone", "", "[]"])
    assert baseline.predict(["x"]) == ['["phone"]']


def test_tfidf_decides_each_label_apart() -> None:
    texts = ["a film", "the phone", "film and phone", "nothing here", "a film here", "the phone here"] * 4
    labels = ["film|price", "phone|price", "phone|film|price", "price", "film|price", "phone|price"] * 4
    baseline = Tfidf("multi-label-classification", [*TOPICS, "never"], 0)
    baseline.fit(texts, labels)
    assert baseline.predict(["film", "phone", "a film and the phone"]) == [
        '["film", "price"]',
        '["phone", "price"]',
        '["film", "phone", "price"]',
    ]


def test_tfidf_learns_numbers() -> None:
    texts, labels = ["good good", "bad bad", "good bad"] * 10, ["2.5", "-1.5", "0.5"] * 10
    baseline = Tfidf("text-regression", [], 0)
    baseline.fit(texts, labels)
    good, bad = map(float, baseline.predict(["good good", "bad bad"]))
    assert good == pytest.approx(2.5, abs=0.3)
    assert bad == pytest.approx(-1.5, abs=0.3)


def test_the_mean_is_exact() -> None:
    baseline = Mean("text-regression", [], 0)
    baseline.fit(["a", "b", "c"], ["1", "2.5", "-3e0"])
    assert list(map(float, baseline.predict(["x", "y"]))) == [0.5 / 3] * 2


def test_the_most_frequent_tag_of_each_word() -> None:
    baseline = FrequentTag("token-classification", ["O", "B-PER", "I-PER"], 0)
    baseline.fit(["anna met ben smith", "may anna come", "smith may"], ["B-PER O B-PER I-PER", "O B-PER O", "I-PER O"])
    assert baseline.predict(["may smith see anna"]) == ['["O", "I-PER", "O", "B-PER"]']


def test_unigrams_are_shares_with_one_more_of_each() -> None:
    baseline = Unigram("text-generation", [], 0)
    baseline.fit([np.array([1, 1, 2]), np.array([1])], 4)
    nats, right = baseline.score(np.array([1, 0, 1]))
    assert nats == pytest.approx(-(2 * np.log(4 / 8) + np.log(1 / 8)))
    assert right == 2


def test_a_baseline_of_another_task_names_those_that_fit() -> None:
    with pytest.raises(LnmtError, match="the majority baseline is not for text-regression") as caught:
        open_baseline("majority", "text-regression", [], 0)
    assert caught.value.allowed == "mean, tfidf"
    assert isinstance(open_baseline("tfidf", "text-regression", [], 0), Tfidf)


def test_names() -> None:
    assert BASELINES.names() == ["frequent_tag", "majority", "mean", "prior", "tfidf", "unigram", "vader"]
    with pytest.raises(UnknownName, match="did you mean 'tfidf'"):
        open_baseline("tdidf", "text-classification", LABELS, 0)
