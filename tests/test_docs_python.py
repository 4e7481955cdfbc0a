"""Every example of docs/python.md runs, in order, in one session."""

import re
from pathlib import Path

import pytest

import cnnfeat

PAGE = Path(__file__).resolve().parent.parent / "docs" / "python.md"


@pytest.mark.filterwarnings("ignore::cnnfeat.errors.CnnfeatWarning")
def test_the_examples_of_the_page_run(image_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) >= 8
    names = {"images": str(image_dir), "cnnfeat": cnnfeat}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)


def test_the_page_shows_what_a_notebook_needs():
    text = PAGE.read_text()
    for name in ("extract_arrays", "Tapper", "resolve_layers", "run_benchmark"):
        assert name in cnnfeat.__all__
        assert name in text
