"""Shares of a job in files of their own: together they are the file of one process."""

import os
import shutil
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import FIRST_BLOCK, write_image
from hypothesis import given, strategies as st

from cnnfeat.cli.main import cli
from cnnfeat.errors import CnnfeatError, OptionError, OutputError
from cnnfeat.extract import Shard
from cnnfeat.merge import MergeOptions, merge_shards
from cnnfeat.store import load_head, open_features
from cnnfeat.store._journal import Journal, journal_path

ASKED = (*FIRST_BLOCK, "--engine", "eager", "--batch-size", "5")


def run(*arguments, status=0):
    result = CliRunner().invoke(cli, [str(one) for one in arguments])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture(scope="module")
def made(tmp_path_factory, colour_dir):
    """One file of one process, and a folder of three shards of the same job."""
    folder = tmp_path_factory.mktemp("made")
    run("extract", colour_dir, "-o", folder / "one.h5", *ASKED)
    (folder / "shards").mkdir()
    for number in (2, 3, 1):
        asked = ("--shard", f"{number}/3")
        run("extract", colour_dir, "-o", folder / "shards" / "f.h5", *ASKED, *asked)
    return folder


@pytest.fixture
def shards(made, tmp_path):
    """A copy of the three shards that a test may spoil."""
    return Path(shutil.copytree(made / "shards", tmp_path / "shards"))


def name(number, n=3):
    return f"f-{number:05}-of-{n:05}.h5"


def check_equal(path, other):
    """Check that two feature files have the same rows, bit for bit, and tables."""
    with open_features(path) as a, open_features(other) as b:
        assert a.layers == b.layers and a.provenance == b.provenance
        assert a.table.fingerprint() == b.table.fingerprint()
        assert a.errors == b.errors and a.table.root == b.table.root
        rows = np.arange(a.n_images)
        assert a.table.digests(rows) == b.table.digests(rows)
        np.testing.assert_array_equal(a.ok, b.ok)
        for layer in a.layers:
            assert a.read(layer).tobytes() == b.read(layer).tobytes()
            some = np.array([23, 0, 9, 10, 9])
            assert a.read(layer, some).tobytes() == b.read(layer, some).tobytes()


@given(n_images=st.integers(1, 500), batch_size=st.integers(1, 40), n=st.integers(1, 9))
def test_shards_are_whole_batches_and_every_row_is_in_one(n_images, batch_size, n):
    n_batches = -(-n_images // batch_size)
    every = [Shard(number, n) for number in range(1, n + 1)]
    if n > n_batches:
        with pytest.raises(OptionError, match=f"at most {n_batches} shards"):
            every[0].rows(n_images, batch_size)
        return
    rows = [shard.rows(n_images, batch_size) for shard in every]
    np.testing.assert_array_equal(np.concatenate(rows), np.arange(n_images))
    assert all(len(own) and own[0] % batch_size == 0 for own in rows)
    sizes = [-(-len(own) // batch_size) for own in rows]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("text", ["4/3", "0/3", "3", "1/0", "a/b", "1/100000", "-1/3"])
def test_what_is_no_shard_is_wrong_usage(text, tmp_path):
    result = run("extract", "i", "-o", tmp_path / "f.h5", f"--shard={text}", status=2)
    assert "is no shard: expected such as 3/64" in result.stderr


@pytest.mark.parametrize("other", [("--shards", 2), ("--retry-failed",), ("--add",)])
def test_a_shard_excludes_what_is_of_a_whole_file(other, tmp_path):
    line = ("extract", "i", "-o", tmp_path / "f.h5", "--shard", "1/2", *other)
    assert "contradict each other" in run(*line, status=2).stderr


def test_more_shards_than_batches_are_refused(colour_dir, tmp_path):
    line = ("extract", colour_dir, "-o", tmp_path / "f.h5", *ASKED, "--shards", 6)
    told = run(*line, status=2).stderr
    assert "5 batches of 5: give at most 5 shards" in told
    assert os.listdir(tmp_path) == []


def test_a_shard_says_which_it_is_and_what_of(made):
    with open_features(made / "shards" / name(2)) as shard:
        told = shard.provenance
        assert shard.paths[0] == "blue/5.png"
        assert told["shard"] == "2/3" and told["shard_of_images"] == "24"
        assert told["shard_start"] == "5" and shard.n_images == 10
        assert len(shard.class_names) == 3
    with open_features(made / "one.h5") as one:
        assert one.provenance["images_sha256"] == told["images_sha256"]


def test_merged_rows_are_those_of_one_process(made, tmp_path):
    pattern = str(made / "shards" / "f-*-of-00003.h5")
    report = merge_shards([pattern], str(tmp_path / "all.h5"))
    assert (report.n_shards, report.n_images, report.n_failed) == (3, 24, 0)
    check_equal(made / "one.h5", tmp_path / "all.h5")


def test_a_virtual_file_has_the_rows_of_one_process(made, shards):
    out = shards.parent / "all.h5"
    run("merge", shards, "-o", out, "--virtual", "-q")
    check_equal(made / "one.h5", out)
    assert out.stat().st_size < (made / "one.h5").stat().st_size
    # Moved together, it is still whole.
    moved = shards.parent.parent / f"{shards.parent.name}-moved"
    shards.parent.rename(moved)
    check_equal(made / "one.h5", moved / "all.h5")


def test_a_folder_of_shards_is_read_as_one_file(made):
    check_equal(made / "one.h5", made / "shards")
    assert len(os.listdir(made / "shards")) == 3


def test_shards_in_turn_are_those_of_separate_processes(made, colour_dir, tmp_path):
    line = ("extract", colour_dir, "-o", tmp_path / "f.h5", *ASKED, "--shards", 3)
    run(*line)
    for number in (1, 2, 3):
        check_shard = (made / "shards" / name(number), tmp_path / name(number))
        with open_features(check_shard[0]) as a, open_features(check_shard[1]) as b:
            assert a.provenance == b.provenance and a.paths == b.paths
            assert a.read("features.1").tobytes() == b.read("features.1").tobytes()


def test_heads_of_one_file_a_virtual_one_and_a_folder_are_equal(made, shards):
    out = shards.parent / "all.h5"
    merge_shards([str(shards)], str(out), MergeOptions(virtual=True))
    heads = []
    for k, source in enumerate((made / "one.h5", out, made / "shards")):
        head = shards.parent / f"h{k}.h5"
        run("train-svm", source, "-o", head, "--C", 1)
        heads.append(load_head(head))
    for head in heads[1:]:
        assert head.coef.tobytes() == heads[0].coef.tobytes()
        assert head.training_paths == heads[0].training_paths
        assert head.provenance == heads[0].provenance


@pytest.mark.parametrize(
    "line",
    [
        ("info", "{shards}"),
        ("splits", "{shards}", "-o", "{out}/s.csv", "--train-per-class", "4"),
        ("benchmark", "{shards}", "--train-per-class", "4", "--C", "1"),
        ("evaluate", "{head}", "{shards}", "--rows", "all"),
        ("export", "{shards}", "-o", "{out}/x.npz"),
    ],
)
def test_every_command_reads_a_folder_of_shards(made, colour_head, tmp_path, line):
    names = {"shards": made / "shards", "head": colour_head, "out": tmp_path}
    run(*(one.format(**names) for one in line))


def test_a_shard_that_is_done_is_left_and_the_rest_are_made(colour_dir, shards):
    before = {one: (shards / name(one)).stat().st_mtime_ns for one in (1, 3)}
    (shards / name(2)).unlink()
    line = ("extract", colour_dir, "-o", shards / "f.h5", *ASKED, "--shards", 3)
    assert '"n_resumed": 14' in run(*line, "--json").stdout
    assert {one: (shards / name(one)).stat().st_mtime_ns for one in (1, 3)} == before
    assert len(os.listdir(shards)) == 3


def test_a_shard_that_was_stopped_goes_on(made, colour_dir, tmp_path, monkeypatch):
    done = []

    class Stop:
        """A signal that comes when the first batch is done."""

        signum = signal.SIGTERM

        def is_set(self):
            return bool(done)

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

    line = ("extract", colour_dir, "-o", tmp_path / "f.h5", *ASKED, "--shard", "2/3")
    with monkeypatch.context() as patch:
        patch.setattr("cnnfeat.extract._job.StopOnSignal", Stop)
        patch.setattr("cnnfeat.extract._job.refuse_failures", lambda *_: done.append(1))
        assert "rows are kept" in run(*line, status=1).stderr
    assert (tmp_path / f"{name(2)}.part").exists()
    assert '"n_resumed": 5' in run(*line, "--json").stdout
    with (
        open_features(tmp_path / name(2)) as a,
        open_features(made / "shards" / name(2)) as b,
    ):
        assert a.read("features.1").tobytes() == b.read("features.1").tobytes()


def test_a_second_process_on_one_shard_is_told(colour_dir, tmp_path):
    journal = Journal(journal_path(tmp_path / name(1)))
    line = ("extract", colour_dir, "-o", tmp_path / "f.h5", *ASKED, "--shard", "1/3")
    told = run(*line, status=1).stderr
    journal.close(remove=True)
    assert f"another process is writing {name(1)} in this folder" in told


def test_a_listing_that_changed_between_shards_is_named(colour_dir, tmp_path):
    images = Path(shutil.copytree(colour_dir, tmp_path / "images"))
    line = ("extract", images, "-o", tmp_path / "f.h5", *ASKED, "--shard")
    run(*line, "1/2")
    write_image(images / "red" / "9.png", seed=99)
    run(*line, "2/2")
    with pytest.raises(CnnfeatError, match=r"images_sha256.*the listing changed"):
        merge_shards([str(tmp_path)], str(tmp_path / "all.h5"))
    told = run(*line, "1/2", status=1).stderr
    assert "its rows cannot be kept: images_sha256 was" in told
    assert not (tmp_path / "all.h5").exists()


def attribute(path, key, value):
    with h5py.File(path, "r+") as file:
        file["provenance"].attrs[key] = value


def spoil_missing(shards, one):
    (shards / name(2)).unlink()


def spoil_twice(shards, one):
    shutil.copy(shards / name(2), shards / "g-00002-of-00003.h5")


def spoil_other_number(shards, one):
    attribute(shards / name(2), "shard", "2/4")


def spoil_weights(shards, one):
    attribute(shards / name(2), "weights_sha256", "0" * 64)


def spoil_batches(shards, one):
    attribute(shards / name(3), "batch_size", "6")


def spoil_overlap(shards, one):
    attribute(shards / name(2), "shard_start", "3")


def spoil_total(shards, one):
    for number in (1, 2, 3):
        attribute(shards / name(number), "shard_of_images", "25")


def spoil_whole(shards, one):
    shutil.copy(one, shards / name(2))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoil_missing, "1 of 3 shards are missing: 2"),
        (spoil_twice, "shard 2/3 is there twice"),
        (spoil_other_number, "is one of 4 shards, and others are of 3"),
        (spoil_weights, "weights_sha256 is .*they are of two jobs"),
        (spoil_batches, "batch_size is '6', and '5' .*of two jobs"),
        (spoil_overlap, "begins at row 3, and the shards before it end at row 5"),
        (spoil_total, "its job has 25 images, and its shards 24"),
        (spoil_whole, "is no shard"),
    ],
)
def test_shards_that_are_no_whole_are_not_merged(made, shards, spoil, told):
    spoil(shards, made / "one.h5")
    out = shards.parent / "all.h5"
    for virtual in (False, True):
        with pytest.raises(CnnfeatError, match=told):
            merge_shards([str(shards)], str(out), MergeOptions(virtual=virtual))
    with pytest.raises(CnnfeatError, match=told):
        open_features(shards)
    assert not out.exists()


def test_a_pattern_of_no_shard_is_an_error(tmp_path):
    for asked in (tmp_path / "*.h5", tmp_path):
        assert (
            "there is no shard"
            in run("merge", asked, "-o", tmp_path / "all.h5", status=1).stderr
        )


def test_a_virtual_file_stands_above_its_shards(made, tmp_path):
    with pytest.raises(OutputError, match="beside its shards or above them"):
        merge_shards(
            [str(made / "shards")], str(tmp_path / "x.h5"), MergeOptions(virtual=True)
        )
    assert os.listdir(tmp_path) == []


@pytest.fixture
def virtual(shards):
    """A virtual file, and its shards."""
    out = shards.parent / "all.h5"
    merge_shards([str(shards)], str(out), MergeOptions(virtual=True))
    return out, shards


def test_a_shard_that_is_gone_is_named_and_not_read_as_zeros(virtual):
    out, shards = virtual
    (shards / name(3)).unlink()
    told = run("info", out, status=1).stderr
    assert name(3) in told and "the merged file is made of it" in told


@pytest.mark.parametrize(
    ("key", "value"), [("weights_sha256", "0" * 64), ("shard", "1/3"), ("model", "x")]
)
def test_a_shard_that_is_another_now_is_named(virtual, key, value):
    out, shards = virtual
    attribute(shards / name(2), key, value)
    with pytest.raises(CnnfeatError, match=rf"{name(2)} is another shard.*{key}"):
        open_features(out)


def rebuilt(out, change):
    """Write the virtual file anew, with the virtual layer and its list changed."""
    with h5py.File(out, "r+", libver="latest") as file:
        old = file["features/features.1"]
        shape, attributes = old.shape, dict(old.attrs)
        del file["features/features.1"]
        names = [text.decode() for text in file["virtual/file"][:]]
        layout = h5py.VirtualLayout(shape, "float32")
        start = 0
        for k, (part, n) in enumerate(zip(names, file["virtual/rows"][:], strict=True)):
            source = h5py.VirtualSource(part, "/features/features.1", (n, *shape[1:]))
            part, source = change(k, part, source)
            layout[start : start + n] = source
            file["virtual/file"][k] = part
            start += n
        dataset = file.create_virtual_dataset("features/features.1", layout)
        for key, value in attributes.items():
            dataset.attrs[key] = value


def elsewhere(k, part, source):
    return part, h5py.VirtualSource("other.h5", "/features/features.1", source.shape)


def another_dataset(k, part, source):
    return part, h5py.VirtualSource(part, "/images/label", source.shape)


def swapped(k, part, source):
    part = part.replace("00001", "x").replace("00002", "00001").replace("x", "00002")
    return part, h5py.VirtualSource(part, "/features/features.1", source.shape)


def above(k, part, source):
    part = f"shards/../{part}"
    return part, h5py.VirtualSource(part, "/features/features.1", source.shape)


def absolute(k, part, source):
    return f"/{part}", h5py.VirtualSource(f"/{part}", "/x", source.shape)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (elsewhere, "made of other parts than listed"),
        (another_dataset, "made of other parts than listed"),
        (swapped, "is another shard"),
        (above, "must lie beside the merged file"),
        (absolute, "must lie beside the merged file"),
    ],
)
def test_virtual_datasets_of_anything_else_are_refused(virtual, change, told):
    out, _ = virtual
    rebuilt(out, change)
    with pytest.raises(CnnfeatError, match=told):
        open_features(out)


def test_a_rebuilt_file_that_is_right_is_read(made, virtual):
    """So the refusals above are of what was changed, and of nothing else."""
    rebuilt(virtual[0], lambda k, part, source: (part, source))
    check_equal(made / "one.h5", virtual[0])


def test_a_shard_behind_a_link_is_refused(virtual, tmp_path):
    out, shards = virtual
    (shards / name(1)).rename(tmp_path / "elsewhere.h5")
    (shards / name(1)).symlink_to(tmp_path / "elsewhere.h5")
    with pytest.raises(CnnfeatError, match="symbolic link"):
        open_features(out)


def test_a_merge_that_is_stopped_leaves_nothing(shards):
    def stop(*_):
        raise KeyboardInterrupt

    out = shards.parent / "all.h5"
    with pytest.raises(KeyboardInterrupt):
        merge_shards([str(shards)], str(out), progress=stop)
    assert os.listdir(shards.parent) == ["shards"]
