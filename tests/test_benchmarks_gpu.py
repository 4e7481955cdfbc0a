"""`make bench-cuda` runs to its end where there is no GPU, and its parts work."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import gpu

    return gpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_succeeds(gpu, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    gpu.main()
    assert capsys.readouterr().out == "no CUDA device\n"


def test_wheels_are_installed_from_the_folder_alone(gpu, monkeypatch):
    lines = []
    monkeypatch.setattr(subprocess, "run", lambda line, check: lines.append(line))
    gpu.install("wheels")
    (line,) = lines
    assert line[1:4] == ["-m", "pip", "install"]
    assert "--no-index" in line and line[line.index("--find-links") + 1] == "wheels"


def test_images_are_jpegs_of_the_size_said(gpu, tmp_path):
    gpu.write_jpegs((tmp_path, range(4)))
    files = sorted(tmp_path.rglob("*.jpg"))
    found = []
    for path in files:
        with Image.open(path) as image:
            found.append(image.size)
    assert sorted(found) == sorted(gpu.SIZES)
    sizes = [path.stat().st_size for path in files]
    assert min(sizes) > 30_000 and max(sizes) < 150_000


def test_a_part_that_fails_or_has_no_time_is_not_measured(gpu, capsys):
    def fails():
        raise RuntimeError("no such\nkernel | here")

    table = gpu.Table(gpu.Clock(minutes=8))
    assert table.add("one", lambda: 1234.5) == 1234.5
    assert table.add("two", fails) is None
    gpu.Table(gpu.Clock(minutes=0)).add("three", pytest.fail)
    lines = capsys.readouterr().out.splitlines()
    assert "| one | 1,234 |" in lines or "| one | 1,235 |" in lines
    assert "| two | not measured (kernel / here) |" in lines
    assert lines[-1] == "| three | not measured |"
