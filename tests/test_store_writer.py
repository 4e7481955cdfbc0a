"""The feature writer: what it stores and what it refuses."""

import os

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from store_rows import (
    JOB,
    N,
    contents,
    datasets,
    features,
    finish,
    interrupt,
    leftovers,
    write,
)

from cnnfeat.errors import (
    CnnfeatWarning,
    DataError,
    LayerError,
    OutputError,
    ShapeError,
    StoreError,
)
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.store import FeatureWriter, open_features
from cnnfeat.store._journal import journal_path


def test_a_finished_file_holds_what_was_written(tmp_path):
    finish(tmp_path / "f.h5", [0, 7, N])
    assert leftovers(tmp_path) == ["f.h5"]
    good = np.array([k % 5 != 3 for k in range(N)])
    with h5py.File(tmp_path / "f.h5") as file:
        assert dict(file.attrs) == {
            "format": "cnnfeat-features",
            "layer_order": '["fc7:pre", "conv1"]',
            "format_version": 1,
            "complete": True,
            "created_by": "cnnfeat 0.1.0",
            "command": "cnnfeat extract images",
            "root": "/images",
        }
        assert file["/images/path"].asstr()[3] == "bée/003.png"
        assert file["/images/error"].asstr()[3] == "bad image 3"
        assert file["/images/error"].asstr()[4] == ""
        assert file["/images/digest"].asstr()[4] == f"{4:032x}"
        assert file["/images/digest"].asstr()[3] == ""
        assert file["/images/label"].dtype == np.int32
        np.testing.assert_array_equal(file["/images/ok"][:], good)
        expected = np.where(good[:, None, None, None], features(0, N)["conv1"], 0)
        np.testing.assert_array_equal(file["/features/conv1"][:], expected)
        assert file["/features/conv1"].compression is None


@settings(
    deadline=None,
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.sets(st.integers(1, N - 1), max_size=6))
def test_the_batches_do_not_change_the_datasets(tmp_path, cuts):
    finish(tmp_path / "once.h5", [0, N], overwrite=True)
    finish(tmp_path / "cut.h5", [0, *sorted(cuts), N], overwrite=True)
    assert datasets(tmp_path / "once.h5") == datasets(tmp_path / "cut.h5")


def test_chunks_are_whole_rows_of_about_a_mebibyte(tmp_path):
    layers = (LayerSpec("a", "a", (256,)), LayerSpec("b", "b", (512, 32, 32)))
    with FeatureWriter(
        tmp_path / "f.h5", contents(4000, layers=layers), fingerprint=JOB
    ):
        with h5py.File(tmp_path / "f.h5.part") as file:
            assert file["/features/a"].chunks == (1024, 256)
            assert file["/features/b"].chunks == (1, 512, 32, 32)
        # Space is promised, not yet taken.
        assert os.stat(tmp_path / "f.h5.part").st_blocks * 512 < 4 * 2**20


@pytest.mark.parametrize("n", [1, 500, 20_000])
def test_the_size_of_the_metadata_is_not_underestimated(tmp_path, n):
    """The promise that lets HDF5 write it on a disk that is almost full."""
    layers = (LayerSpec("a", "a", (3,)), LayerSpec("b", "b", (2**18,)))
    many = contents(n, layers=layers, paths=tuple(f"é{k}" for k in range(n)))
    with FeatureWriter(tmp_path / "f.h5", many, fingerprint=JOB):
        rows = n * (2**20 + 12 + 201)
        size = (tmp_path / "f.h5.part").stat().st_size
        padding = 2**20 * 3  # last chunks are whole ones
        assert size - rows - padding < many.metadata_bytes()
        assert size - padding < many.n_bytes() < size + 2**20 + 300 * n


def test_only_raw_rows_and_one_flag_change_after_the_start(tmp_path):
    """What makes kill -9 harmless: no byte of metadata is written after the start."""
    part = tmp_path / "f.h5.part"
    with FeatureWriter(tmp_path / "f.h5", contents(), fingerprint=JOB) as writer:
        before = np.frombuffer(part.read_bytes(), np.uint8)
        raw = np.zeros(len(before), dtype=bool)
        with h5py.File(part) as file:
            for name in (
                "images/ok",
                "images/error",
                "images/digest",
                "features/conv1",
                "features/fc7:pre",
            ):
                dataset = file[name].id
                for k in range(dataset.get_num_chunks()):
                    chunk = dataset.get_chunk_info(k)
                    raw[chunk.byte_offset : chunk.byte_offset + chunk.size] = True
        write(writer, 0, N)
        writer.commit()
        after = np.frombuffer(part.read_bytes(), np.uint8)
        assert len(before) == len(after)
        assert not np.any((before != after) & ~raw)
        assert np.any((before != after) & raw)
        writer.finish()
    finished = np.frombuffer((tmp_path / "f.h5").read_bytes(), np.uint8)
    # The flag `complete`, and the superblock's consistency flag, which readers of
    # this version of the format ignore: HDF5 sets it on opening, clears it on closing.
    changed = np.flatnonzero((before != finished) & ~raw)
    assert changed[0] == 20
    assert len(changed) == 2


# -- refusals --------------------------------------------------------------------------


def test_an_existing_output_is_kept_and_replaced_only_at_the_end(tmp_path):
    output = tmp_path / "f.h5"
    output.write_text("old")
    with pytest.raises(OutputError, match=r"exists already.*`overwrite`"):
        FeatureWriter(output, contents(), fingerprint=JOB)
    with pytest.raises(OutputError, match="exists already"):
        FeatureWriter(output, contents(), fingerprint=JOB, resume=True)
    with FeatureWriter(output, contents(), fingerprint=JOB, overwrite=True) as writer:
        write(writer, 0, N)
        assert output.read_text() == "old"
        writer.finish()
    assert open_features(output).n_images == N


def test_an_overwriting_run_is_resumed_under_the_same_permission(tmp_path):
    output = tmp_path / "f.h5"
    output.write_text("old")
    interrupt(output, 9, 9, overwrite=True)
    with FeatureWriter(output, contents(), fingerprint=JOB, resume=True) as writer:
        write(writer, 9, N)
        assert output.read_text() == "old"
        writer.finish()
    assert open_features(output).n_images == N


def test_the_journal_of_a_finished_file_is_swept(tmp_path):
    """A run may be killed between giving the file its name and removing the journal."""
    path = tmp_path / "f.h5"
    finish(path, [0, N])
    journal_path(path).write_bytes(b"")
    with pytest.raises(OutputError, match="exists already"):
        FeatureWriter(path, contents(), fingerprint=JOB, resume=True)
    assert leftovers(tmp_path) == ["f.h5"]


def test_an_output_that_appears_meanwhile_is_kept(tmp_path):
    output = tmp_path / "f.h5"
    with FeatureWriter(output, contents(), fingerprint=JOB) as writer:
        write(writer, 0, N)
        output.write_text("somebody else's")
        with pytest.raises(OutputError, match="exists already"):
            writer.finish()
    assert output.read_text() == "somebody else's"


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}])
def test_a_second_writer_is_told_and_the_first_goes_on(tmp_path, options):
    output = tmp_path / "f.h5"
    with FeatureWriter(output, contents(), fingerprint=JOB) as writer:
        write(writer, 0, 5)
        writer.commit()
        if options:
            with pytest.raises(OutputError, match=r"is writing f\.h5"):
                FeatureWriter(output, contents(), fingerprint=JOB, **options)
        else:
            with pytest.raises(OutputError):
                FeatureWriter(output, contents(), fingerprint=JOB)
        write(writer, 5, N)
        writer.finish()
    assert open_features(output).n_images == N


def test_impossible_outputs_are_refused(tmp_path):
    with pytest.raises(OutputError, match="is a folder"):
        FeatureWriter(tmp_path, contents(), fingerprint=JOB)
    with pytest.raises(OutputError, match="there is no folder"):
        FeatureWriter(tmp_path / "no" / "f.h5", contents(), fingerprint=JOB)


def test_a_read_only_folder_is_refused(tmp_path, monkeypatch):
    def refuse(path, mode, **kwargs):
        error = FileNotFoundError if mode == "rb" else PermissionError
        raise error(13, "Permission denied")

    monkeypatch.setattr("cnnfeat.store._journal.open_own", refuse)
    with pytest.raises(OutputError, match=r"cannot be written: Permission denied"):
        FeatureWriter(tmp_path / "f.h5", contents(), fingerprint=JOB)


def test_too_little_space_is_refused_before_the_start(tmp_path):
    layers = (LayerSpec("a", "a", (2**20, 2**20)),)
    with pytest.raises(OutputError, match=r"needs about [\d,]+ MiB and has [\d,]+ MiB"):
        FeatureWriter(tmp_path / "f.h5", contents(layers=layers), fingerprint=JOB)
    assert leftovers(tmp_path) == []


def test_an_empty_batch_changes_nothing(tmp_path):
    with FeatureWriter(tmp_path / "f.h5", contents(), fingerprint=JOB) as writer:
        write(writer, 0, 4)
        empty = {"fc7:pre": np.zeros((0, 5)), "conv1": np.zeros((0, 3, 2, 4))}
        writer.write(4, empty, np.zeros(0, bool), [])
        assert writer.rows_done == 4


def test_values_too_small_for_float16_are_told_once(tmp_path):
    rows = features(0, 4)
    rows["conv1"][:2, 0] = 1e-9
    rows["conv1"][:, 1] = 0
    rows["conv1"][3, 2] = np.nan  # rows that fail do not count
    half = contents(dtype="float16")
    with (
        FeatureWriter(tmp_path / "f.h5", half, fingerprint=JOB) as writer,
        pytest.warns(CnnfeatWarning) as seen,
    ):
        writer.write(0, rows, np.ones(4, bool), [""] * 4)
        writer.write(4, rows, np.ones(4, bool), [""] * 4)
    (one,) = seen
    expected = "layer 'conv1': 33.3 % of a batch's values that are not zero"
    assert str(one.message).startswith(expected)


@pytest.mark.parametrize(("dtype", "n_small"), [("float16", 1), ("float32", 120)])
def test_a_few_small_values_and_those_of_float32_are_not_told(tmp_path, dtype, n_small):
    rows = features(0, 5)
    rows["conv1"].reshape(-1)[:n_small] = 1e-9
    asked = contents(dtype=dtype)
    with FeatureWriter(tmp_path / "f.h5", asked, fingerprint=JOB) as writer:
        writer.write(0, rows, np.ones(5, bool), [""] * 5)  # a warning is an error here


# -- rows ------------------------------------------------------------------------------


@pytest.fixture
def writer(tmp_path):
    with FeatureWriter(tmp_path / "f.h5", contents(), fingerprint=JOB) as writer:
        yield writer


def test_rows_out_of_order_are_refused(writer):
    write(writer, 0, 5)
    with pytest.raises(ShapeError, match="rows 6 to 8 do not follow row 5 of 23"):
        write(writer, 6, 8)
    with pytest.raises(ShapeError, match="do not follow"):
        write(writer, 5, N + 1)
    with pytest.raises(ShapeError, match="5 of 23 rows written"):
        writer.finish()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"conv1": np.zeros((2, 3, 2, 5), np.float32)}, "expected floating"),
        ({"conv1": np.zeros((1, 3, 2, 4), np.float32)}, "expected floating"),
        ({"conv1": np.zeros((2, 3, 2, 4), np.int64)}, "found int64"),
        ({"conv2": np.zeros((2, 3, 2, 4), np.float32)}, "layers conv1, conv2, fc7"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(writer, change, match):
    with pytest.raises(ShapeError, match=match):
        writer.write(0, {**features(0, 2), **change}, np.ones(2, bool), ["", ""])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_row_becomes_a_failed_one(tmp_path, bad):
    arrays = features(0, N)
    arrays["conv1"][2, 1, 1, 3] = bad
    with FeatureWriter(tmp_path / "f.h5", contents(), fingerprint=JOB) as writer:
        writer.write(0, arrays, np.ones(N, bool), [""] * N)
        writer.finish()
    assert writer.failures == {2: "non-finite activation in conv1"}
    with open_features(tmp_path / "f.h5") as file:
        assert np.flatnonzero(~file.ok).tolist() == [2]
        assert not file.read("fc7:pre", np.array([2])).any()
        np.testing.assert_array_equal(file.read("fc7:pre")[3:], arrays["fc7:pre"][3:])


def test_float16_holds_what_fits_and_refuses_what_does_not(tmp_path):
    arrays = features(0, N)
    arrays["fc7:pre"][0, 0] = 65504
    with FeatureWriter(
        tmp_path / "f.h5", contents(dtype="float16"), fingerprint=JOB
    ) as writer:
        writer.write(0, arrays, np.ones(N, bool), [""] * N)
        writer.finish()
    with open_features(tmp_path / "f.h5") as file:
        expected = arrays["fc7:pre"].astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(file.read("fc7:pre"), expected)
    arrays["fc7:pre"][4, 0] = -70000
    with (
        FeatureWriter(
            tmp_path / "g.h5", contents(dtype="float16"), fingerprint=JOB
        ) as writer,
        pytest.raises(
            DataError, match=r"'fc7:pre', image bée/004.png.*`dtype=float32`"
        ),
    ):
        writer.write(0, arrays, np.ones(N, bool), [""] * N)


@pytest.mark.parametrize("value", [65519.0, 65519.99, 65520.0])
def test_the_float16_limit_is_where_rounding_overflows(tmp_path, value):
    layers = (LayerSpec("a", "a", (1,), dtype="float16"),)
    array = np.array([[value]], np.float32)
    with np.errstate(over="ignore"):
        overflows = bool(np.isinf(array.astype(np.float16)).any())
    with FeatureWriter(
        tmp_path / "f.h5", contents(1, layers=layers), fingerprint=JOB
    ) as writer:
        if overflows:
            with pytest.raises(DataError, match="does not fit in float16"):
                writer.write(0, {"a": array}, np.ones(1, bool), [""])
        else:
            writer.write(0, {"a": array}, np.ones(1, bool), [""])


def test_a_long_reason_is_cut_at_a_character(tmp_path):
    with FeatureWriter(tmp_path / "f.h5", contents(), fingerprint=JOB) as writer:
        ok = np.zeros(N, bool)
        writer.write(0, features(0, N), ok, ["é" * 150] + ["two\nlines"] * (N - 1))
        writer.finish()
    with open_features(tmp_path / "f.h5") as file:
        assert file.errors[0] == "é" * 98 + "…"
        assert file.errors[1] == "two lines"


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"paths": (), "labels": np.zeros(0, np.int32)}, DataError, "no images"),
        ({"labels": np.zeros(3, np.int32)}, DataError, "23 paths, 3 labels"),
        ({"class_names": ("a",)}, DataError, "labels go from 0 to 1"),
        ({"layers": ()}, LayerError, "no layer"),
        ({"layers": (LayerSpec("a", "a", (1,)),) * 2}, LayerError, "named twice"),
    ],
)
def test_contents_that_do_not_agree_are_refused(changes, error, match):
    with pytest.raises(error, match=match):
        contents(**changes)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_names_that_hdf5_would_read_as_paths_are_refused(name):
    with pytest.raises(LayerError, match="cannot name"):
        LayerSpec(name, "a", (1,))


def test_unlabelled_images_without_classes_are_stored(tmp_path):
    one = contents(1, labels=np.array([-1]), class_names=())
    with FeatureWriter(tmp_path / "f.h5", one, fingerprint=JOB) as writer:
        write(writer, 0, 1)
        writer.finish()
    with open_features(tmp_path / "f.h5") as file:
        assert (file.class_names, file.labels.tolist()) == ((), [-1])


def test_a_part_is_never_taken_for_a_whole_file(tmp_path):
    interrupt(tmp_path / "f.h5", 9, 9)
    with pytest.raises(StoreError, match="unfinished"):
        open_features(tmp_path / "f.h5.part")
