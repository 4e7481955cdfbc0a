"""`extract --add`: the file that a fresh extraction of all images would make."""

import json
import os
import shutil
import signal
from dataclasses import replace

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import FIRST_BLOCK, files_up_to, write_image
from hypothesis import HealthCheck, given, settings, strategies as st
from store_rows import datasets, leftovers

from cnnfeat.cli.main import cli
from cnnfeat.extract import ExtractOptions, _run, extract_features
from cnnfeat.extract._kept import KeepingSink
from cnnfeat.interrupts import Interrupted
from cnnfeat.outputs import lock_file
from cnnfeat.store import open_features
from cnnfeat.store._journal import journal_path

# One image a batch: then a row has the same bits wherever it stands.
HOW = (*FIRST_BLOCK, "--batch-size", 1, "--engine", "eager", "--json")
OPTIONS = ExtractOptions(
    model="squeezenet1_1",
    weights="random",
    layers=("features.1",),
    pool="avg",
    device="cpu",
    engine="eager",
    workers=0,
    batch_size=1,
)


def extract(*arguments):
    arguments = ["extract", *map(str, HOW), *map(str, arguments)]
    return CliRunner().invoke(cli, arguments)


def report(*arguments):
    result = extract(*arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(result, *words):
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in result.stderr


def counted(monkeypatch):
    """Note the paths of the images that go through the network."""
    seen, real = [], _run.extraction.run

    def run(source, *arguments, **more):
        seen.extend(source.image_list.paths)
        return real(source, *arguments, **more)

    monkeypatch.setattr(_run.extraction, "run", run)
    return seen


@pytest.fixture
def made(image_dir, tmp_path):
    """Twelve images of three classes, and their feature file in a folder of its own."""
    (tmp_path / "out").mkdir()
    report(image_dir, "-o", tmp_path / "out" / "f.h5")
    return image_dir, tmp_path / "out" / "f.h5"


def grow(images):
    """Put images before, between and behind the others, two in classes of their own."""
    names = ("aaa/0.png", "ant/0a.png", "ant/9.png", "bee/2b.png", "bug/0.png")
    for seed, name in enumerate(names, 50):
        (images / name).parent.mkdir(exist_ok=True)
        write_image(images / name, seed=seed)
    return list(names)


def same_as_fresh(images, output, folder, *options):
    fresh = folder / "fresh.h5"
    report(images, "-o", fresh, *options)
    assert datasets(output) == datasets(fresh)
    with h5py.File(output) as one, h5py.File(fresh) as other:
        assert dict(one["provenance"].attrs) == dict(other["provenance"].attrs)
        assert one.attrs["root"] == other.attrs["root"]


def test_new_images_and_classes_are_as_in_a_fresh_extraction(
    made, tmp_path, monkeypatch
):
    images, output = made
    names = grow(images)
    computed = counted(monkeypatch)
    record = report(images, "-o", output, "--add")
    assert computed == names
    assert (record["n_images"], record["n_ok"], record["n_resumed"]) == (17, 17, 12)
    assert list(record["classes"]) == ["aaa", "ant", "bee", "bug", "cat"]
    assert leftovers(output.parent) == ["f.h5"]
    same_as_fresh(images, output, tmp_path)


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, 11), min_size=1), st.integers(1, 5))
def test_whatever_is_there_already_the_rows_are_those_of_all(
    image_dir, tmp_path_factory, there, batch_size
):
    folder = tmp_path_factory.mktemp("some")
    paths = sorted(path.relative_to(image_dir) for path in image_dir.rglob("*.png"))
    for row in sorted(there):
        (folder / "images" / paths[row]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image_dir / paths[row], folder / "images" / paths[row])
    some = ("-o", folder / "f.h5", "--batch-size", batch_size)
    report(folder / "images", *some)
    shutil.copytree(image_dir, folder / "images", dirs_exist_ok=True)
    record = report(folder / "images", *some, "--add")
    assert record["n_resumed"] == len(there)
    report(folder / "images", "-o", folder / "fresh.h5", "--batch-size", batch_size)
    with (
        open_features(folder / "f.h5") as one,
        open_features(folder / "fresh.h5") as other,
    ):
        assert one.table.fingerprint() == other.table.fingerprint()
        assert one.table.digests(np.arange(12)) == other.table.digests(np.arange(12))
        found, expected = (f.read(("features.1",)) for f in (one, other))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_without_new_images_the_file_is_left_as_it_is(made):
    images, output = made
    before = output.stat()
    assert report(images, "-o", output, "--add")["n_resumed"] == 12
    assert os.path.samestat(output.stat(), before)


def test_failed_and_changed_images_are_computed_and_moved_ones_are_not(
    image_dir, tmp_path, monkeypatch
):
    output = tmp_path / "f.h5"
    good = (image_dir / "cat" / "3.png").read_bytes()
    (image_dir / "cat" / "3.png").write_bytes(good[:60])
    report(image_dir, "-o", output)
    (image_dir / "cat" / "3.png").write_bytes(good)
    write_image(image_dir / "ant" / "0.png", seed=99)
    (image_dir / "bee" / "1.png").rename(image_dir / "cat" / "moved.png")
    computed = counted(monkeypatch)
    assert report(image_dir, "-o", output, "--add")["n_failed"] == 0
    assert computed == ["ant/0.png", "cat/3.png"]
    same_as_fresh(image_dir, output, tmp_path)


def test_a_second_folder_may_be_named_beside_the_first(made, tmp_path, monkeypatch):
    images, output = made
    for name in ("bee", "dog"):
        (tmp_path / "more" / name).mkdir(parents=True)
        write_image(tmp_path / "more" / name / "0.png", seed=77)
    computed = counted(monkeypatch)
    record = report(images, tmp_path / "more", "-o", output, "--add")
    assert (record["n_images"], record["n_resumed"], len(computed)) == (14, 12, 2)
    fresh = tmp_path / "fresh.h5"
    report(images, tmp_path / "more", "-o", fresh)
    assert datasets(output) == datasets(fresh)


def test_columns_and_labels_are_those_of_the_table_now(image_dir, tmp_path):
    table, output = tmp_path / "t.csv", tmp_path / "f.h5"
    lines = [f"images/ant/{k}.png,{'ab'[k % 2]},p{k}" for k in range(4)]
    table.write_text("\n".join(["path,label,plate", *lines[:3]]))
    report(table, "-o", output)
    lines[0] = "images/ant/0.png,c,p9"
    table.write_text("\n".join(["path,label,plate", *lines]))
    assert report(table, "-o", output, "--add")["n_resumed"] == 3
    with open_features(output) as features:
        names = [features.class_names[label] for label in features.labels]
        assert dict(zip(features.table.column("plate"), names, strict=True)) == {
            **{"p9": "c", "p1": "b", "p2": "a", "p3": "b"}
        }
    same_as_fresh(table, output, tmp_path)


def test_an_image_that_has_gone_is_named_and_none_is_removed(made):
    images, output = made
    before = output.read_bytes()
    (images / "ant" / "2.png").unlink()
    result = extract(images, "-o", output, "--add")
    refused(result, "1 of its 12 images", "ant/2.png", "--add removes none")
    assert output.read_bytes() == before
    assert leftovers(output.parent) == ["f.h5"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--layer", "features.3"), "layers was"),
        (("--pool", "max"), "layers was"),
        (("--model", "squeezenet1_0"), "model was 'squeezenet1_1' and is now"),
        (("--crops", "ten"), "crops was 'center' and is now 'ten'"),
        (("--weights-seed", 3), "weights_sha256 was"),
        (("--decoder", "fast"), "decoder was 'pil' and is now 'fast'"),
        (("--dtype", "float16"), "layers was"),
    ],
)
def test_another_job_is_refused_and_the_field_named(made, options, word):
    images, output = made
    grow(images)
    before = output.read_bytes()
    refused(extract(images, "-o", output, "--add", *options), word, "--overwrite")
    assert output.read_bytes() == before
    assert leftovers(output.parent) == ["f.h5"]


def test_a_missing_file_is_named_and_other_ways_to_go_on_are_excluded(made, tmp_path):
    images, output = made
    refused(extract(images, "-o", tmp_path / "g.h5", "--add"), "g.h5")
    for flag in ("--resume", "--overwrite", "--retry-failed"):
        result = extract(images, "-o", output, "--add", flag)
        assert result.exit_code == 2
        assert f"{flag} and --add contradict" in result.stderr


def test_too_many_that_fail_leave_the_file(made):
    images, output = made
    before = output.read_bytes()
    for name in grow(images):
        (images / name).write_bytes(b"no image")
    result = extract(images, "-o", output, "--add", "--max-failed", 4)
    refused(result, "5 of the 17 images", "more than the 4")
    assert output.read_bytes() == before
    record = report(images, "-o", output, "--add", "--max-failed", 5)
    assert (record["n_ok"], record["n_failed"]) == (12, 5)


def add_with(progress, images, output):
    options = replace(OPTIONS, add=True)
    return extract_features(str(images), str(output), options, progress=progress)


def stopped_after(n, images, output):
    def stop(n_done, n_images, n_failed):
        if n_done == n:
            signal.raise_signal(signal.SIGTERM)

    return add_with(stop, images, output)


def test_an_interrupted_addition_keeps_the_file_and_goes_on(
    made, tmp_path, monkeypatch
):
    images, output = made
    names = grow(images)
    before = output.read_bytes()
    with pytest.raises(Interrupted, match="is as it was; the same command goes on"):
        stopped_after(2, images, output)
    assert output.read_bytes() == before
    computed = counted(monkeypatch)
    report(images, "-o", output, "--add")
    assert 0 < len(computed) < 5 and computed == names[-len(computed) :]
    assert leftovers(output.parent) == ["f.h5"]
    same_as_fresh(images, output, tmp_path)


def test_a_killed_addition_keeps_the_file_and_goes_on(made, tmp_path, monkeypatch):
    images, output = made
    names = grow(images)
    before, at_that_moment = output.read_bytes(), tmp_path / "then"
    monkeypatch.setattr("cnnfeat.extraction._run.SECONDS_BETWEEN_COMMITS", -1.0)

    commit = KeepingSink.commit

    def keep(sink):
        commit(sink)
        if sink.rows_done and not at_that_moment.exists():
            shutil.copytree(output.parent, at_that_moment)

    monkeypatch.setattr(KeepingSink, "commit", keep)
    add_with(None, images, output)
    monkeypatch.setattr(KeepingSink, "commit", commit)
    shutil.rmtree(output.parent)
    at_that_moment.rename(output.parent)
    assert output.read_bytes() == before
    assert leftovers(output.parent) == ["f.h5", "f.h5.part", "f.h5.part.journal"]
    computed = counted(monkeypatch)
    report(images, "-o", output, "--add")
    assert 0 < len(computed) < 5 and computed == names[-len(computed) :]
    assert leftovers(output.parent) == ["f.h5"]
    same_as_fresh(images, output, tmp_path)


def test_another_listing_does_not_go_on_and_the_way_out_is_told(made, monkeypatch):
    images, output = made
    grow(images)
    with pytest.raises(Interrupted):
        stopped_after(2, images, output)
    write_image(images / "ant" / "00.png", seed=98)
    result = extract(images, "-o", output, "--add")
    refused(result, "cannot be resumed", "f.h5.part", "remove")
    os.unlink(f"{output}.part")
    os.unlink(journal_path(output))
    assert report(images, "-o", output, "--add")["n_images"] == 18


def test_a_full_disk_leaves_the_file(made):
    images, output = made
    before = output.read_bytes()
    grow(images)
    with files_up_to(4_000):
        result = extract(images, "-o", output, "--add")
    refused(result, "f.h5.part")
    assert output.read_bytes() == before
    assert report(images, "-o", output, "--add")["n_ok"] == 17


def test_a_second_writer_of_an_addition_is_told(made):
    images, output = made
    grow(images)
    with journal_path(output).open("w") as journal:
        lock_file(journal, journal_path(output), output.name)
        refused(extract(images, "-o", output, "--add"), "another process is writing")
    assert report(images, "-o", output, "--add")["n_ok"] == 17


def test_a_file_that_knows_no_contents_goes_by_paths(made):
    images, output = made
    with h5py.File(output, "a") as file:
        del file["images/digest"]
    names = grow(images)
    assert report(images, "-o", output, "--add")["n_resumed"] == 12
    with open_features(output) as features:
        known = features.table.digests(np.arange(17))
        told = dict(zip(features.paths, known, strict=True))
    assert sorted(path for path, digest in told.items() if digest) == sorted(names)
