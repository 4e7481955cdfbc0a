"""The parts of fine-tuning: augmentation, surgery, schedule, options."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from tiny import make_tiny_network, wrap
from torch import nn

from cnnfeat.errors import CnnfeatWarning, DataError, InputError, NetworkError
from cnnfeat.finetune._initial import lift_above_relu
from cnnfeat.finetune._job import mean_norm
from cnnfeat.finetune._options import FinetuneOptions
from cnnfeat.finetune._schedule import Schedule, build_optimizer
from cnnfeat.finetune._sources import prepare_ahead
from cnnfeat.finetune._surgery import (
    decide_statistics,
    find_classifier,
    prepare,
    replace_classifier,
)
from cnnfeat.finetune._tail import Tail, classifier_input, split_tail
from cnnfeat.images._augmentation import (
    CLASSIC,
    LIGHT,
    Augmentation,
    augment_image,
    image_generator,
    read_augmentation,
)
from cnnfeat.layers import network_stages
from cnnfeat.networks import load_network

CROP = (16, 16)


def checker(side: int = 24) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (3, side, side), dtype=np.uint8))


def change(image, augmentation, seed=0):
    rng = image_generator(seed, 0, 0)
    return augment_image(image, augmentation, CROP, [0.0, 0.0, 0.0], rng)


# -- augmentation ----------------------------------------------------------------------


def test_nothing_is_the_centre_crop():
    image = checker()
    assert torch.equal(change(image, Augmentation()), image[:, 4:20, 4:20])


def test_a_flip_is_the_mirror_image():
    image = checker()
    flipped = change(image, Augmentation(flip=1.0))
    assert torch.equal(flipped, image[:, 4:20, 4:20].flip(-1))


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (270, 3)])
def test_quarter_turns_are_exact(degrees, turns):
    image = checker(16)
    turned = change(image, Augmentation(rotation=(degrees, degrees)))
    both = [torch.rot90(image, k, (1, 2)) for k in (turns, -turns)]
    assert any((turned.int() - one.int()).abs().max() <= 1 for one in both)


def test_rescaling_by_two_shows_the_middle_half():
    image = torch.zeros(3, 16, 16, dtype=torch.uint8)
    image[:, 4:12, 4:12] = 255
    larger = change(image, Augmentation(rescale=(2.0, 2.0)))
    assert (larger[:, 1:-1, 1:-1] == 255).all()


def test_stretching_keeps_the_area():
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[:, 24:40, 24:40] = 255
    rng = image_generator(0, 0, 0)
    stretch = Augmentation(stretch=(1.3, 1.3))
    wide = augment_image(image, stretch, (64, 64), [0.0] * 3, rng).float()
    assert wide[0].sum() == pytest.approx(255 * 256, rel=0.02)
    assert (wide[0].sum(0) > 0).sum() > (wide[0].sum(1) > 0).sum()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), preset=st.sampled_from([LIGHT, CLASSIC]))
def test_presets_give_crops_and_repeat_themselves(seed, preset):
    first, second = (change(checker(), preset, seed) for _ in range(2))
    assert first.shape == (3, *CROP) and first.dtype == torch.uint8
    assert torch.equal(first, second)


def test_changes_depend_on_seed_epoch_and_row():
    draws = {
        image_generator(*key).random()
        for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    }
    assert len(draws) == 4


def test_classic_has_the_published_ranges():
    assert CLASSIC.rotation == (0, 360) and CLASSIC.translation == 10
    assert CLASSIC.rescale == (1 / 1.6, 1.6) and CLASSIC.stretch == (1 / 1.3, 1.3)
    assert CLASSIC.shear == 20 and CLASSIC.flip == 0.5


def test_ranges_come_from_files(tmp_path):
    (tmp_path / "a.toml").write_text("flip = 0.5\nrotation = [-10, 10]\n")
    (tmp_path / "a.json").write_text(json.dumps({"flip": 0.5, "rotation": [-10, 10]}))
    expected = Augmentation(flip=0.5, rotation=(-10, 10))
    assert read_augmentation(str(tmp_path / "a.toml")) == expected
    assert read_augmentation(str(tmp_path / "a.json")) == expected


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("{", InputError, "cannot be read"),
        ('{"spin": 1}', DataError, "unknown spin; known: crop_area"),
        ('{"flip": 2}', DataError, "flip is out of range"),
        ('{"flip": "x"}', DataError, "flip is out of range"),
        ('{"rescale": [2, 1]}', DataError, "rescale is out of range"),
        ('{"rescale": 2}', DataError, "rescale is out of range"),
        ("[]", DataError, "unknown"),
    ],
)
def test_bad_files_of_ranges_are_named(tmp_path, text, error, match):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(error, match=match):
        read_augmentation(str(path))


def test_an_unknown_augmentation_is_named():
    with pytest.raises(InputError, match="--augment strong: expected none, light"):
        read_augmentation("strong")


def test_items_made_ahead_keep_order_and_errors():
    assert list(prepare_ahead(iter(range(10)))) == list(range(10))

    def broken():
        yield 1
        raise DataError("here")

    made = prepare_ahead(broken())
    assert next(made) == 1
    with pytest.raises(DataError, match="here"):
        next(made)


# -- surgery ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def squeezenet():
    network = load_network("squeezenet1_1", weights="random", device="cpu")
    return replace_classifier(network, 3, torch.Generator().manual_seed(0))


def test_a_convolution_may_be_the_classifier(squeezenet):
    call = find_classifier(squeezenet)
    assert call.name == "classifier.1" and call.module.out_channels == 3
    assert squeezenet.module.num_classes == 3
    assert float(call.module.weight.std()) == pytest.approx(0.01, rel=0.1)
    assert squeezenet.module(torch.zeros(2, 3, 224, 224)).shape == (2, 3)


def test_the_tail_gives_the_networks_scores(squeezenet):
    tail = split_tail(squeezenet)
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        expected = squeezenet.module(images)
        found = tail(classifier_input(squeezenet, images))
    torch.testing.assert_close(found, expected)


def test_a_constant_lifts_scores_above_a_relu():
    classifier = nn.Conv2d(4, 3, 1)
    tail = Tail(classifier, [nn.ReLU(), nn.AdaptiveAvgPool2d(1)])
    features = torch.randn(5, 4, 2, 2)
    with torch.no_grad():
        linear = classifier(features).mean((2, 3))
        lift_above_relu(tail, features)
        lifted = tail(features)
    torch.testing.assert_close(lifted.softmax(1), linear.softmax(1))


@pytest.mark.parametrize(("optimizer", "power"), [("sgd", 2), ("adamw", 1)])
def test_a_step_moves_the_scores_alike_for_larger_features(optimizer, power):
    options = FinetuneOptions(optimizer=optimizer, lr=0.1, weight_decay=0.0)
    features = torch.rand(5, 3 * 32 * 32, generator=torch.Generator().manual_seed(0))
    moved = []
    for norm in (20.0, 200.0):
        network = wrap(nn.Sequential(nn.Flatten(), nn.Linear(3072, 2)), n_classes=2)
        trained = prepare(network, [""], dropout=0.0, statistics=False)
        classifier = network.module[1]
        scaled = features * norm / features.norm(dim=1).mean()
        assert mean_norm(scaled) == pytest.approx(norm)
        optimizer_ = build_optimizer(trained, options, mean_norm(scaled))
        lr = optimizer_.param_groups[0]["lr"]
        assert lr == pytest.approx(0.1 / (norm / 20) ** power)
        before = classifier.weight.detach().clone()
        classifier(scaled)[:, 0].sum().backward()
        optimizer_.step()
        moved.append(scaled @ (classifier.weight.detach() - before).T)
    torch.testing.assert_close(*moved, rtol=1e-3, atol=1e-3)


def test_small_features_keep_the_rate():
    network = wrap(nn.Sequential(nn.Flatten(), nn.Linear(3072, 2)), n_classes=2)
    trained = prepare(network, [""], dropout=0.0, statistics=False)
    optimizer = build_optimizer(trained, FinetuneOptions(lr=0.3), 2.0)
    assert optimizer.param_groups[0]["lr"] == 0.3


def test_the_norm_of_spatial_features_is_of_their_average():
    features = torch.rand(4, 6, 5, 5)
    assert mean_norm(features) == pytest.approx(mean_norm(features.mean((2, 3))))


def test_stages_are_the_networks_own(squeezenet):
    names = [stage.name for stage in network_stages(squeezenet)]
    fires = [f"features.{k}" for k in (0, 3, 4, 6, 7, 9, 10, 11, 12)]
    assert names == [*fires, "classifier"]


def test_normalisation_belongs_to_the_stage_before_it():
    network = load_network("resnet18", weights="random", device="cpu")
    stages = network_stages(network)
    assert [s.name for s in stages] == [
        "conv1",
        *(f"layer{k}" for k in range(1, 5)),
        "fc",
    ]
    assert stages[0].modules == ("conv1", "bn1")


class Normed(nn.Module):
    def __init__(self, *last: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.9)
        )
        self.last = nn.Sequential(*last)

    def forward(self, images):
        return self.last(self.body(images).mean((2, 3)))


@pytest.mark.parametrize("statistics", [False, True])
def test_statistics_move_only_when_asked_to(statistics):
    network = wrap(Normed(nn.Linear(4, 2)), n_classes=2)
    trained = prepare(network, [""], dropout=0.0, statistics=statistics)
    trained.set_training(True)
    before = network.module.body[1].running_mean.clone()
    network.module(torch.rand(4, 3, 32, 32))
    moved = not torch.equal(before, network.module.body[1].running_mean)
    assert moved == statistics == ("body.1.running_mean" in trained.names)


def test_dropout_is_set_where_it_is_and_added_where_it_is_not():
    network = wrap(Normed(nn.Dropout(0.9), nn.Linear(4, 2)), n_classes=2)
    trained = prepare(network, ["last"], dropout=0.25, statistics=False)
    assert [m.p for m in trained.in_training] == [0.25]
    assert network.module.body[3].p == 0.9  # not part of what is trained
    trained = prepare(make_tiny_network(), [""], dropout=0.25, statistics=False)
    assert [type(m) for m in trained.in_training] == [nn.Dropout]


def test_a_network_without_a_classifier_is_refused():
    network = wrap(nn.Conv2d(3, 4, 3), n_classes=4)
    with pytest.raises(NetworkError, match="no linear classifier to replace"):
        find_classifier(network)


def test_statistics_are_frozen_in_small_batches():
    assert not decide_statistics("auto", 31, 1, cuda=False)
    assert decide_statistics("auto", 32, 1, cuda=False)
    assert decide_statistics("auto", 32, 2, cuda=True)
    assert not decide_statistics("auto", 32, 2, cuda=False)
    with pytest.warns(CnnfeatWarning, match="CPU processes cannot share"):
        assert not decide_statistics("train", 32, 2, cuda=False)


# -- schedule and options --------------------------------------------------------------


def test_cosine_warms_up_and_falls_to_zero():
    schedule = Schedule("cosine", n_steps=100, n_warmup=10, patience=1)
    factors = [schedule.at(step) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 11) and factors[10] == 1.0
    assert all(a > b for a, b in itertools.pairwise(factors[10:]))
    assert factors[55] == pytest.approx(0.5) and factors[100] == pytest.approx(0)


def test_plateau_divides_by_ten_after_a_standstill():
    schedule = Schedule("plateau", n_steps=100, n_warmup=0, patience=2)
    for accuracy, factor in ((0.5, 1), (0.6, 1), (0.6, 1), (0.6, 0.1), (0.7, 0.1)):
        schedule.after_epoch(10, accuracy)
        assert schedule.at(50) == pytest.approx(factor)


def test_batch_norm_and_head_defaults():
    assert FinetuneOptions(train="head").augmentation == "none"
    assert FinetuneOptions().augmentation == "light"
    assert FinetuneOptions(optimizer="adamw").learning_rate == 1e-3
    assert math.isclose(FinetuneOptions().learning_rate, 0.01)
