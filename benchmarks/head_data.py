"""The rows that `heads.py` fits to and holds out: of a feature file, or made."""

from dataclasses import dataclass

import numpy as np
from peer_runs import digest_of

from cnnfeat.errors import CnnfeatError
from cnnfeat.heads import FeatureTransform
from cnnfeat.protocols import Draw, get_protocol, protocol_splits
from cnnfeat.splits import Split, usable_rows
from cnnfeat.store import open_features


@dataclass(frozen=True)
class Data:
    """Rows of unit length, their classes as positions, and splits of them."""

    X: np.ndarray
    y: np.ndarray
    splits: list[Split]

    def rows(self, number=0):
        split = self.splits[number]
        return Rows(
            self.X[split.train],
            self.y[split.train],
            self.X[split.test],
            self.y[split.test],
        )


@dataclass(frozen=True)
class Rows:
    X: np.ndarray
    y: np.ndarray
    held_out: np.ndarray
    y_held_out: np.ndarray

    def digest(self, *settings):
        return digest_of(self.X, self.y, self.held_out, *settings)

    def __str__(self):
        n_classes = len(np.unique(self.y))
        return f"{len(self.X):,} x {self.X.shape[1]:,}, {n_classes} classes"


def made_features(n_per_class, n_classes, d, n_held_out=10, seed=0):
    """Return made data: spectrum i^-1, as deep features have, rows of unit norm."""
    rng = np.random.default_rng(seed)
    spectrum = np.arange(1, d + 1, dtype=np.float32) ** -0.5
    y = np.repeat(np.arange(n_classes), n_per_class + n_held_out)
    means = rng.standard_normal((n_classes, d), np.float32)
    X = rng.standard_normal((len(y), d), np.float32)
    X += means[y]
    X *= spectrum
    X += 0.5 * spectrum.mean()
    np.maximum(X, 0, out=X)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    place = np.arange(len(y)) % (n_per_class + n_held_out)
    is_train = place < n_per_class
    return Data(X, y, [Split(np.flatnonzero(is_train), np.flatnonzero(~is_train))])


def load_features(path, layer, n_splits):
    """Return the rows of `caltech101`'s splits, or of 30 and 50 a class of others."""
    with open_features(path) as file:
        table, usable = file.table, usable_rows(file.table)
        try:
            protocol, draw = get_protocol("caltech101"), Draw(n_splits=n_splits)
            splits = protocol_splits(protocol, table, draw, usable=usable)
        except CnnfeatError:
            draw = Draw(n_splits=n_splits, train_per_class=30, test_per_class=50)
            splits = protocol_splits(get_protocol("folder"), table, draw, usable=usable)
        used = np.unique(np.concatenate([np.r_[s.train, s.test] for s in splits]))
        X = file.read(file.resolve(layer), used)
    X = FeatureTransform("l2").fit(X).transform(X)
    y = np.unique(table.labels[used], return_inverse=True)[1]
    places = [
        [np.searchsorted(used, rows) for rows in (s.train, s.test)] for s in splits
    ]
    return Data(np.asarray(X), y, [Split(*place) for place in places])
