"""The training room: what is trained, its tail, rates, checkpoints, divergence."""

import itertools

import numpy as np
import pytest
import torch
from tiny import make_tiny_network, wrap
from torch import nn

from cnnfeat.errors import (
    CnnfeatWarning,
    NetworkError,
    OutputError,
    ProvenanceError,
    StoreError,
)
from cnnfeat.interrupts import StopOnSignal
from cnnfeat.layers import find_classifier, network_stages
from cnnfeat.networks import load_network
from cnnfeat.training import (
    Checkpoint,
    EpochRecord,
    Tail,
    Trainer,
    TrainingRun,
    TrainingSettings,
    TrainingState,
    World,
    prepare,
    replace_classifier,
    split_tail,
)
from cnnfeat.training._schedule import Schedule, build_optimizer
from cnnfeat.training._state import interpolate
from cnnfeat.training._surgery import decide_statistics

ALONE = World()


@pytest.fixture(scope="module")
def squeezenet():
    """A network of three classes, and its new classifier."""
    network = load_network("squeezenet1_1", weights="random", device="cpu")
    generator = torch.Generator().manual_seed(0)
    return replace_classifier(network, find_classifier(network), 3, generator)


def read_by(classifier, network, images):
    """What the classifier reads for images."""
    read = []
    hook = classifier.module.register_forward_pre_hook(
        lambda _, args: read.append(args[0].clone())
    )
    with torch.no_grad():
        network.module(images)
    hook.remove()
    return read[0]


def test_a_convolution_may_be_the_classifier(squeezenet):
    network, classifier = squeezenet
    assert classifier.name == "classifier.1" and classifier.n_inputs == 512
    assert classifier.input_shape == (512, 13, 13)
    assert classifier.module is network.module.classifier[1]
    assert classifier.dropouts == (network.module.classifier[0],)
    assert network.module.num_classes == network.n_classes == 3
    assert float(classifier.module.weight.std()) == pytest.approx(0.01, rel=0.1)
    assert network.module(torch.zeros(2, 3, 224, 224)).shape == (2, 3)


def test_the_new_classifier_is_what_would_be_found(squeezenet):
    network, classifier = squeezenet
    assert vars(find_classifier(network)) == vars(classifier)


def test_the_tail_gives_the_networks_scores(squeezenet):
    network, classifier = squeezenet
    first, images = torch.rand(3, 2, 3, 224, 224)[:2]
    tail = split_tail(network, classifier, first, read_by(classifier, network, first))
    with torch.no_grad():
        expected = network.module(images)
        found = tail(read_by(classifier, network, images))
    torch.testing.assert_close(found, expected)


def test_a_tail_with_other_scores_is_none():
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(3072, 2)

        def forward(self, images):
            return 2 * self.last(images.flatten(1))

    network = wrap(Doubled(), n_classes=2)
    images = torch.rand(1, 3, 32, 32)
    classifier = find_classifier(network)
    assert split_tail(network, classifier, images, images.flatten(1)) is None


def test_the_gradient_of_the_new_classifier_is_numerically_right():
    network = make_tiny_network(n_classes=3)
    classifier, images = find_classifier(network), torch.rand(1, 3, 32, 32)
    inputs = read_by(classifier, network, images)
    tail = split_tail(network, classifier, images, inputs)
    assert tail is not None
    tail = tail.double().requires_grad_(True)
    features = torch.rand(4, 96, dtype=torch.double)
    labels = torch.tensor([0, 1, 2, 1])

    def loss(weight, bias):
        scores = torch.func.functional_call(
            tail, {"classifier.weight": weight, "classifier.bias": bias}, (features,)
        )
        return torch.nn.functional.cross_entropy(scores, labels)

    weight, bias = tail.classifier.weight, tail.classifier.bias
    assert torch.autograd.gradcheck(loss, (weight, bias))


def test_a_constant_lifts_scores_above_a_relu():
    classifier = nn.Conv2d(4, 3, 1)
    tail = Tail(classifier, [nn.ReLU(), nn.AdaptiveAvgPool2d(1)])
    features = torch.randn(5, 4, 2, 2)
    with torch.no_grad():
        linear = classifier(features).mean((2, 3))
        tail.lift_above_relu(features)
        lifted = tail(features)
    torch.testing.assert_close(lifted.softmax(1), linear.softmax(1))


def prepare_all(network, settings, modules=("",)):
    return prepare(network, find_classifier(network), modules, settings, ALONE)


@pytest.mark.parametrize(("optimizer", "power"), [("sgd", 2), ("adamw", 1)])
def test_a_step_moves_the_scores_alike_for_larger_features(optimizer, power):
    settings = TrainingSettings(optimizer=optimizer, lr=0.1, weight_decay=0.0)
    features = torch.rand(5, 3 * 32 * 32, generator=torch.Generator().manual_seed(0))
    moved = []
    for scale in (1.0, 10.0):
        network = wrap(nn.Sequential(nn.Flatten(), nn.Linear(3072, 2)), n_classes=2)
        trained = prepare_all(network, settings)
        classifier = network.module[1]
        scaled = scale * features
        optimizer_ = build_optimizer(trained, settings, scale)
        lr = optimizer_.param_groups[0]["lr"]
        assert lr == pytest.approx(0.1 / scale**power)
        before = classifier.weight.detach().clone()
        classifier(scaled)[:, 0].sum().backward()
        optimizer_.step()
        moved.append(scaled @ (classifier.weight.detach() - before).T)
    torch.testing.assert_close(*moved, rtol=1e-3, atol=1e-3)


def test_small_features_keep_the_rate():
    network = wrap(nn.Sequential(nn.Flatten(), nn.Linear(3072, 2)), n_classes=2)
    settings = TrainingSettings(lr=0.3)
    optimizer = build_optimizer(prepare_all(network, settings), settings, 0.1)
    assert optimizer.param_groups[0]["lr"] == 0.3


def test_stages_are_the_networks_own(squeezenet):
    names = [stage.name for stage in network_stages(squeezenet[0])]
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
    choice = "train" if statistics else "frozen"
    trained = prepare_all(network, TrainingSettings(batch_norm=choice))
    trained.set_training(True)
    before = network.module.body[1].running_mean.clone()
    network.module(torch.rand(4, 3, 32, 32))
    moved = not torch.equal(before, network.module.body[1].running_mean)
    assert moved == statistics == ("body.1.running_mean" in trained.names)


def test_dropout_is_set_where_it_is_and_added_where_it_is_not():
    network = wrap(Normed(nn.Dropout(0.9), nn.Linear(4, 2)), n_classes=2)
    settings = TrainingSettings(dropout=0.25)
    trained = prepare_all(network, settings, ["last"])
    assert [m.p for m in trained.in_training] == [0.25]
    assert network.module.body[3].p == 0.9  # not part of what is trained
    trained = prepare_all(make_tiny_network(), settings)
    assert [type(m) for m in trained.in_training] == [nn.Dropout]


def test_a_network_without_a_classifier_is_refused():
    network = wrap(nn.Conv2d(3, 4, 3), n_classes=4)
    with pytest.raises(NetworkError, match="no linear classifier to replace"):
        find_classifier(network)


@pytest.mark.parametrize(
    ("batch_size", "size", "on_cuda", "expected"),
    [
        (31, 1, False, False),
        (32, 1, False, True),
        (32, 2, True, True),
        (32, 2, False, False),
    ],
)
def test_statistics_are_frozen_in_small_batches(batch_size, size, on_cuda, expected):
    settings = TrainingSettings(batch_size=batch_size)
    assert decide_statistics(settings, World(0, size), on_cuda) == expected


def test_cpu_processes_cannot_share_statistics():
    settings = TrainingSettings(batch_norm="train")
    with pytest.warns(CnnfeatWarning, match="CPU processes cannot share"):
        assert not decide_statistics(settings, World(0, 2), on_cuda=False)


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


def record(epoch, accuracy, loss=1.0):
    return EpochRecord(epoch, 1.0, loss, accuracy, 0.1, 1.0, 1.0)


def test_the_best_epoch_is_the_most_accurate_then_the_surest():
    state = TrainingState()
    told = [(0.5, 1.0), (0.4, 0.1), (0.5, 0.9), (0.5, 0.9), (0.6, 2.0)]
    best = [state.add(record(k, *one)) for k, one in enumerate(told, start=1)]
    assert best == [True, False, True, False, True] and state.best_epoch == 5
    assert (state.epoch, state.step) == (5, 0)


def test_without_validation_the_last_epoch_is_kept():
    state = TrainingState()
    assert all(state.add(record(k, None, None)) for k in (1, 2, 3))


def test_a_state_survives_its_description():
    state = TrainingState(best={"w": torch.ones(2)}, step=3, loss_sum=0.5)
    state.add(record(1, 0.5))
    assert TrainingState.from_dict(state.to_dict()) == state


def test_counts_are_not_interpolated():
    trained = {"n": torch.tensor(7), "w": torch.tensor([2.0])}
    start = {"n": torch.tensor(0), "w": torch.tensor([0.0])}
    mixed = interpolate(trained, start, 0.25)
    assert mixed["n"] == 7 and mixed["w"] == 1.5


def test_damaged_checkpoints_are_named(tmp_path):
    checkpoint = Checkpoint(tmp_path / "w.safetensors.part", {"lr": 1})
    assert checkpoint.load() is None
    checkpoint.save({"epoch": 3})
    assert checkpoint.load() == {"epoch": 3}
    with pytest.raises(ProvenanceError, match="lr is 1 there and 2 here"):
        Checkpoint(checkpoint.path, {"lr": 2}).load()
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:100])
    with pytest.raises(StoreError, match="damaged"):
        checkpoint.load()
    checkpoint.path.write_bytes(b"")
    with pytest.raises(StoreError, match="damaged"):
        checkpoint.load()


def test_a_checkpoint_that_does_not_fit_is_one_line_and_keeps_the_last(
    tmp_path, small_files
):
    checkpoint = Checkpoint(tmp_path / "w.part", {})
    checkpoint.save({"epoch": 1})
    with small_files, pytest.raises(OutputError, match="File too large") as failed:
        checkpoint.save({"weights": torch.zeros(100_000)})
    assert "\n" not in str(failed.value)
    assert checkpoint.load() == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["w.part"]


class _Rows:
    """Given inputs by row, the same in every epoch."""

    def __init__(self, X):
        self._X = X

    def evaluation(self, batches):
        return (self._X[batch] for batch in batches)

    def training(self, epoch, batches):
        return self.evaluation(batches)


def one_step(tmp_path, X, y, class_weights):
    """Return the classifier's weights after one step on all rows."""
    network = make_tiny_network(n_classes=2)
    classifier = find_classifier(network)
    settings = TrainingSettings(
        epochs=1, warmup_epochs=0, batch_size=64, class_weights=class_weights, lr=0.1
    )
    trained = prepare(network, classifier, [classifier.name], settings, ALONE)
    run = TrainingRun(
        model=Tail(classifier.module, []),
        trained=trained,
        inputs=_Rows(X),
        train=np.arange(len(y)),
        validation=np.arange(0),
        y=np.asarray(y),
        n_classes=2,
        input_scale=1.0,
        settings=settings,
        world=ALONE,
        device=torch.device("cpu"),
    )
    checkpoint = Checkpoint(tmp_path / "c.part", {})
    told = []
    with StopOnSignal() as stop:
        Trainer(run, checkpoint, stop, lambda *a: told.append(a), told.append).train()
    assert told[0][:2] == (len(y), len(y)) and told[0][2] == told[1].loss
    return trained.state()["classifier.weight"]


def test_balanced_classes_count_as_if_the_small_one_were_repeated(tmp_path):
    X = torch.rand(4, 96, generator=torch.Generator().manual_seed(0))
    repeated = torch.cat([X, X[3:], X[3:]])
    balanced = one_step(tmp_path, X, [0, 0, 0, 1], "balanced")
    expected = one_step(tmp_path, repeated, [0, 0, 0, 1, 1, 1], "none")
    torch.testing.assert_close(balanced, expected)
    plain = one_step(tmp_path, X, [0, 0, 0, 1], "none")
    assert not torch.allclose(plain, expected)
