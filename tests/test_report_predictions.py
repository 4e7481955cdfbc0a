"""Predictions one by one: the rows of the table, and the sheet of the wrong ones."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from cnnfeat.metrics import best_two
from cnnfeat.report import Predictions, plot_mistakes


@given(n=st.integers(1, 12), k=st.integers(2, 6), seed=st.integers(0, 99))
def test_the_two_best_are_what_sorting_gives_the_lower_index_first(n, k, seed):
    scores = np.random.default_rng(seed).integers(0, 4, (n, k)).astype(float)
    ranked, best = best_two(scores)
    for row, (first, second), values in zip(scores, ranked, best, strict=True):
        order = sorted(range(k), key=lambda c, row=row: (-row[c], c))
        assert [first, second] == order[:2]
        assert values.tolist() == row[order[:2]].tolist()


def test_there_may_be_no_second_class():
    ranked, best = best_two(np.array([[2.0]]))
    assert (ranked.tolist(), best[0, 0]) == ([[0, -1]], 2.0)
    ranked, _ = best_two(np.array([[-np.inf, 1.0, -np.inf]]))
    assert ranked.tolist() == [[1, -1]]


def made():
    return Predictions(
        paths=["a.png", "b.png", "c.png", "d.png"],
        class_names=["ant", "bee", "c$t"],
        y=np.array([0, 1, 2, 2]),
        ranked=np.array([[0, 1], [2, 1], [0, -1], [1, 2]]),
        scores=np.array([[0.9, 0.1], [0.6, 0.3], [0.7, -np.inf], [0.5, 0.45]]),
        score="probability",
    )


def test_a_row_says_what_is_predicted_and_whether_it_is_right():
    rows = made().rows()
    assert rows[1] == {
        "path": "b.png",
        "label": "bee",
        "predicted": "c$t",
        "correct": 0,
        "probability": "0.6",
        "runner_up": "bee",
        "runner_up_probability": "0.3",
    }
    assert [row["correct"] for row in rows] == [1, 0, 0, 0]
    assert rows[2]["runner_up"] is rows[2]["runner_up_probability"] is None


def test_the_sheet_shows_the_surest_mistakes_first():
    assert made().mistakes().tolist() == [2, 1, 3]
    asked = []

    def read(position):
        asked.append(position)
        return None if position == 1 else np.zeros((8, 8, 3), np.uint8)

    figure = plot_mistakes(made(), read)
    assert asked == [2, 1, 3]
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["c$t\n→ ant 0.70", "bee\n→ c$t 0.60", "c$t\n→ bee 0.50"]
    assert [len(axes.images) for axes in figure.axes] == [1, 0, 1]
    assert figure.get_suptitle() == "3 wrong of 4 images"


@pytest.mark.parametrize("n_wrong", [0, 60])
def test_a_sheet_of_none_and_of_more_than_fit(n_wrong):
    predictions = Predictions(
        [""] * 60,
        ["a", "b"],
        np.zeros(60, int),
        np.tile([n_wrong > 0, n_wrong == 0], (60, 1)).astype(int),
        np.tile([1.0, 0.0], (60, 1)),
        "score",
    )
    figure = plot_mistakes(predictions, lambda position: None)
    expected = "0 wrong of 60 images" if not n_wrong else "The 48 surest of 60 wrong"
    assert figure.get_suptitle().startswith(expected)
    assert sum(bool(axes.get_title()) for axes in figure.axes) == min(n_wrong, 48)
