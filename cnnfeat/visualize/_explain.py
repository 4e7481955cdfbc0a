"""What in an image speaks for the classes of a user's own head.

A head is linear in features that a network computes, so the gradient of its score with
respect to the pixels is exact. How far a map may be trusted is measured: the score as
the parts that it names are taken out of the image, or put in (Petsiuk et al. 2018,
arXiv 1806.07421, section 4.2), beside maps of chance.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cnnfeat import extraction, heads, layers, networks, report, scoring
from cnnfeat.errors import DataError, LayerError, OptionError
from cnnfeat.visualize._look import Look, origins_of, published
from cnnfeat.visualize._occluded import (
    MaskedSource,
    OccludedSource,
    check_side,
    cover_of,
)
from cnnfeat.visualize._options import ExplainOptions
from cnnfeat.visualize._pixels import Seen, normalized, see_image

_CELLS = 14  # rows and columns of what is taken out or put in at once
_N_STEPS = 14
_N_CHANCE = 5  # random orders


@dataclass(frozen=True, eq=False)
class _Scorer:
    """A head on its network."""

    head: heads.Head
    extractor: extraction.Extractor
    names: tuple[str, ...]

    @property
    def network(self) -> networks.Network:
        """The network, loaded."""
        return self.extractor.network

    def scores_of(self, source: extraction.Source) -> np.ndarray:
        """Return scores (n, k) of all images of a source: logits or decision values."""
        sink = extraction.ArraySink(source.n_images, self.extractor.specs)
        extraction.run(source, self.extractor, sink)
        parts = [sink.features[name] for name in self.names]
        X = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
        return np.asarray(self.head.scores(X), dtype=float)

    def gradient(
        self, pixels: torch.Tensor, weights: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """Return the gradient (3, h, w) of a mixture of scores, and its value."""
        head = self.head

        def mixed(X: torch.Tensor) -> torch.Tensor:
            transformed = head.transform.transform(X)
            w = torch.as_tensor(weights @ head.coef, dtype=torch.float32)
            b = float(weights @ head.intercept)
            return transformed @ w.to(X.device) + b

        taps = layers.resolve_layers(self.network, self.names)
        signal, values = layers.score_gradients(
            self.network, taps, self.extractor.specs[0].pool, pixels, mixed
        )
        return signal[0], float(values[0])


def explain_image(
    head_path: str, path: str, options: ExplainOptions | None = None
) -> dict[str, Any]:
    """Return what in an image speaks for classes of a head, and draw it.

    Parameters
    ----------
    head_path : str
        A head file; it knows its network.
    path : str
        An image.
    options : ExplainOptions, optional

    Returns
    -------
    dict
        `kind` of head, and `classes`: of each `class`, its `score` (logit or decision
        value), `covered_score`, that of the image covered whole, and `maps`:
        `gradient-x-input` and `occlusion`, with the mean score over `deletion` and over
        `insertion`; `chance` has those of random orders. A map that knows what matters
        has a deletion below chance and an insertion above it. With `against`, the score
        is the difference of two.

    Raises
    ------
    LayerError
        If the head has no such class; the nearest are offered.
    StoreError, ProvenanceError, WeightsError
        If the head is damaged, or its network is not what it was trained on.
    DataError
        If its features are of several crops, or it is of nearest neighbours.
    OptionError, InputError, DeviceError, OutputError
        As their names say.
    """
    options = options or ExplainOptions()
    if options.against is not None and options.class_name is None:
        raise OptionError("`against` is compared with a class: give `class_name`")

    def look() -> Look:
        return _look(head_path, path, options)

    return published(options, [head_path, path], look)


def _look(head_path: str, path: str, options: ExplainOptions) -> Look:
    asked = scoring.ScoringOptions(device=options.device, engine="eager")
    classifier = scoring.read_classifier(head_path, asked)
    head = classifier.head
    if head is None:
        raise DataError(
            f"{head_path} is a network, not a head: `cnnfeat visualize project` maps "
            "its classes"
        )
    if head.neighbours is not None:
        raise DataError(
            f"{head_path}: nearest neighbours have no weights to follow back; train a "
            "head of another kind on the same features"
        )
    with classifier.extractor as extractor:
        if extractor.crops != "center":
            raise DataError(
                f"{head_path}: its features are of {extractor.crops} crops, and a map "
                "is of one; train a head on those of the centre crop"
            )
        scorer = _Scorer(head, extractor, classifier.layers)
        image = see_image(path, scorer.network.weights.preprocessing)
        check_side(options.size, image.pixels.shape[:2])
        found = _explained(scorer, image, options)
        origins = origins_of(scorer.network, head=head_path, image=image.path)
    record = {
        "image": image.path,
        "head": head_path,
        "kind": head.kind,
        "layer": head.layer,
        "classes": [one["record"] for one in found],
    }
    panels = [panel for one in found for panel in one["panels"]]
    best = found[0]["record"]
    return Look(
        record=record,
        draw=lambda: report.plot_panels(panels, n_columns=3, width=3.0),
        title=f"What speaks for {best['class']}",
        answer=f"{best['class']}: taking out what the maps name leaves "
        + ", ".join(f"{m['deletion']:.2f} ({m['map']})" for m in best["maps"])
        + f" of {best['score']:.2f} on average, random orders "
        f"{best['chance']['deletion']:.2f}.",
        alt="The image, and for each class maps of what speaks for it.",
        origins=origins,
    )


def _explained(
    scorer: _Scorer, image: Seen, options: ExplainOptions
) -> list[dict[str, Any]]:
    names = scorer.head.class_names
    preprocessing = scorer.network.weights.preprocessing
    cover = cover_of("grey", image.pixels, preprocessing)
    squares = OccludedSource(image.pixels, cover, options.size, options.stride)
    occluded = scorer.scores_of(squares)
    ends = MaskedSource(image.pixels, cover, np.array([False, True])[:, None, None])
    whole, covered = scorer.scores_of(ends)
    pixels = normalized(scorer.network, image.pixels[None])
    found = []
    for name, weights in _wanted(names, whole, options):
        signal, _ = scorer.gradient(pixels, weights)
        product = signal * pixels[0].cpu().numpy()
        lost = float(whole @ weights) - occluded @ weights
        maps = {
            "gradient-x-input": product.sum(0),
            "occlusion": squares.spread(lost),
        }
        tested = _tested(scorer, image, cover, maps, weights)
        record = {
            "class": name,
            "score": float(whole @ weights),
            "covered_score": float(covered @ weights),
            **tested,
        }
        found.append({"record": record, "panels": _panels(image, record, maps)})
    return found


def _wanted(
    names: Sequence[str], scores: np.ndarray, options: ExplainOptions
) -> list[tuple[str, np.ndarray]]:
    """Return what is explained: a title, and the weights of the classes' scores."""
    one_hot = np.eye(len(names))
    if options.class_name is None:
        best = np.argsort(-scores, kind="stable")[: options.top]
        return [(names[k], one_hot[k]) for k in best]
    k = _index(names, options.class_name)
    if options.against is None:
        return [(names[k], one_hot[k])]
    other = _index(names, options.against)
    return [(f"{names[k]} against {names[other]}", one_hot[k] - one_hot[other])]


def _index(names: Sequence[str], name: str) -> int:
    if name in names:
        return list(names).index(name)
    near = difflib.get_close_matches(name, names, n=3) or names[:3]
    raise LayerError(f"the head has no class {name!r}; nearest: {', '.join(near)}")


def _tested(
    scorer: _Scorer,
    image: Seen,
    cover: np.ndarray,
    maps: dict[str, np.ndarray],
    weights: np.ndarray,
) -> dict[str, Any]:
    """Return the areas under deletion and insertion by each map, and by chance."""
    rng = np.random.default_rng(0)
    orders = [np.argsort(-_by_cell(one), kind="stable") for one in maps.values()]
    orders += [rng.permutation(_CELLS**2) for _ in range(_N_CHANCE)]
    masks = np.concatenate([_masks(order, image.pixels.shape[:2]) for order in orders])
    values = scorer.scores_of(MaskedSource(image.pixels, cover, masks)) @ weights
    curves = values.reshape(len(orders), 2, _N_STEPS)
    areas = curves.mean(2)
    told = [
        {
            "map": name,
            "deletion": float(areas[k, 0]),
            "insertion": float(areas[k, 1]),
            "deletion_curve": curves[k, 0].tolist(),
            "insertion_curve": curves[k, 1].tolist(),
        }
        for k, name in enumerate(maps)
    ]
    chance = areas[len(maps) :].mean(0)
    return {
        "maps": told,
        "chance": {"deletion": float(chance[0]), "insertion": float(chance[1])},
    }


def _cells(shape: tuple[int, ...]) -> np.ndarray:
    """Return the cell (h, w) that each pixel lies in."""
    rows, columns = (np.arange(n) * _CELLS // n for n in shape[:2])
    cells: np.ndarray = rows[:, None] * _CELLS + columns
    return cells


def _by_cell(values: np.ndarray) -> np.ndarray:
    """Return the mean (_CELLS²,) of a map in each cell."""
    cells = _cells(values.shape).ravel()
    sums = np.bincount(cells, values.ravel(), minlength=_CELLS**2)
    means: np.ndarray = sums / np.maximum(np.bincount(cells, minlength=_CELLS**2), 1)
    return means


def _masks(order: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return what is covered (2 n_steps, h, w): as cells go, then as they come in."""
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order))
    ranks = rank[_cells(shape)]
    cuts = np.arange(1, _N_STEPS + 1) * len(order) / (_N_STEPS + 1)
    gone: np.ndarray = ranks[None] < cuts[:, None, None]
    return np.concatenate([gone, ~gone])


def _panels(
    image: Seen, record: dict[str, Any], maps: dict[str, np.ndarray]
) -> list[report.Panel]:
    panels = [report.Panel(image.pixels, f"{record['class']}: {record['score']:.3g}")]
    for told, (name, values) in zip(record["maps"], maps.items(), strict=True):
        chance = record["chance"]
        heading = f"{name} (random orders)" + "".join(
            f"\n{test} {told[test]:.3g} ({chance[test]:.3g})"
            for test in ("deletion", "insertion")
        )
        shown = values
        if name == "gradient-x-input":
            shown = _by_cell(values)[_cells(values.shape)]
        heat = np.clip(shown, 0, None)
        panels.append(report.Panel(report.heat_over(image.pixels, heat), heading))
    return panels
