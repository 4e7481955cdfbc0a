"""Damaged files, drawn at random: every command works, or says why on one line.

`CNNFEAT_FUZZ_CASES=5000 pytest tests/test_damage.py` draws more of them.
"""

import os
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from damage import damage_bytes, damage_file

from cnnfeat.cli.main import cli

N_CASES = int(os.environ.get("CNNFEAT_FUZZ_CASES", "80"))
# Predicting takes longest: once in so many cases.
_PREDICT_EVERY = 8


def run_or_one_line(arguments, told):
    result = CliRunner().invoke(cli, arguments)
    where = f"{told}: {' '.join(map(str, arguments))}\n{result.output}"
    if result.exception and not isinstance(result.exception, SystemExit):
        raise AssertionError(where) from result.exception
    assert result.exit_code in (0, 1), where
    lines = [line for line in result.stderr.splitlines() if "warning:" not in line]
    assert len(lines) == result.exit_code, where
    assert all(line.startswith("cnnfeat: ") for line in lines), where
    assert not any(c < " " and c != "\n" for c in result.output), where
    return result


@pytest.fixture(scope="module")
def head(colour_features, tmp_path_factory):
    path = tmp_path_factory.mktemp("heads") / "head.h5"
    arguments = ["--C", "1", "--train-per-class", "4", "--device", "cpu"]
    result = CliRunner().invoke(
        cli, ["train-softmax", str(colour_features), "-o", str(path), *arguments]
    )
    assert result.exit_code == 0, result.output
    return path


def test_damaged_feature_files(colour_features, head, tmp_path):
    path, n_refused = tmp_path / "f.h5", 0
    for seed in range(N_CASES):
        rng = np.random.default_rng((1, seed))
        shutil.copy(colour_features, path)
        told = f"case {seed}: {damage_file(path, rng)}"
        result = run_or_one_line(["info", str(path), "--json"], told)
        n_refused += result.exit_code
        run_or_one_line(["evaluate", str(head), str(path), "--rows", "all"], told)
        train = ["train-svm", str(path), "-o", str(tmp_path / "h.h5"), "--overwrite"]
        run_or_one_line([*train, "--C", "1", "--device", "cpu"], told)
    assert n_refused > 0.4 * N_CASES


def test_damaged_head_files(colour_features, colour_dir, head, tmp_path):
    path, n_refused = tmp_path / "head.h5", 0
    for seed in range(N_CASES):
        rng = np.random.default_rng((2, seed))
        shutil.copy(head, path)
        told = f"case {seed}: {damage_file(path, rng)}"
        n_refused += run_or_one_line(["info", str(path)], told).exit_code
        run_or_one_line(["evaluate", str(path), str(colour_features)], told)
        if seed % _PREDICT_EVERY == 0:
            image = str(colour_dir / "red" / "0.png")
            predict = ["predict", str(path), image, "--device", "cpu", "--workers", "0"]
            run_or_one_line([*predict, "--quiet"], told)
    assert n_refused > 0.4 * N_CASES


def test_files_with_other_bytes(colour_features, head, tmp_path):
    path = tmp_path / "f.h5"
    for seed in range(N_CASES // 4):
        rng = np.random.default_rng((3, seed))
        source = (colour_features, head)[seed % 2]
        shutil.copy(source, path)
        told = f"case {seed}: {damage_bytes(path, rng)}"
        run_or_one_line(["info", str(path)], told)
        files = [str(head), str(path)] if seed % 2 == 0 else [str(path), str(head)]
        run_or_one_line(["evaluate", *files], told)
