"""`cnnfeat extract`: what it prints, what it refuses, what it leaves behind."""

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import FIRST_BLOCK
from PIL import Image

from cnnfeat.cli.main import cli
from cnnfeat.errors import ImageError
from cnnfeat.store._journal import journal_path, read_journal


def run(*arguments, stdin=None):
    return CliRunner().invoke(cli, ["extract", *map(str, arguments)], input=stdin)


def failed(result, *words):
    """Assert exit 1, one line on stderr with `words` in it, nothing on stdout."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in result.stderr


def test_json_has_the_documented_keys(image_dir, tmp_path):
    output = tmp_path / "f.h5"
    result = run(image_dir, "-o", output, *FIRST_BLOCK, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert result.stderr == ""
    assert (record["n_images"], record["n_ok"], record["n_failed"]) == (12, 12, 0)
    assert record["layers"] == {"features.1": [64]}
    assert record["images_per_second"] > 0
    assert record["seconds"] > 0


def test_rows_are_sorted_by_class_then_path(image_dir, tmp_path):
    output = tmp_path / "f.h5"
    run(image_dir, "-o", output, *FIRST_BLOCK)
    with h5py.File(output) as file:
        paths = file["images/path"].asstr()[:].tolist()
        labels = file["images/label"][:].tolist()
        assert file.attrs["format"] == "cnnfeat-features"
        assert bool(file.attrs["complete"])
    assert paths == sorted(paths)
    assert labels == [0] * 4 + [1] * 4 + [2] * 4


def test_workers_and_batch_size_do_not_change_the_features(image_dir, tmp_path):
    reference, other = tmp_path / "a.h5", tmp_path / "b.h5"
    run(image_dir, "-o", reference, *FIRST_BLOCK, "--batch-size", 12)
    run(image_dir, "-o", other, *FIRST_BLOCK, "--workers", 2, "--batch-size", 5)
    with h5py.File(reference) as a, h5py.File(other) as b:
        expected = a["features/features.1"][:]
        np.testing.assert_allclose(b["features/features.1"][:], expected, rtol=1e-5)


def test_an_unreadable_image_keeps_its_row(image_dir, tmp_path):
    (image_dir / "bee" / "1.png").write_bytes(b"not an image")
    output = tmp_path / "f.h5"
    result = run(image_dir, "-o", output, *FIRST_BLOCK, "--json")
    assert json.loads(result.stdout)["n_failed"] == 1
    assert "bee/1.png" in result.stderr
    with h5py.File(output) as file:
        row = file["images/path"].asstr()[:].tolist().index("bee/1.png")
        assert not file["images/ok"][row]
        assert file["images/error"].asstr()[row]
        assert not file["features/features.1"][row].any()
        assert file["images/ok"][:].sum() == 11


def test_on_error_fail_stops_and_leaves_nothing(image_dir, tmp_path):
    (image_dir / "bee" / "1.png").write_bytes(b"not an image")
    output = tmp_path / "out" / "f.h5"
    output.parent.mkdir()
    result = run(image_dir, "-o", output, *FIRST_BLOCK, "--on-error", "fail")
    failed(result, "bee/1.png", "--on-error skip")
    assert os.listdir(output.parent) == []


def damage(folder, n):
    for path in sorted(folder.rglob("*.png"))[:n]:
        path.write_bytes(b"not an image")


@pytest.mark.parametrize(
    ("n_damaged", "limit", "is_kept"),
    [
        *((6, (), True), (7, (), False)),  # half of 12 by default
        *((1, ("--max-failed", "1"), True), (2, ("--max-failed", "1"), False)),
        *((1, ("--max-failed", "10%"), True), (2, ("--max-failed", "10%"), False)),
        *((11, ("--max-failed", "100%"), True), (12, ("--max-failed", "100%"), False)),
        (12, (), False),
    ],
)
def test_too_many_failed_images_write_nothing(
    image_dir, tmp_path, n_damaged, limit, is_kept
):
    damage(image_dir, n_damaged)
    output = tmp_path / "out" / "f.h5"
    output.parent.mkdir()
    result = run(image_dir, "-o", output, *FIRST_BLOCK, *limit)
    if is_kept:
        assert result.exit_code == 0, result.output
        assert os.listdir(output.parent) == ["f.h5"]
        return
    which = "none of the 12" if n_damaged == 12 and limit else "images"
    failed(result, which, str(image_dir), "the first is ant/0.png: ")
    assert os.listdir(output.parent) == []


def test_a_missing_root_is_named(tmp_path):
    """A manifest that was moved away from its images."""
    (tmp_path / "list.csv").write_text("path\na.png\nb.png\n")
    result = run(tmp_path / "list.csv", "-o", tmp_path / "f.h5", *FIRST_BLOCK)
    failed(result, f"none of the 2 images under {tmp_path}", "a.png", "give --root DIR")
    assert os.listdir(tmp_path) == ["list.csv"]


def test_rows_kept_before_too_many_failed_stay_for_resume(image_dir, tmp_path):
    output = tmp_path / "f.h5"
    options = (*FIRST_BLOCK, "--batch-size", 4, "--engine", "eager")
    damage(image_dir / "cat", 4)  # the last four

    def stop(batch, *_):
        if batch.stop == 8:
            raise ImageError("stopped")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnnfeat.extraction._run.SECONDS_BETWEEN_COMMITS", -1.0)
        patch.setattr("cnnfeat.extract._job.refuse_failures", stop)
        failed(run(image_dir, "-o", output, *options), "stopped")
    rows = read_journal(journal_path(output)).rows_done
    assert rows >= 4
    result = run(image_dir, "-o", output, *options, "--resume", "--max-failed", 0)
    failed(result, "more than the 0 that may fail", "cat/0.png")
    assert read_journal(journal_path(output)).rows_done >= rows


def test_a_folder_among_the_paths_is_one_line(image_dir, tmp_path):
    output = tmp_path / "f.h5"
    lines = f"{image_dir}/ant/0.png\n{image_dir}/bee\n"
    result = run("-", "-o", output, *FIRST_BLOCK, stdin=lines)
    failed(result, "standard input: line 2", f"{image_dir}/bee is a folder")
    manifest = tmp_path / "list.csv"
    manifest.write_text("path\nimages/ant/0.png\nimages/bee\n")
    result = run(manifest, "-o", output, *FIRST_BLOCK)
    failed(result, "list.csv: line 3: images/bee is a folder")
    assert not output.exists()


def test_paths_on_stdin(image_dir, tmp_path):
    paths = sorted(str(path) for path in image_dir.rglob("*.png"))[:5]
    output = tmp_path / "f.h5"
    result = run("-", "-o", output, *FIRST_BLOCK, "--json", stdin="\n".join(paths))
    assert json.loads(result.stdout)["n_images"] == 5
    with h5py.File(output) as file:
        assert file["images/label"][:].tolist() == [-1] * 5


def test_an_existing_output_is_kept_unless_asked(image_dir, tmp_path):
    output = tmp_path / "f.h5"
    output.write_bytes(b"precious")
    failed(run(image_dir, "-o", output, *FIRST_BLOCK), "exists", "--overwrite")
    assert output.read_bytes() == b"precious"
    assert run(image_dir, "-o", output, *FIRST_BLOCK, "--overwrite").exit_code == 0
    assert h5py.is_hdf5(output)


def test_a_missing_output_folder_is_named(image_dir, tmp_path):
    output = tmp_path / "nowhere" / "f.h5"
    failed(run(image_dir, "-o", output, *FIRST_BLOCK), "nowhere")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_output_folder_is_named(image_dir, tmp_path):
    folder = tmp_path / "fixed"
    folder.mkdir(mode=0o500)
    failed(run(image_dir, "-o", folder / "f.h5", *FIRST_BLOCK), "fixed")


def test_missing_and_imageless_folders_are_named(tmp_path):
    output = tmp_path / "f.h5"
    failed(run(tmp_path / "none", "-o", output, *FIRST_BLOCK), "none")
    (tmp_path / "empty").mkdir()
    failed(run(tmp_path / "empty", "-o", output, *FIRST_BLOCK), "empty")
    assert not output.exists()


def test_an_unknown_network_offers_the_nearest(image_dir, tmp_path):
    result = run(image_dir, "-o", tmp_path / "f.h5", "--model", "resnet51")
    failed(result, "resnet51", "resnet50", "cnnfeat models")


def test_an_unknown_layer_offers_the_nearest(image_dir, tmp_path):
    options = (*FIRST_BLOCK, "--layer", "feature.1")
    result = run(image_dir, "-o", tmp_path / "f.h5", *options)
    failed(result, "feature.1", "features.1", "cnnfeat layers")


def test_a_missing_gpu_is_named(image_dir, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    options = (*FIRST_BLOCK, "--device", "cuda")
    failed(run(image_dir, "-o", tmp_path / "f.h5", *options), "cuda", "cpu")


def test_weights_that_cannot_be_used_are_named(image_dir, tmp_path):
    options = [*FIRST_BLOCK]
    missing = tmp_path / "no.pth"
    options[options.index("random")] = str(missing)
    failed(run(image_dir, "-o", tmp_path / "f.h5", *options), "no.pth")
    missing.write_bytes(b"PK\x03\x04 torn")
    failed(run(image_dir, "-o", tmp_path / "f.h5", *options), "no.pth")


def test_contradictory_flags_are_wrong_usage(image_dir, tmp_path):
    options = (*FIRST_BLOCK, "--resume", "--overwrite")
    result = run(image_dir, "-o", tmp_path / "f.h5", *options)
    assert result.exit_code == 2
    assert "contradict" in result.stderr


def test_the_command_and_provenance_are_kept(colour_features):
    with h5py.File(colour_features) as file:
        provenance = dict(file["provenance"].attrs)
        assert file.attrs["command"].startswith("cnnfeat")
    assert provenance["model"] == "squeezenet1_1"
    assert len(provenance["weights_sha256"]) == 64
    assert json.loads(provenance["preprocessing"])["crop_size"] == [224, 224]


def test_ten_crops_are_the_mean_over_the_crops(image_dir, tmp_path):
    one, ten = tmp_path / "one.h5", tmp_path / "ten.h5"
    # A mirror-symmetric constant image gives the same features for all ten crops.
    for path in Path(image_dir).rglob("*.png"):
        path.unlink()
    Image.new("RGB", (300, 300), (10, 200, 30)).save(image_dir / "ant" / "flat.png")
    run(image_dir, "-o", one, *FIRST_BLOCK)
    run(image_dir, "-o", ten, *FIRST_BLOCK, "--crops", "ten")
    with h5py.File(one) as a, h5py.File(ten) as b:
        np.testing.assert_allclose(
            a["features/features.1"][:], b["features/features.1"][:], rtol=1e-5
        )
        assert b["provenance"].attrs["crops"] == "ten"


@pytest.fixture
def camera_dir(tmp_path):
    """Two classes of four 16-bit images whose camera has 12 bits."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (tmp_path / "camera" / name).mkdir(parents=True)
        for k in range(4):
            values = rng.integers(0, 2048, (40, 48)) + 2047 * label
            image = Image.fromarray(values.astype(np.uint16))
            image.save(tmp_path / "camera" / name / f"{k}.tif")
    return tmp_path / "camera"


def features_of(path):
    with h5py.File(path) as file:
        return file["features/features.1"][:], dict(file["provenance"].attrs)


def test_a_range_is_settled_recorded_and_used_again(camera_dir, tmp_path):
    outputs = {}
    for wanted in ("auto", "0,4095", "full"):
        outputs[wanted] = tmp_path / f"{wanted[0]}.h5"
        result = run(camera_dir, "-o", outputs[wanted], *FIRST_BLOCK, "--range", wanted)
        assert result.exit_code == 0, result.output
        little = "under a tenth of --range full" in result.stderr
        assert little == (wanted == "full")
    found = {wanted: features_of(path) for wanted, path in outputs.items()}
    assert found["auto"][1]["range"] == "0,4095"
    np.testing.assert_array_equal(found["auto"][0], found["0,4095"][0])
    assert not np.allclose(found["auto"][0], found["full"][0])
    head, told = tmp_path / "head.h5", tmp_path / "told.csv"
    invoke("train-svm", outputs["auto"], "-o", head)
    invoke("predict", head, camera_dir, "-o", told, "--workers", 0)
    # At the full range all images are nearly black, and of one class.
    assert told.read_text().count(",dark,") == 4
    failed(
        CliRunner().invoke(cli, ["evaluate", str(head), str(outputs["full"])]),
        "range is 'full'",
        "'0,4095'",
    )


def invoke(*arguments):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output


def test_pages_are_rows_and_their_names_come_back(tmp_path):
    frames = [Image.new("RGB", (40, 40), (60 * k, 0, 99)) for k in range(3)]
    (tmp_path / "images").mkdir()
    stack = tmp_path / "images" / "stack.tif"
    frames[0].save(stack, save_all=True, append_images=frames[1:])
    first, pages, one = (tmp_path / f"{name}.h5" for name in ("first", "pages", "one"))
    result = run(tmp_path / "images", "-o", first, *FIRST_BLOCK)
    assert "1 of 1 images (first: stack.tif) hold several pages" in result.stderr
    result = run(tmp_path / "images", "-o", pages, *FIRST_BLOCK, "--pages", "all")
    assert (result.exit_code, result.stderr) == (0, "")
    run("-", "-o", one, *FIRST_BLOCK, stdin=f"{stack}#page=3\n")
    every, _ = features_of(pages)
    np.testing.assert_array_equal(every[0], features_of(first)[0][0])
    np.testing.assert_array_equal(every[2], features_of(one)[0][0])
    with h5py.File(pages) as file:
        assert file["images/path"].asstr()[:].tolist() == [
            f"stack.tif#page={k}" for k in (1, 2, 3)
        ]


@pytest.mark.parametrize("options", [("--range", "9,1"), ("--pages", "0")])
def test_what_is_no_range_or_page_is_wrong_usage(image_dir, tmp_path, options):
    result = run(image_dir, "-o", tmp_path / "f.h5", *options)
    assert result.exit_code == 2
    assert result.stdout == ""
