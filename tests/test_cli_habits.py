"""What every command has in common: short flags, lists, groups, the environment."""

import csv
import json

import click
import pytest
from click.testing import CliRunner

from cnnfeat.cli.command import environment_name, flag_of
from cnnfeat.cli.main import COMMANDS, cli
from cnnfeat.errors import CnnfeatError, CnnfeatWarning, OptionError
from cnnfeat.store import open_features
from cnnfeat.train import TrainOptions, train_head


def command_of(name):
    return cli.get_command(click.Context(cli), name)


def run(*arguments, **more):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], **more)


class Asked(Exception):
    """Carries what a command handed to its verb."""


@pytest.fixture
def asked(monkeypatch):
    """Return a function: a command line -> the options that its verb is handed."""

    def ask(*args, **kwargs):
        raise Asked(next(one for one in args if hasattr(one, "__dataclass_fields__")))

    for verb in (
        *("extract.extract_features", "train.train_head", "benchmark.run_benchmark"),
        "finetune.finetune_network",
    ):
        monkeypatch.setattr(f"cnnfeat.{verb}", ask)

    def options(line, **more):
        result = run(*line.split(), **more)
        assert isinstance(result.exception, Asked), result.output
        return result.exception.args[0]

    return options


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_quiet_verbose_or_json_alike(name):
    flags = {flag for param in command_of(name).params for flag in param.opts}
    assert {"-q", "--quiet", "-v", "--verbose", "--json"} <= flags


def test_the_version_has_a_short_flag():
    assert run("-V").stdout == run("--version").stdout


def test_verbose_ends_with_the_time_that_it_took(colour_features):
    told = run("info", colour_features, "-v").stderr.splitlines()
    assert told[-1].startswith("cnnfeat: info: ") and told[-1].endswith(" s in all")
    assert run("info", colour_features).stderr == ""


@pytest.mark.parametrize(
    ("line", "field", "expected"),
    [
        ("extract i -o f.h5 --layer a,b --layer c", "layers", ("a", "b", "c")),
        ("extract i -o f.h5 --layer a,b,a", "layers", ("a", "b")),
        ("benchmark f.h5 --layer a+b,c", "layers", ("a+b", "c")),
        ("benchmark f.h5 --head svm,softmax", "heads", ("svm", "softmax")),
        ("benchmark f.h5 --head softmax --head svm", "heads", ("softmax", "svm")),
        (
            "benchmark f.h5 --baseline pixels --baseline random",
            "baselines",
            ("pixels", "random"),
        ),
        ("train-svm f.h5 -o h.h5 --C 1,0.1 --C 10", "C", (0.1, 1.0, 10.0)),
        ("train-svm f.h5 -o h.h5 --exclude a,b", "exclude_classes", ("a", "b")),
        (r"train-svm f.h5 -o h.h5 --exclude a\,b", "exclude_classes", ("a,b",)),
    ],
)
def test_lists_are_repeated_or_have_commas(line, field, expected, asked):
    assert getattr(asked(line), field) == expected


def test_a_head_of_no_kind_is_wrong_usage():
    result = run("benchmark", "f.h5", "--head", "svm,tree")
    assert result.exit_code == 2
    assert "'tree' is neither svm nor softmax" in result.stderr


def test_the_options_of_finetune_stand_in_groups_each_once():
    lines = run("finetune", "--help").stdout.splitlines()
    titles = [line for line in lines if line.endswith(":") and line[0] != " "]
    assert len(titles) >= 5
    for param in command_of("finetune").params:
        flag = flag_of(param)
        shown = [ln for ln in lines if f" {flag} " in f"{ln.partition('  --')[0]} "]
        listed = [ln for ln in lines if ln.startswith((f"  {flag}", f"  -o, {flag}"))]
        assert isinstance(param, click.Argument) or shown or listed, flag


@pytest.mark.parametrize(
    ("line", "variable", "text", "field", "expected"),
    [
        ("extract i -o f.h5", "CNNFEAT_EXTRACT_MODEL", "alexnet", "model", "alexnet"),
        ("extract i -o f.h5", "CNNFEAT_EXTRACT_LAYER", "a,b", "layers", ("a", "b")),
        ("extract i -o f.h5", "CNNFEAT_EXTRACT_OVERWRITE", "1", "overwrite", True),
        ("train-svm f.h5 -o h.h5", "CNNFEAT_TRAIN_SVM_C", "1,2", "C", (1.0, 2.0)),
        ("train-svm f.h5 -o h.h5", "CNNFEAT_TRAIN_SVM_PCA", "8", "n_components", 8),
        ("finetune i -o w.pth", "CNNFEAT_FINETUNE_FROZEN", "0", "frozen", False),
    ],
)
def test_the_environment_holds_defaults(line, variable, text, field, expected, asked):
    assert getattr(asked(line, env={variable: text}), field) == expected


def test_what_is_typed_counts_more_than_the_environment(asked):
    env = {"CNNFEAT_EXTRACT_MODEL": "alexnet"}
    assert asked("extract i -o f.h5 --model vgg11", env=env).model == "vgg11"


def test_a_wrong_default_in_the_environment_is_wrong_usage():
    env = {"CNNFEAT_EXTRACT_WORKERS": "many"}
    result = run("extract", "i", "-o", "f.h5", env=env)
    assert result.exit_code == 2
    assert "--workers" in result.stderr


def test_each_option_has_a_variable_of_its_own():
    names = [
        environment_name(command_of(command), param)
        for command in COMMANDS
        for param in command_of(command).params
    ]
    assert len(set(names)) == len(names)
    assert "CNNFEAT_CACHE" not in names  # the folder of converted networks


def test_errors_speak_of_arguments_in_python_and_of_options_in_a_shell(
    colour_features, tmp_path
):
    options = TrainOptions(test_per_class=3)
    with pytest.raises(OptionError) as caught:
        train_head(str(colour_features), str(tmp_path / "h.h5"), options)
    assert "`test_per_class`" in str(caught.value)
    assert "--" not in str(caught.value)
    result = run(
        *("train-svm", colour_features, "-o", tmp_path / "h.h5"),
        *("--test-per-class", 3),
    )
    assert result.exit_code == 2
    assert "--test-per-class draws from the rows that --train-per-class" in (
        result.stderr
    )
    assert "`" not in result.stderr


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("give `overwrite`", "give --overwrite"),
        ("give `pool=avg`", "give --pool avg"),
        ("without `n_components`", "without --pca"),
        ("a `path` column", "a `path` column"),
        ("`cnnfeat layers` lists", "`cnnfeat layers` lists"),
    ],
)
def test_arguments_are_shown_as_options(message, shown, monkeypatch):
    def fail(*_, **__):
        import warnings

        warnings.warn(message, CnnfeatWarning, stacklevel=1)
        raise CnnfeatError(message)

    monkeypatch.setattr("cnnfeat.store.file_summary", fail)
    told = run("info", "file.h5").stderr.splitlines()
    assert told == [f"cnnfeat: warning: {shown}", f"cnnfeat: {shown}"]


def test_a_feature_file_says_what_it_is(colour_features):
    with open_features(colour_features) as features:
        told = repr(features)
    assert "colours.h5" in told
    assert "24 images, 3 classes, features.1 64" in told


def complete(words, *, n_typed):
    """Return what a shell would be offered after `words`."""
    env = {
        "_CNNFEAT_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(n_typed),
    }
    result = CliRunner().invoke(cli, [], prog_name="cnnfeat", env=env)
    return [line.partition(",")[2] for line in result.stdout.splitlines()]


def test_commands_and_options_are_completed():
    assert complete(["cnnfeat", "train"], n_typed=1) == [
        *("train", "train-svm", "train-softmax"),
    ]
    assert "--signed-sqrt" in complete(["cnnfeat", "train-svm", "--si"], n_typed=2)


def test_files_are_completed_by_the_shell():
    env = {
        "_CNNFEAT_COMPLETE": "bash_complete",
        "COMP_WORDS": "cnnfeat extract ima",
        "COMP_CWORD": "2",
    }
    result = CliRunner().invoke(cli, [], prog_name="cnnfeat", env=env)
    assert result.stdout.startswith("file,")


def test_networks_and_layers_are_completed():
    networks = complete(["cnnfeat", "extract", "--model", "resnet1"], n_typed=3)
    assert networks[:2] == ["resnet101", "resnet152"]
    line = ["cnnfeat", "extract", "--model", "alexnet", "--layer", "classifier."]
    assert "classifier.5" in complete(line, n_typed=5)
    line[-1] = "features.1,classifier.5"
    assert complete(line, n_typed=5) == ["features.1,classifier.5"]
    assert complete(["cnnfeat", "models", "squeezenet1_"], n_typed=2) == [
        "squeezenet1_0",
        "squeezenet1_1",
    ]
    layers = complete(["cnnfeat", "layers", "resnet50", "layer4.2.conv"], n_typed=3)
    assert layers == [f"layer4.2.conv{k}" for k in (1, 2, 3)]


@pytest.fixture(scope="module")
def twelve_classes(tmp_path_factory):
    """A feature file of twelve made classes, and an SVM on some of its images."""
    from made_features import write_features

    folder = tmp_path_factory.mktemp("twelve")
    write_features(folder / "f.h5", n_classes=12)
    trained = run(
        *("train-svm", folder / "f.h5", "-o", folder / "h.h5", "--layer", "layer10"),
        *("--C", 1, "--train-per-class", 6),
    )
    assert trained.exit_code == 0, trained.output
    return folder


def test_of_many_classes_the_worst_are_printed_and_all_written(
    twelve_classes, tmp_path, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "80")
    files = (twelve_classes / "h.h5", twelve_classes / "f.h5")
    asked = ("evaluate", *files, "--per-class", tmp_path / "c.csv")
    lines = run(*asked).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    shown = [line.split() for line in lines if line.startswith("class")][1:]
    accuracies = [float(words[-1]) for words in shown]
    assert len(shown) == 10 and accuracies == sorted(accuracies)
    rows = list(csv.DictReader((tmp_path / "c.csv").read_text().splitlines()))
    told = json.loads(run(*asked, "--overwrite", "--json").stdout)
    written = {row["class"]: float(row["accuracy"]) for row in rows}
    assert written == told["per_class_accuracy"]
    assert [int(row["n_images"]) for row in rows] == [6] * 12
    assert 100 * min(told["per_class_accuracy"].values()) == pytest.approx(
        accuracies[0], abs=0.05
    )
    refused = run(*asked)
    assert refused.exit_code == 1 and "exists already" in refused.stderr


def test_counts_of_several_splits_are_no_shape(twelve_classes, tmp_path):
    asked = ("splits", twelve_classes / "f.h5", "-o", tmp_path / "s.csv")
    lines = run(*asked, "--train-per-class", 5, "--splits", 3).stdout.splitlines()
    (train,) = [line for line in lines if line.startswith("n train")]
    assert train.split() == ["n", "train", "60", "each"]
