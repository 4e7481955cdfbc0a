"""The closing table's frozen heads: those that `train` would give on the same rows."""

import numpy as np
import pytest
import torch
from made_features import write_features

from cnnfeat.evaluate import evaluate_head
from cnnfeat.finetune._frozen import score_frozen_heads
from cnnfeat.finetune._split import FinetuneSplit
from cnnfeat.splits import draw_split, inner_split, usable_rows
from cnnfeat.store import open_features
from cnnfeat.train import TrainOptions, train_head

NAMES = {"svm": "frozen SVM", "softmax": "frozen softmax"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = write_features(tmp_path_factory.mktemp("made") / "f.h5")
    with open_features(path) as features:
        X = features.read(("layer2",))
        return path, features.table, dict(enumerate(torch.from_numpy(X)))


def make_split(table, train, validation, test):
    y = table.labels.astype(np.int64)
    return FinetuneSplit(train, validation, test, y, list(table.class_names), {})


def draw(table, n, seed=0):
    usable = usable_rows(table)
    return draw_split(table, usable=usable, train_per_class=n, seed=seed)


NONE = np.empty(0, np.int64)


@pytest.mark.parametrize("kind", NAMES)
def test_without_validation_rows_they_are_the_heads_of_train(made, tmp_path, kind):
    path, table, X = made
    split = draw(table, 6, seed=3)
    rows = make_split(table, split.train, NONE, split.test)
    found = {one.model: one for one in score_frozen_heads(X, rows, table, seed=3)}
    head = str(tmp_path / "head.h5")
    options = TrainOptions(kind, layer="layer2", train_per_class=6, seed=3)
    trained = train_head(str(path), head, options)
    scored = evaluate_head(head, str(path))
    one = found[NAMES[kind]]
    assert one.C == trained.C
    assert one.accuracy == scored.accuracy
    assert one.mean_per_class_accuracy == scored.mean_per_class_accuracy
    assert one.n_images == scored.n_images


def test_C_is_chosen_on_the_validation_rows_where_there_are_some(made):
    _, table, X = made
    split = draw(table, 6)
    inner = inner_split(table, split.train, held_out=1 / 3, seed=8)
    apart = make_split(table, inner.train, inner.test, split.test)
    spoilt = dict(X)
    for row in inner.test.tolist():  # features of another class: the worst C wins
        spoilt[row] = -X[row]
    honest = score_frozen_heads(X, apart, table, seed=0)
    misled = score_frozen_heads(spoilt, apart, table, seed=0)
    assert [one.C for one in honest] != [one.C for one in misled]


def test_one_image_a_class_leaves_nothing_to_choose_on(made):
    _, table, X = made
    split = draw(table, 1)
    rows = make_split(table, split.train, NONE, split.test)
    assert [one.C for one in score_frozen_heads(X, rows, table, seed=0)] == [1.0, 1.0]
