"""From feature files to a report of copies."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache

import numpy as np

from cnnfeat import evaluate, images, report
from cnnfeat.errors import CnnfeatWarning, DataError, ProvenanceError
from cnnfeat.leaks._options import LeaksOptions
from cnnfeat.leaks._report import KINDS, Copy, LeaksReport, WithAndWithout
from cnnfeat.metrics import evaluate_scores
from cnnfeat.outputs import claimed_outputs, write_output
from cnnfeat.similarity import near_pairs
from cnnfeat.splits import read_split
from cnnfeat.store import FeatureFile, is_trained_from, load_head, open_features

Progress = Callable[[int, int, int], None]
_IN_MEMORY = 2**30  # bytes of features that are read once
_MOST_DRAWN = 24  # pairs on a sheet
_SAME = ("model", "weights_sha256", "preprocessing", "crops")


def find_leaks(
    features_path: str,
    other_path: str | None = None,
    options: LeaksOptions | None = None,
    *,
    progress: Progress | None = None,
) -> LeaksReport:
    """Find copies among the images of a feature file, or of two.

    Pairs whose features have a high cosine are compared by their bytes, their pixels
    and a perceptual hash. Features are read in blocks; the images of candidates have
    to be where the file says, or their pairs stay unconfirmed.

    Parameters
    ----------
    features_path : str
    other_path : str, optional
        Another set: pairs have one image of each.
    options : LeaksOptions, optional
    progress : callable (n_done, n_all, n_failed), optional

    Returns
    -------
    LeaksReport

    Raises
    ------
    StoreError, LayerError, SplitError
        As their names say.
    DataError
        If features are not finite, or the head was trained from another file.
    ProvenanceError
        If the two files, or head and file, are not of the same network.
    OutputError, OptionError
        If an output cannot be written, or options contradict each other.
    """
    options = options or LeaksOptions()
    options.check(other_path)
    named = (features_path, other_path, options.head_path, options.splits_file)
    read = [path for path in named if path]
    with (
        claimed_outputs(options.outputs, read, overwrite=options.overwrite),
        ExitStack() as stack,
    ):
        features = stack.enter_context(open_features(features_path))
        others = features
        if other_path:
            others = stack.enter_context(open_features(other_path))
            _refuse_others(features, others)
        search = _Search(features, others, options)
        found = search.run(progress)
        if options.output_path:
            text = found.to_csv().encode("utf-8")
            write_output(options.output_path, text, overwrite=True)
        if options.sheet_path:
            _draw(found, features, others, options.sheet_path)
    return found


def _refuse_others(features: FeatureFile, others: FeatureFile) -> None:
    for field in _SAME:
        values = [one.provenance.get(field, "") for one in (features, others)]
        if values[0] != values[1]:
            raise ProvenanceError(
                f"{others.path}: {field} is {values[1]!r}, that of {features.path} "
                f"{values[0]!r}: cosines of different features say nothing"
            )


@dataclass(frozen=True, eq=False)
class _Search:
    """One search: the files, which may be one, and what is asked."""

    features: FeatureFile
    others: FeatureFile
    options: LeaksOptions

    def run(self, progress: Progress | None) -> LeaksReport:
        ours, theirs = (np.flatnonzero(one.ok) for one in (self.features, self.others))
        sides = self._sides()
        is_one = self.features is self.others

        def tell(n_done: int, n_all: int) -> None:
            if progress:
                progress(n_done, n_all, 0)

        found = near_pairs(
            self._reader(self.features, ours),
            len(ours),
            None if is_one else self._reader(self.others, theirs),
            len(theirs),
            threshold=self.options.cosine,
            progress=tell,
        )
        if found.threshold > self.options.cosine:
            _warn_of_many(found.threshold, len(found.rows))
        rows = np.stack([ours[found.rows[:, 0]], theirs[found.rows[:, 1]]], axis=1)
        copies = self._confirm(rows, found.cosines, sides, progress)
        return self._report(copies, len(rows), found.threshold, sides)

    def _reader(
        self, features: FeatureFile, rows: np.ndarray
    ) -> Callable[[int, int], np.ndarray]:
        layers = features.resolve(self.options.layer)

        def read(start: int, stop: int) -> np.ndarray:
            X = features.read(layers, rows[start:stop])
            features.refuse_non_finite(X, rows[start:stop])
            return X

        if 4 * len(rows) * features.n_features(layers) > _IN_MEMORY:
            return read
        whole = read(0, len(rows))
        return lambda start, stop: whole[start:stop]

    def _sides(self) -> np.ndarray | None:
        """Return 1 for training rows, 2 for test rows, 0 for others; None without."""
        features, options = self.features, self.options
        sides = np.zeros(features.n_images, np.int8)
        if options.splits_file:
            split = read_split(options.splits_file, features.paths, options.split_index)
            sides[split.train], sides[split.test] = 1, 2
            return sides
        if not options.head_path:
            return None
        head = load_head(options.head_path)
        if not is_trained_from(head, features):
            raise DataError(
                f"{options.head_path} was not trained from {features.path}: give the "
                "feature file that it was trained from"
            )
        sides[np.isin(features.paths, head.training_paths)] = 1
        sides[np.isin(features.paths, head.heldout_paths)] = 2
        return sides

    def _confirm(
        self,
        rows: np.ndarray,
        cosines: np.ndarray,
        sides: np.ndarray | None,
        progress: Progress | None,
    ) -> list[Copy]:
        """Return the pairs that are copies, or may be, those to look at first."""
        ours = cache(images.likeness_reader(self.features.stored_table))
        theirs = ours
        if self.others is not self.features:
            theirs = cache(images.likeness_reader(self.others.stored_table))
        digests = [
            one.table.digests(rows[:, k])
            for k, one in enumerate((self.features, self.others))
        ]
        copies, n_failed = [], 0
        for n, (i, j) in enumerate(rows.tolist()):
            copy, bits, mirrored = "bytes", None, False
            if not digests[0][n] or digests[0][n] != digests[1][n]:
                copy, bits, mirrored = _compare(ours(i), theirs(j))
                n_failed += copy == "unconfirmed"
            if progress:
                progress(n + 1, len(rows), n_failed)
            if bits is not None and bits > self.options.bits:
                continue
            side = self._side(sides, i, j)
            told = (copy, float(cosines[n]), bits, mirrored, side)
            copies.append(self._copy(i, j, told))
        return sorted(copies, key=_order)

    def _side(self, sides: np.ndarray | None, i: int, j: int) -> str:
        if self.features is not self.others:
            return "files"
        if sides is None:
            return ""
        pair = {int(sides[i]), int(sides[j])}
        named = {frozenset({1, 2}): "train-test", frozenset({1}): "train"}
        return {**named, frozenset({2}): "test"}.get(frozenset(pair), "")

    def _copy(
        self, i: int, j: int, told: tuple[str, float, int | None, bool, str]
    ) -> Copy:
        return Copy(
            self.features.paths[i],
            _label(self.features, i),
            self.others.paths[j],
            _label(self.others, j),
            *told,
            rows=(i, j),
        )

    def _report(
        self,
        copies: Sequence[Copy],
        n_candidates: int,
        threshold: float,
        sides: np.ndarray | None,
    ) -> LeaksReport:
        confirmed = [one for one in copies if one.is_confirmed]
        files = (0, int(self.features is not self.others))
        counts = Counter(one.copy for one in copies)
        test = None
        if sides is not None:
            across = [one.rows for one in confirmed if one.sides == "train-test"]
            test = np.unique([i if sides[i] == 2 else j for i, j in across]).astype(int)
        return LeaksReport(
            n_images=int(self.features.ok.sum() + files[1] * self.others.ok.sum()),
            n_candidates=n_candidates,
            cosine=threshold,
            bits=self.options.bits,
            n_copies={kind: counts[kind] for kind in KINDS if counts[kind]},
            n_images_with_copies=len(
                {at for one in confirmed for at in zip(files, one.rows, strict=True)}
            ),
            n_across_classes=sum(one.is_across for one in confirmed),
            n_train_test=(
                None
                if sides is None
                else sum(one.sides == "train-test" for one in confirmed)
            ),
            n_test_with_copies=None if test is None else len(test),
            accuracy=self._accuracy(test),
            pairs=tuple(copies),
        )

    def _accuracy(self, copied: np.ndarray | None) -> WithAndWithout | None:
        """Return the head's accuracy with and without the test rows `copied`."""
        if not self.options.head_path or copied is None:
            return None
        head = load_head(self.options.head_path)
        rows, y, scores = evaluate.score_heldout(head, self.features)
        if not len(rows):
            return None
        kept = ~np.isin(rows, copied)
        whole = evaluate_scores(scores, y, len(head.class_names))
        rest = whole
        if kept.any():
            rest = evaluate_scores(scores[kept], y[kept], len(head.class_names))
        return WithAndWithout(
            n_images=len(rows),
            n_copies=int((~kept).sum()),
            accuracy=whole.accuracy,
            accuracy_without=rest.accuracy,
            mean_per_class_accuracy=whole.mean_per_class_accuracy,
            mean_per_class_accuracy_without=rest.mean_per_class_accuracy,
        )


def _compare(
    one: images.Likeness | None, other: images.Likeness | None
) -> tuple[str, int | None, bool]:
    if one is None or other is None:
        return "unconfirmed", None, False
    bits, mirrored = one.distance(other)
    return "pixels" if one.pixels == other.pixels else "near", bits, mirrored


def _label(features: FeatureFile, row: int) -> str:
    label = int(features.labels[row])
    return features.class_names[label] if label >= 0 else ""


def _order(copy: Copy) -> tuple[bool, bool, bool, int, float]:
    """Return what sorts pairs: across classes first, then across sides, then surest."""
    is_told = copy.sides in ("train-test", "files")
    return (
        not copy.is_confirmed,
        not copy.is_across,
        not is_told,
        copy.bits or 0,
        -copy.cosine,
    )


def _warn_of_many(threshold: float, n: int) -> None:
    warnings.warn(
        f"so many pairs are alike that only the nearest {n:,} are looked at, of cosine "
        f"{threshold:.4f} or more: these features tell images poorly apart",
        CnnfeatWarning,
        stacklevel=3,
    )


def _draw(
    found: LeaksReport, features: FeatureFile, others: FeatureFile, path: str
) -> None:
    """Draw the pairs side by side, four in a row."""
    readers = [images.thumbnail_reader(one.stored_table) for one in (features, others)]
    pairs = [one for one in found.pairs if one.is_confirmed]
    drawn = [
        (readers[k](one.rows[k]), f"{label} {one.copy}{_bits(one)}")
        for one in pairs[:_MOST_DRAWN]
        for k, label in enumerate((one.label, one.other_label))
    ]
    first = f"the first {_MOST_DRAWN} of " * (len(pairs) > _MOST_DRAWN)
    title = f"{first}{len(pairs):,} pairs of copies, each with the one at its right"
    sheet = report.plot_contact_sheet(
        [image for image, _ in drawn] or [None],
        [caption for _, caption in drawn] or [""],
        title=title[:1].upper() + title[1:],
    )
    report.save_figure(sheet, path)


def _bits(copy: Copy) -> str:
    return "" if copy.bits is None else f" {copy.bits}{'m' * copy.mirrored}"
