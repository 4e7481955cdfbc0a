"""No command writes over what it reads, over another output, or over no file."""

import os
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
from click.testing import CliRunner
from made_features import write_features

from cnnfeat.cli.main import cli
from cnnfeat.errors import OutputError
from cnnfeat.predict import PredictOptions, predict_images

# Whatever their bytes: a command is refused before it reads them.
FILES = ("head.h5", "w.safetensors", "ranges.toml", "images.tar")
# Other names of inputs, with the suffix that an output must have.
LINKS = {
    **{f"list.{end}": "list.csv" for end in ("h5", "jsonl")},
    **{f"image.{end}": "images/ant/0.png" for end in ("h5", "csv")},
    "bee.h5": "images/bee/1.png",
    "tar.h5": "images.tar",
    **{f"weights.{end}": "w.safetensors" for end in ("h5", "csv")},
    **{f"features.{end}": "features.h5" for end in ("csv", "png")},
    **{f"head.{end}": "head.h5" for end in ("csv", "png", "jsonl")},
    "made.csv": "class0/000.png",
    "train.csv": "lists/TrainImages.txt",
    "splits.svg": "splits.csv",
    **{f"ranges.{end}": "ranges.toml" for end in ("jsonl", "png")},
}
INPUTS_AS_OUTPUTS = (
    "extract list.csv -o list.h5",
    "extract images -o image.h5",
    "extract images.tar -o tar.h5",
    "extract images --weights w.safetensors -o weights.h5",
    "extract list.csv -o bee.h5",
    "train-svm features.h5 -o features.h5",
    "train-softmax features.h5 -o features.h5",
    "evaluate head.h5 features.h5 --predictions features.csv",
    "evaluate head.h5 features.h5 --predictions head.csv",
    "evaluate head.h5 features.h5 --confusion features.png",
    "evaluate head.h5 features.h5 --confusion head.png",
    "evaluate head.h5 features.h5 --per-class head.csv",
    "evaluate head.h5 features.h5 --mistakes features.png",
    "evaluate head.h5 features.h5 --labels splits.csv --mistakes splits.svg",
    "evaluate head.h5 images --per-class image.csv",
    "evaluate head.h5 images --mistakes images/ant/0.png",
    "evaluate w.safetensors list.csv --per-class list.csv",
    "benchmark features.h5 --splits-file report/splits.csv --report report",
    "benchmark features.h5 --report pictures",
    "splits features.h5 --train-per-class 1 -o features.csv",
    "splits features.h5 --train-per-class 1 -o made.csv",
    "splits list.csv --train-per-class 1 -o list.csv",
    "splits images --train-per-class 1 -o image.csv",
    "splits features.h5 --protocol mit67 --lists lists -o train.csv",
    "merge features.h5 -o features.h5",
    "export features.h5 -o features.npy",
    "import new.npy --paths list.csv -o list.h5",
    "finetune images --weights w.safetensors -o w.safetensors",
    "finetune images -o new.pth --init head.h5 --log-file head.jsonl",
    "finetune images -o new.pth --splits-file splits.csv --curves splits.svg",
    "finetune images -o new.pth --augment ranges.toml --log-file ranges.jsonl",
    "finetune list.csv -o new.pth --log-file list.jsonl",
    "finetune images -o new.pth --curves images/ant/0.png",
    "finetune images --show-augment images/ant/0.png",
    "finetune images --augment ranges.toml --show-augment ranges.png",
    "predict head.h5 images -o head.csv",
    "predict head.h5 list.csv -o list.csv",
    "predict head.h5 images -o image.csv",
)
# One file under several names.
BOTH = [f"both.{end}" for end in ("csv", "png", "svg", "pth", "jsonl")]
ONE_FILE_TWICE = (
    "evaluate head.h5 features.h5 --predictions both.csv --confusion both.png",
    "evaluate head.h5 features.h5 --predictions both.csv --per-class both.csv",
    "evaluate head.h5 images --mistakes both.svg --per-class both.csv",
    "evaluate head.h5 images --mistakes both.svg --confusion both.png",
    "finetune images -o both.pth --log-file both.jsonl",
    "finetune images -o new.pth --log-file both.jsonl --curves both.png",
    "finetune images -o both.pth --show-augment both.png",
    "finetune images -o new.pth --curves both.svg --show-augment both.png",
    "finetune images -o new.pth --curves new.png --show-augment new.png",
)
TO_ODD_PLACES = (
    "extract images -o odd/x.h5",
    "extract images -o odd/x.h5 --resume",
    "train-svm features.h5 -o odd/x.h5",
    "evaluate head.h5 features.h5 --predictions odd/x.csv",
    "evaluate head.h5 features.h5 --confusion odd/x.svg",
    "evaluate head.h5 features.h5 --mistakes odd/x.png",
    "evaluate head.h5 features.h5 --per-class odd/x.csv",
    "splits features.h5 --train-per-class 1 -o odd/x.csv",
    "finetune images -o odd/x.pth",
    "finetune images -o new.pth --log-file odd/x.jsonl",
    "finetune images -o new.pth --log-file odd/x.jsonl --resume",
    "finetune images --show-augment odd/x.pdf",
    "predict head.h5 images -o odd/x.csv",
)


@pytest.fixture
def folder(image_dir, tmp_path, monkeypatch) -> Path:
    """The current folder, with one of each input."""
    for name in FILES:
        (tmp_path / name).write_bytes(b"hand-made")
    names = [f"images/{one}/{k}.png" for one in ("ant", "bee") for k in range(4)]
    (tmp_path / "list.csv").write_text("\n".join(["path", *names]))
    write_features(tmp_path / "features.h5", n_per_class=2)
    lists = ("report/splits.csv", "splits.csv", "lists/TrainImages.txt")
    for name in (*lists, "class0/000.png", "pictures/table.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("hand-made")
    # An image of the feature file under a name that a report writes.
    os.link(tmp_path / "class0" / "000.png", tmp_path / "pictures" / "confusion.png")
    for link, name in LINKS.items():
        os.link(tmp_path / name, tmp_path / link)
    (tmp_path / BOTH[0]).write_text("hand-made")
    for link in BOTH[1:]:
        os.link(tmp_path / BOTH[0], tmp_path / link)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def refusal(folder: Path, line: str) -> str:
    """Return the one line that refuses a command, which leaves everything as it was."""
    before = contents(folder)
    # What `finetune` is doing comes before what it cannot do.
    quiet = ["--quiet"] if line.startswith("finetune") else []
    result = CliRunner().invoke(cli, [*line.split(), *quiet])
    assert result.exit_code == 1, result.output
    assert contents(folder) == before
    (told,) = result.stderr.splitlines()
    return told


@pytest.mark.parametrize("line", INPUTS_AS_OUTPUTS)
def test_an_input_is_never_an_output(folder, line):
    assert "is read by this command" in refusal(folder, f"{line} --overwrite")


def test_an_image_is_no_output_of_a_resumed_extraction(folder):
    line = "extract images -o image.h5 --resume"
    assert "is read by this command" in refusal(folder, line)


@pytest.mark.parametrize("overwrite", ["", " --overwrite"])
@pytest.mark.parametrize("line", ONE_FILE_TWICE)
def test_two_outputs_are_never_one_file(folder, line, overwrite):
    assert "are one file" in refusal(folder, line + overwrite)


@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.parametrize("line", TO_ODD_PLACES)
def test_what_is_no_regular_file_stays(folder, line, kind):
    (folder / "odd").mkdir()
    odd = folder / next(word for word in line.split() if word.startswith("odd/"))
    if kind == "pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to(folder / "there")
    (folder / "there").write_text("hand-made")
    again = "" if "--resume" in line else " --overwrite"
    told = refusal(folder, line + again)
    assert "symbolic link to" in told if kind == "link" else "a pipe" in told
    assert "--overwrite" not in told
    assert odd.is_symlink() if kind == "link" else odd.is_fifo()


def test_the_weights_behind_a_head_are_not_written_over(folder, monkeypatch):
    classifier = MagicMock(value_range="full")
    classifier.seen.among.return_value = np.empty(0, np.int64)
    classifier.extractor.network.weights.source = str(folder / "w.safetensors")
    monkeypatch.setattr("cnnfeat.predict._run.read_classifier", lambda *_: classifier)
    with pytest.raises(OutputError, match="is read by this command"):
        predict_images(
            "head.h5",
            "images",
            PredictOptions(overwrite=True),
            output_path="weights.csv",
        )
    assert (folder / "w.safetensors").read_bytes() == b"hand-made"
