"""Reading feature files: rows in any order, layers by any name, damage in words."""

import json
import shutil

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from cnnfeat.errors import LayerError, ShapeError, StoreError
from cnnfeat.image_table import ImageTable
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.store import Contents, FeatureWriter, file_summary, open_features

N = 31
LAYERS = (
    LayerSpec("fc7", "classifier.5", (6,), "none", False, "float32"),
    LayerSpec("fc7:pre", "classifier.4", (6,), "none", True, "float16"),
    LayerSpec("conv1", "features.1", (2, 3, 3), "none", False, "float32"),
)


def arrays():
    rng = np.random.default_rng(5)
    return {spec.name: rng.normal(size=(N, *spec.shape)) for spec in LAYERS}


def write_features(path, layers=LAYERS, **changes):
    values = arrays()
    table = {
        "root": "/images",
        "paths": tuple(f"{k:02}.png" for k in range(N)),
        "labels": np.where(np.arange(N) == 4, -1, np.arange(N) % 3),
        "class_names": ("ant", "bee", "cat"),
    }
    fields = {
        "layers": layers,
        "provenance": {"model": "tiny", "crops": "center"},
        "command": "cnnfeat extract",
    }
    table |= {key: changes.pop(key) for key in table if key in changes}
    contents = Contents(ImageTable(**table), **{**fields, **changes})
    with FeatureWriter(path, contents, fingerprint={}) as file:
        ok = np.arange(N) != 7
        errors = ["" if good else "not an image" for good in ok]
        file.write(0, {spec.name: values[spec.name] for spec in layers}, ok, errors)
        file.finish()
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_features(tmp_path_factory.mktemp("features") / "f.h5")


@pytest.fixture(scope="module")
def reference(path):
    """Each layer read by h5py alone."""
    with h5py.File(path) as file:
        return {
            name: dataset[:].reshape(N, -1).astype(np.float32)
            for name, dataset in file["/features"].items()
        }


def test_attributes_and_tables_come_back(path):
    with open_features(path) as file:
        assert (file.table.root, file.command) == ("/images", "cnnfeat extract")
        assert file.provenance == {"model": "tiny", "crops": "center"}
        assert file.class_names == ("ant", "bee", "cat")
        assert file.paths[30] == "30.png"
        assert file.labels[4] == -1
        assert np.flatnonzero(~file.ok).tolist() == [7]
        assert file.errors[6:8] == ("", "not an image")
        assert file.layers == {spec.name: spec for spec in LAYERS}
        assert file.n_images == N


@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    layer=st.sampled_from(["fc7", "fc7:pre", "conv1", "conv1+fc7"]),
    rows=st.lists(st.integers(0, N - 1), max_size=60),
    gap=st.sampled_from([0, 100, 2**20]),
    run=st.sampled_from([1, 200, 2**20]),
    n_rows=st.integers(1, 70),
)
def test_any_rows_in_any_order(
    path, reference, monkeypatch, layer, rows, gap, run, n_rows
):
    monkeypatch.setattr("cnnfeat.store._features._GAP_BYTES", gap)
    monkeypatch.setattr("cnnfeat.store._features._RUN_BYTES", run)
    names = tuple(layer.split("+"))
    rows = np.array(rows, dtype=np.int64)
    expected = np.concatenate([reference[name][rows] for name in names], axis=1)
    with open_features(path) as file:
        X = file.read(names, rows)
        assert X.dtype == np.float32
        np.testing.assert_array_equal(X, expected)
        blocks = list(file.blocks(names, rows, n_rows))
        for part, block in blocks:
            np.testing.assert_array_equal(block, expected[part])
            assert len(block) <= n_rows
        assert sum(len(block) for _, block in blocks) == len(rows)


def test_all_rows_by_default(path, reference):
    with open_features(path) as file:
        np.testing.assert_array_equal(file.read("conv1"), reference["conv1"])
        assert file.n_features(("conv1", "fc7")) == 24


@pytest.mark.parametrize("rows", [[-1], [N], [[0]], [0.5], [True]])
def test_rows_outside_the_file_are_refused(path, rows):
    with open_features(path) as file, pytest.raises(ShapeError, match="rows"):
        file.read("fc7", np.array(rows))


def test_layers_are_found_by_name_module_and_sum(path, tmp_path):
    with open_features(path) as file:
        assert file.resolve("fc7:pre") == ("fc7:pre",)
        assert file.resolve("classifier.4") == ("fc7:pre",)
        assert file.resolve("conv1+classifier.5") == ("conv1", "fc7")
        with pytest.raises(LayerError, match=r"no layer 'fc8'; nearest: fc7.*it has"):
            file.resolve("fc8")
        with pytest.raises(LayerError, match=r"no layer 'fc8'; nearest: fc7.*it has"):
            file.read(("conv1", "fc8"))
        with pytest.raises(LayerError, match=r"3 layers \(fc7, fc7:pre, conv1\)"):
            file.resolve(None)
    with open_features(write_features(tmp_path / "f.h5", LAYERS[:1])) as file:
        assert file.resolve(None) == ("fc7",)
    twice = (LAYERS[0], LayerSpec("fc7:pre", "classifier.5", (6,)))
    with (
        open_features(write_features(tmp_path / "g.h5", twice)) as file,
        pytest.raises(LayerError, match="names them all"),
    ):
        file.resolve("classifier.5")


def test_layers_of_one_batch_come_in_one_run(path, monkeypatch):
    """Neighbouring rows are one read, not one a row."""
    reads = []
    original = h5py.Dataset.__getitem__

    def count(self, key, **options):
        reads.append(key)
        return original(self, key, **options)

    with open_features(path) as file:
        monkeypatch.setattr(h5py.Dataset, "__getitem__", count)
        file.read("fc7", np.arange(0, N, 2)[::-1])
    assert reads == [slice(0, N)]


# -- damage ----------------------------------------------------------------------------


@pytest.fixture
def copy(path, tmp_path):
    return shutil.copy(path, tmp_path / "copy.h5")


def test_files_that_are_not_hdf5(tmp_path, copy):
    with pytest.raises(StoreError, match="there is no such file"):
        open_features(tmp_path / "no.h5")
    with pytest.raises(StoreError, match="is a folder"):
        open_features(tmp_path)
    (tmp_path / "empty.h5").touch()
    with pytest.raises(StoreError, match="is empty"):
        open_features(tmp_path / "empty.h5")
    (tmp_path / "text.h5").write_text("path,label\n" * 100)
    with pytest.raises(StoreError, match="is not an HDF5 file"):
        open_features(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(StoreError, match="HDF5, but not cnnfeat's"):
        open_features(tmp_path / "other.h5")


@pytest.mark.parametrize(
    ("error", "match"),
    [
        (
            OSError("Unable to open (errno = 13, error message = 'Permission denied')"),
            "cannot be opened: Permission denied$",
        ),
        (OSError(""), "cannot be opened: OSError$"),
        (BlockingIOError(11, "busy"), "is still being written"),
    ],
)
def test_the_systems_reason_is_given(copy, monkeypatch, error, match):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("h5py.File", fail)
    with pytest.raises(StoreError, match=match):
        open_features(copy)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_file_cut_short(copy, kept):
    data = copy.read_bytes()
    copy.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(StoreError, match="is cut short"):
        open_features(copy)


def edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


COMPOSED = [("a", "i4")]


def replace(name, data):
    def change(file):
        attrs = dict(file[name].attrs)
        del file[name]
        file[name] = data
        file[name].attrs.update(attrs)

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda f: f.attrs.__setitem__("format_version", 2), "newer than 1"),
        (lambda f: f.attrs.__setitem__("complete", False), "unfinished.*--resume"),
        (lambda f: f.attrs.__setitem__("format", "cnnfeat-head"), "is a head file"),
        (lambda f: f.__delitem__("/images/ok"), "damaged"),
        (lambda f: f.__delitem__("/provenance"), "damaged"),
        (lambda f: f.__delitem__("/features"), "damaged"),
        (lambda f: f["features/fc7"].attrs.__delitem__("layer"), "damaged"),
        (lambda f: f["features/fc7"].attrs.__setitem__("shape", [7]), "damaged"),
        (lambda f: f.attrs.__setitem__("format_version", -1), "format_version: .* -1"),
        (lambda f: f.attrs.__setitem__("format", [1, 2]), "format: .*text, found"),
        (lambda f: f.attrs.__setitem__("root", 3), "root: expected text, found 3"),
        (lambda f: f["provenance"].attrs.__setitem__("model", 3), "/provenance/model"),
        (lambda f: f["provenance"].attrs.__setitem__("preprocessing", "{"), "not JSON"),
        (lambda f: f.attrs.create("root", np.zeros((), COMPOSED)), "root: .*neither"),
        (replace("/images/label", np.zeros(N, COMPOSED)), "neither number nor"),
        (replace("/images/ok", np.ones(3, bool)), r"/images/ok: .*\(31,\).*\(3,\)"),
        (replace("/images/ok", np.ones(N)), "/images/ok: .*true or false.*float64"),
        (replace("/images/ok", np.full(N, 2)), "/images/ok: .*0 to 1, found 2 to 2"),
        (
            replace("/features/fc7", np.ones((3, 6), "f4")),
            r"fc7: .*\(31, 6\).*\(3, 6\)",
        ),
        (replace("/features/fc7", np.float32(1)), "/features/fc7: .*2 axes"),
        (replace("/features/fc7", np.ones((N, 6), "f8")), "damaged.*float64"),
        (replace("/images/label", np.full(N, 3, "i4")), "-1 to 2, found 3 to 3"),
        (replace("/images/label", np.full(N, -2, "i4")), "-1 to 2, found -2 to -2"),
        (replace("/images/label", np.full(N, 2**32, "i8")), "found 4294967296 to"),
        (replace("/images/label", np.full(N, 2**32 - 2, "u4")), "found 4294967294 to"),
        (replace("/images/label", np.full(N, 0.5)), "whole numbers, found float64"),
        (replace("/images/label", np.zeros((N, 2), "i4")), "/images/label: .*one axis"),
        (replace("/images/path", np.ones(N)), "/images/path: expected text"),
        (replace("/images/path", np.full(N, b"\xff")), "/images/path: not UTF-8"),
        (replace("/classes", np.full(3, b"ant")), "/classes: 'ant' is there twice"),
    ],
)
def test_a_file_that_does_not_hold_together(copy, change, match):
    edit(copy, change)
    with pytest.raises(StoreError, match=match):
        open_features(copy)


def test_a_file_cut_anywhere_is_one_error(path, copy):
    data = path.read_bytes()
    for length in range(0, len(data) - 1, max(1, len(data) // 60)):
        copy.write_bytes(data[:length])
        with pytest.raises(StoreError, match=copy.name) as caught:
            open_features(copy)
        assert "\n" not in str(caught.value)


def test_summary_of_a_feature_file(path):
    summary = json.loads(json.dumps(file_summary(path)))
    assert (summary["kind"], summary["n_images"]) == ("feature", N)
    assert (summary["n_ok"], summary["n_failed"]) == (N - 1, 1)
    assert summary["n_unlabelled"] == 1
    assert summary["classes"] == {"ant": 11, "bee": 9, "cat": 10}
    assert summary["n_bytes"] == path.stat().st_size
    assert summary["layers"][-1] == {
        "name": "conv1",
        "layer": "features.1",
        "shape": [2, 3, 3],
        "pool": "none",
        "before_nonlinearity": False,
        "dtype": "float32",
    }
