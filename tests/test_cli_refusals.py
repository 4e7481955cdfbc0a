"""What is wrong with a command line is told before any work, in one line, status 2."""

import errno
import os

import pytest
import torch
from click.testing import CliRunner
from conftest import FIRST_BLOCK

from cnnfeat.cli.main import cli

# Neither the images nor the files exist: whoever looked for them would say so.
SUFFIXES = {
    "extract i -o f.npz": ".h5 or .hdf5",
    "extract i -o f": ".h5 or .hdf5",
    "extract i -o -": ".h5 or .hdf5",
    "train-svm f.h5 -o s.pkl": ".h5 or .hdf5",
    "train-softmax f.h5 -o -": ".h5 or .hdf5",
    "evaluate h.h5 f.h5 --confusion c.jpg": ".pdf or .png or .svg",
    "evaluate h.h5 f.h5 --confusion -": ".pdf or .png or .svg",
    "evaluate h.h5 f.h5 --predictions p.json": ".csv",
    "evaluate h.h5 f.h5 --per-class c.json": ".csv",
    "evaluate w.pth i --per-class -": ".csv",
    "evaluate h.h5 f.h5 --mistakes m.jpg": ".pdf or .png or .svg",
    "evaluate w.pth i --mistakes -": ".pdf or .png or .svg",
    "splits f.h5 -o s.txt": ".csv",
    "splits i -o -": ".csv",
    "predict h.h5 i -o o.json": ".csv",
    "predict h.h5 i -o -": ".csv",
    "finetune i -o w.ckpt": ".pth or .safetensors",
    "finetune i -o -": ".pth or .safetensors",
    "finetune i -o w.pth --log-file l.csv": ".jsonl",
    "finetune i -o w.pth --curves c.gif": ".pdf or .png or .svg",
    "finetune i --show-augment s.txt": ".pdf or .png or .svg",
}
CONTRADICTIONS = {
    "extract i -o f.h5 --max-failed 101%": "'101%' is neither a number",
    "extract i -o f.h5 --max-failed few": "'few' is neither a number",
    "train-svm f.h5 -o h.h5 --test-per-class 2": "give both",
    "benchmark f.h5 --protocol caltech": "nearest: caltech",
    "finetune i -o w.pth --schedule plateau --validation 0": "--validation above 0",
    "finetune i -o w.pth --interpolate 0.5 --init noise": "leave --init out",
    "finetune i -o w.pth --splits-file s --train-per-class 2": "does not go with it",
    "finetune i -o w.pth --batch-norm train --batch-size 1": "--batch-norm frozen",
}
OF_FEATURES = {
    "benchmark {} --train-sizes 2,3 --train-per-class 3": "exclude each other",
    "benchmark {} --train-sizes 2,3 --lists l": "excludes --lists",
    "benchmark {} --splits-file s.csv --splits 3": "--splits does not go with it",
    "splits {} -o s.csv --protocol caltech": "nearest: caltech",
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command line that has to be refused, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def refused(line, status=2):
        result = CliRunner().invoke(
            cli, line if isinstance(line, list) else line.split()
        )
        assert result.exit_code == status, result.output
        assert result.stdout == ""
        assert os.listdir(tmp_path) == []
        return result.stderr.splitlines()[-1]

    return refused


@pytest.mark.parametrize("line", SUFFIXES)
def test_a_suffix_that_is_not_written_is_refused_before_any_work(run, line):
    assert run(line).endswith(f"expected a name that ends in {SUFFIXES[line]}")


@pytest.mark.parametrize("line", CONTRADICTIONS)
def test_options_that_contradict_each_other_are_wrong_usage(run, line):
    assert CONTRADICTIONS[line] in run(line)


@pytest.mark.parametrize("line", OF_FEATURES)
def test_contradicting_options_of_rows_are_wrong_usage(run, line, colour_features):
    assert OF_FEATURES[line] in run(line.format(colour_features))


def test_an_augmentation_that_there_is_not_is_wrong_usage(run, colour_dir):
    told = run(f"finetune {colour_dir} -o w.pth --augment wild")
    assert "--augment wild: expected none, light, classic" in told


def test_tensorboard_that_is_missing_is_told_first(run, monkeypatch):
    monkeypatch.setattr("cnnfeat.finetune._options.find_spec", lambda name: None)
    told = run("finetune i -o w.pth --tensorboard events")
    assert told.startswith("cnnfeat: --tensorboard needs the package tensorboard")


@pytest.mark.parametrize(
    "wrong",
    [("--compare", "nothing", "else"), ("--train-per-class", "100"), ("--lists", "l")],
)
def test_a_benchmark_extracts_no_baseline_for_options_that_are_wrong(
    colour_dir, tmp_path, wrong
):
    arguments = ["extract", str(colour_dir), "-o", str(tmp_path / "f.h5"), *FIRST_BLOCK]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    line = ["benchmark", str(tmp_path / "f.h5"), "--baseline", "pixels,random"]
    if "--train-per-class" not in wrong:
        line += ["--train-per-class", "4"]
    if "--lists" in wrong:
        line += ["--protocol", "mit67"]
    result = CliRunner().invoke(cli, [*line, *wrong])
    assert result.exit_code in (1, 2), result.output
    assert os.listdir(tmp_path) == ["f.h5"]


LONG = "x" * 300
LONG_NAMES = (
    f"extract {LONG} -o f.h5",
    f"extract i -o {LONG}.h5",
    f"extract i --weights {LONG}.pth -o {LONG}.h5",
    f"train-svm {LONG}.h5 -o h.h5",
    f"train-softmax f.h5 -o {LONG}.h5",
    f"evaluate {LONG}.h5 f.h5",
    f"evaluate h.h5 f.h5 --predictions {LONG}.csv",
    f"splits {LONG}.h5 -o s.csv",
    f"splits f.h5 -o {LONG}.csv",
    f"benchmark {LONG}.h5",
    f"predict {LONG}.h5 i",
    f"predict {LONG}.pth i",
    f"predict h.h5 i -o {LONG}.csv",
    f"finetune i -o {LONG}.pth",
    f"finetune i --show-augment {LONG}.png",
    f"info {LONG}",
    f"download caltech101 {LONG}",
    f"weights alexnet {LONG}",
)


@pytest.mark.parametrize(
    "line", LONG_NAMES, ids=lambda line: line.replace(LONG, "LONG")
)
def test_a_name_that_is_too_long_is_one_line(run, line):
    assert run(line, status=1).startswith("cnnfeat: ")


def test_a_name_whose_temporary_would_be_too_long_is_refused_first(run):
    told = run(f"train-svm f.h5 -o {'x' * 245}.h5", status=1)
    assert told.endswith(f"cannot be written: {os.strerror(errno.ENAMETOOLONG)}")


CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't "
    "allocate memory: you tried to allocate 9 bytes."
)
VERBS = {
    "extract i -o f.h5": ("extract.extract_features", "a smaller --batch-size"),
    "predict h.h5 i": ("predict.predict_images", "a smaller --batch-size"),
    "finetune i -o w.pth": ("finetune.finetune_network", "a smaller --batch-size"),
    "train-svm f.h5 -o h.h5": ("train.train_head", "fewer or smaller layers"),
    "train-softmax f.h5 -o h.h5": ("train.train_head", "fewer or smaller layers"),
    "benchmark f.h5": ("benchmark.run_benchmark", "--memory-mib 1000"),
    "evaluate h.h5 f.h5": ("evaluate.evaluate_model", "a smaller --batch-size"),
    "splits f.h5 -o s.csv": ("benchmark.write_splits", "--pool avg"),
}


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        CPU,
        torch.OutOfMemoryError("CUDA out of memory. Tried"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=["numpy", "torch on the CPU", "torch on a GPU", "the system"],
)
@pytest.mark.parametrize("line", VERBS)
def test_memory_that_runs_out_is_one_line_with_the_cure(run, monkeypatch, line, error):
    verb, cure = VERBS[line]

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(f"cnnfeat.{verb}", fail)
    told = run(line, status=1)
    assert told.startswith("cnnfeat: out of memory: ") and cure in told


def test_an_error_that_only_looks_like_it_is_not_hidden(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr("cnnfeat.train.train_head", fail)
    result = CliRunner().invoke(cli, ["train-svm", "f.h5", "-o", "h.h5"])
    assert isinstance(result.exception, RuntimeError)
