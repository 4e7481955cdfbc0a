"""The classifier started from a head file: same scores, or a reason why not."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from tiny import make_tiny_network

from cnnfeat.errors import (
    CnnfeatWarning,
    DataError,
    OptionError,
    ProvenanceError,
    WeightsError,
)
from cnnfeat.extraction import Extractor
from cnnfeat.finetune import FinetuneOptions, Listener, finetune_network
from cnnfeat.finetune._frozen import FrozenScore, fit_start
from cnnfeat.finetune._initial import init_from_head
from cnnfeat.finetune._inputs import normalized
from cnnfeat.finetune._options import check_options
from cnnfeat.finetune._report import which_is_better
from cnnfeat.finetune._split import FinetuneSplit
from cnnfeat.heads import FeatureTransform, Head
from cnnfeat.image_table import ImageTable
from cnnfeat.images import content_digest, list_images, locate
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.layers import find_classifier
from cnnfeat.networks._classifier import (
    describe_classifier,
    make_classifier,
    restore_classifier,
)
from cnnfeat.networks._weights import read_state_dict
from cnnfeat.store import save_head
from cnnfeat.training import replace_classifier

CLASSES = ["ant", "bee", "cat"]
START = FinetuneOptions(
    epochs=2,
    batch_size=5,
    lr=0.05,
    augment="none",
    train_per_class=4,
    workers=0,
    device="cpu",
    frozen=False,
    validation=1 / 6,
)


def make_head(
    path,
    scale,
    *,
    signed_sqrt=False,
    n_components=None,
    layer="classifier:in",
    names=CLASSES,
    sha256=None,
):
    """A head with random weights whose scaler was fitted on random features."""
    rng = np.random.default_rng(0)
    X = rng.random((30, 96), dtype=np.float32)
    transform = FeatureTransform(
        scale, signed_sqrt=signed_sqrt, n_components=n_components
    ).fit(X)
    head = Head(
        kind="svm",
        coef=rng.normal(size=(len(names), n_components or 96)),
        intercept=rng.normal(size=len(names)),
        class_names=tuple(names),
        scaler=transform.to_arrays(),
        training_paths=("a",),
        heldout_paths=(),
        layer=layer,
        layer_specs=(LayerSpec(layer, layer, (96,)),),
        hyperparameters={"C": 1.0},
        provenance={
            "model": "tiny",
            "weights_sha256": sha256 or make_tiny_network().weights.sha256,
        },
    )
    save_head(path, head)
    return head


def new_network():
    """A network of three classes, and its new classifier."""
    network = make_tiny_network()
    generator = torch.Generator().manual_seed(0)
    return replace_classifier(network, find_classifier(network), 3, generator)


@pytest.mark.parametrize("n_components", [None, 5])
@pytest.mark.parametrize("scale", ["none", "mean-norm", "standard"])
def test_the_network_scores_as_the_head(tmp_path, scale, n_components):
    check_scores(tmp_path / "h.h5", scale, n_components)


def test_the_network_scores_as_a_head_on_unit_rows(tmp_path):
    check_scores(tmp_path / "h.h5", "l2", None)


def check_scores(path, scale, n_components):
    names = ["cat", "ant", "bee"]  # another order
    head = make_head(path, scale, names=names, n_components=n_components)
    network, classifier = new_network()
    init_from_head(network, classifier, str(path), CLASSES)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 1, 32, 32, 3), np.uint8)
    with Extractor(network, [classifier.input_layer]) as extractor:
        (features,) = extractor(pixels).values()
    expected = head.scores(features)
    found = network.module(normalized(network, pixels)).numpy()
    order = [head.class_names.index(name) for name in CLASSES]
    np.testing.assert_allclose(found, expected[:, order], rtol=1e-3, atol=1e-3)


def test_roots_are_refused_with_a_cure(tmp_path):
    make_head(tmp_path / "h.h5", "l2", signed_sqrt=True)
    with pytest.raises(DataError, match="train it without `signed_sqrt`"):
        init_from_head(*new_network(), str(tmp_path / "h.h5"), CLASSES)


def test_a_classifier_of_unit_rows_survives_its_file(tmp_path):
    make_head(tmp_path / "h.h5", "l2")
    network, classifier = new_network()
    init_from_head(network, classifier, str(tmp_path / "h.h5"), CLASSES)
    images = torch.rand(4, 3, 32, 32)
    expected = network.module(images)
    told = describe_classifier(classifier.name, classifier.module)
    assert told == {"classifier": {"name": "classifier", "input_norm": 20.0}}
    again, _ = new_network()
    again.module.load_state_dict(network.module.state_dict())
    assert not torch.allclose(again.module(images), expected)
    before = repr(again.module)
    restore_classifier(again.module, told, "w.safetensors")
    assert repr(again.module) != before  # converted networks are kept by it
    torch.testing.assert_close(again.module(images), expected)


@pytest.mark.parametrize(
    "told", [{"name": "features.0", "input_norm": "x"}, {"name": "no"}, 3, {"name": ""}]
)
def test_damaged_word_of_the_classifier_is_refused(told):
    with pytest.raises(WeightsError, match=r"w\.pth: its cnnfeat metadata is damaged"):
        restore_classifier(new_network()[0].module, {"classifier": told}, "w.pth")


@pytest.mark.parametrize("kernel", [None, 1])
def test_a_scaling_classifier_does_not_see_the_length_of_features(kernel):
    like = torch.nn.Linear(6, 4) if kernel is None else torch.nn.Conv2d(6, 4, 1)
    layer = make_classifier(like, 3)
    shape = (5, 6) if kernel is None else (5, 6, 2, 3)
    features = torch.rand(shape, dtype=torch.float32)
    plain = layer(features)
    layer.input_norm = 20.0
    scaled = layer(features)
    torch.testing.assert_close(layer(7 * features), scaled)
    assert not torch.allclose(plain, scaled)
    # What is multiplied with the weights has the norm 20, positions averaged.
    mean = features if kernel is None else features.mean((2, 3))
    unit = mean / mean.norm(dim=1, keepdim=True)
    bias = layer.bias.detach()
    expected = 20 * unit @ layer.weight.detach().flatten(1).T + bias
    found = scaled if kernel is None else scaled.mean((2, 3))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.isfinite(layer(torch.zeros(shape))).all()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"names": ["ant", "bee", "dog"]}, "other classes .*: cat, dog"),
        ({"layer": "features.0"}, "96 features of features.0"),
        ({"sha256": "0"}, "weights_sha256"),
    ],
)
def test_heads_of_something_else_are_refused(tmp_path, changes, match):
    make_head(tmp_path / "h.h5", "none", **changes)
    with pytest.raises(ProvenanceError, match=match):
        init_from_head(*new_network(), str(tmp_path / "h.h5"), CLASSES)


def test_the_start_has_its_share_in_the_result(colour_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "cnnfeat.finetune._material.load_network", lambda *_, **__: make_tiny_network()
    )
    make_head(tmp_path / "h.h5", "none", names=["blue", "green", "red"])
    trained, mixed, still = (
        finetune_tiny(colour_dir, tmp_path, interpolate=share, lr=lr)
        for share, lr in ((0.0, 0.01), (0.25, 0.01), (0.0, 1e-12))
    )
    for name, tensor in trained.items():
        expected = 0.75 * tensor + 0.25 * still[name]
        torch.testing.assert_close(mixed[name], expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(trained["features.0.weight"], still["features.0.weight"])


def finetune_tiny(images, folder, **changes):
    output = folder / "w.safetensors"
    options = FinetuneOptions(
        init=str(folder / "h.h5"),
        epochs=1,
        batch_size=8,
        backbone_lr_scale=1.0,
        validation=0.0,
        augment="none",
        device="cpu",
        workers=0,
        frozen=False,
        overwrite=True,
        **changes,
    )
    finetune_network(str(images), str(output), options)
    return read_state_dict(output)[0]


def test_a_random_classifier_gets_no_share():
    options = FinetuneOptions(interpolate=0.5, init="noise")
    with pytest.raises(OptionError, match=r"`interpolate=0\.5` with `init=noise`"):
        check_options(options, "images", "w.safetensors")


def test_weights_tell_of_this_training_and_of_those_before(
    colour_dir, tmp_path, monkeypatch
):
    network = make_tiny_network()
    earlier = {"root": "/x", "training_paths": ["a"], "training_digests": ["1"]}
    metadata = {**earlier, "training_before": [{"root": "/y", "training_paths": []}]}
    record = dataclasses.replace(network.weights, metadata=metadata)
    network.weights = record
    monkeypatch.setattr(
        "cnnfeat.finetune._material.load_network", lambda *_, **__: network
    )
    path = tmp_path / "w.safetensors"
    finetune_network(str(colour_dir), str(path), START)
    told = read_state_dict(path)[1]
    assert told["training_before"] == [earlier, *metadata["training_before"]]
    for name, digest in zip(
        told["training_paths"], told["training_digests"], strict=True
    ):
        assert digest == content_digest((colour_dir / name).read_bytes())
    assert len(set(told["training_digests"])) == 12


def test_a_start_that_has_seen_test_images_is_told(colour_dir, tmp_path, monkeypatch):
    images = list_images(colour_dir)
    digests = [content_digest(locate(images, row).read()) for row in range(24)]
    network = make_tiny_network()
    metadata = {  # copies, in another folder
        "root": "/elsewhere",
        "training_paths": [f"{k}.png" for k in range(24)],
        "training_digests": digests,
    }
    network.weights = dataclasses.replace(network.weights, metadata=metadata)
    monkeypatch.setattr(
        "cnnfeat.finetune._material.load_network", lambda *_, **__: network
    )
    with pytest.warns(CnnfeatWarning) as told:
        finetune_network(str(colour_dir), str(tmp_path / "w.safetensors"), START)
    texts = [str(one.message) for one in told]
    assert "network was fine-tuned on 12 of the 12 test images" in texts[0]
    assert "network was fine-tuned on 3 of the 3 validation images" in texts[1]


def test_a_run_is_not_resumed_on_other_images_of_equal_sizes(
    colour_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "cnnfeat.finetune._material.load_network", lambda *_, **__: make_tiny_network()
    )
    images = tmp_path / "images"
    shutil.copytree(colour_dir, images)
    for path in images.rglob("*.png"):  # no two contents have one size by chance
        path.write_bytes(path.read_bytes().ljust(20_000, b"\0"))
    output = str(tmp_path / "w.safetensors")

    def kill(record):
        raise KeyError("killed")

    with pytest.raises(KeyError):
        finetune_network(str(images), output, START, listener=Listener(epoch=kill))
    first, second = (images / "red" / f"{k}.png" for k in (0, 1))
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other), second.write_bytes(one)
    with pytest.raises(ProvenanceError, match="contents is"):
        again = dataclasses.replace(START, resume=True)
        finetune_network(str(images), output, again)


@pytest.fixture
def tiny_loader(monkeypatch):
    monkeypatch.setattr(
        "cnnfeat.finetune._material.load_network", lambda *_, **__: make_tiny_network()
    )


STILL = {"epochs": 1, "lr": 1e-12, "train_per_class": 4, "workers": 0, "device": "cpu"}


@pytest.mark.parametrize("train", ["head", "all"])
@pytest.mark.parametrize("validation", [0.0, 0.25])
def test_it_starts_as_the_frozen_softmax(
    colour_dir, tmp_path, tiny_loader, train, validation
):
    output = str(tmp_path / "w.safetensors")
    options = FinetuneOptions(train=train, validation=validation, **STILL)
    report = finetune_network(str(colour_dir), output, options)
    scored = {row["model"]: row for row in report.comparison}
    tuned = scored[f"fine-tuned {train}"]["accuracy"]
    # Chance is a third; with a validation part the start sees fewer images.
    assert tuned > 0.6
    if not validation:
        assert tuned == scored["frozen softmax"]["accuracy"]
    start = read_state_dict(tmp_path / "w.safetensors")[1]["classifier"]
    assert start == {"name": "classifier", "input_norm": 20.0}


def test_the_start_sees_no_validation_row(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "cnnfeat.finetune._frozen.fit_splits",
        lambda X, y, rows, settings: seen.append((len(X), y)) or [FakeFit()],
    )
    table = ImageTable.from_labels(np.repeat([0, 1], 6))
    train, validation = np.arange(0, 12, 2), np.arange(1, 12, 2)
    split = FinetuneSplit(
        train, validation, train[:0], table.labels.astype(int), ["a", "b"], {}
    )
    features = {row: torch.full((3,), float(row)) for row in train.tolist()}
    fit_start(features, split, table, seed=0)
    ((n, y),) = seen
    assert n == len(train)
    np.testing.assert_array_equal(y, table.labels[train])


class FakeFit:
    def to_head(self, names):
        return names


@pytest.mark.parametrize(
    ("changes", "n_per_class", "expected"),
    [
        ({}, 11.9, 0.0),
        ({}, 12, 1 / 6),
        ({"schedule": "plateau"}, 3, 1 / 6),
        ({"validation": 0.0}, 100, 0.0),
        ({"validation": 0.5}, 2, 0.5),
    ],
)
def test_few_images_are_all_trained_on(changes, n_per_class, expected):
    assert FinetuneOptions(**changes).validation_share(n_per_class) == expected


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        ((0.5, 0.6, 0.7), ""),
        ((0.5, 0.7, 0.7), ""),
        ((0.8, 0.75, 0.7), "The frozen SVM was better than the fine-tuned all network"),
        ((0.5, 0.75, 0.7), "The frozen softmax was better"),
        ((0.5,), ""),
    ],
)
def test_a_frozen_head_that_is_better_is_named(accuracies, said):
    names = ("frozen SVM", "frozen softmax", "fine-tuned all")[-len(accuracies) :]
    rows = [
        FrozenScore(name, accuracy, accuracy, 40)
        for name, accuracy in zip(names, accuracies, strict=True)
    ]
    note = which_is_better(rows)
    assert note.startswith(said) and bool(note) == bool(said)
    if "SVM" in said:
        assert "(80.0 % and 70.0 % of 40" in note and "train-svm" in note
