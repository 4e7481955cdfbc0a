"""Head files: what is saved comes back, and only goes with the features it is for."""

import dataclasses
import json

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from cnnfeat.errors import OutputError, ProvenanceError, ShapeError, StoreError
from cnnfeat.heads import SCALES, Head
from cnnfeat.image_table import ImageTable
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.store import (
    Contents,
    FeatureWriter,
    check_same_provenance,
    file_summary,
    is_trained_from,
    load_head,
    open_features,
    save_head,
)

FC7 = LayerSpec("fc7", "classifier.5", (4,), "none", False)
CONV1 = LayerSpec("conv1", "features.1", (2, 3), "avg", False)
PROVENANCE = {
    "model": "tiny",
    "weights_sha256": "ab12",
    "preprocessing": '{"resize": 8, "crop": 6}',
    "crops": "center",
    "decoder": "pil",
    "engine": "eager",
}


def scaler_of(d, n_components=None, **changes):
    """What a fitted transform of d features gives."""
    width = n_components or d
    scaler = {
        "scale": "mean-norm",
        "signed_sqrt": False,
        "power": 1.0,
        "part_widths": np.array([], np.int64),
        "shift": np.zeros(width, np.float32),
        "factor": np.full(width, 0.5, np.float32),
        "n_features_in": d,
    }
    if n_components:
        scaler["mean"] = np.ones(d, np.float32)
        scaler["components"] = np.ones((width, d), np.float32)
    return scaler | changes


def make_head(**changes):
    fields = {
        "kind": "svm",
        "coef": np.arange(20, dtype=np.float32).reshape(2, 10),
        "intercept": np.array([1, -1], np.float32),
        "class_names": ("bée", "ant"),
        "scaler": scaler_of(10),
        "training_paths": ("bée/0.png",),
        "heldout_paths": ("bée/1.png", "ant/1.png"),
        "layer": "fc7+conv1",
        "layer_specs": (FC7, CONV1),
        "hyperparameters": {"C": 1.0, "grid": [0.1, 1.0], "seed": None},
        "provenance": PROVENANCE,
        "root": "/images",
        "command": "cnnfeat train-svm f.h5",
    }
    return Head(**{**fields, **changes})


def write_features(path, layers=(FC7, CONV1), **changes):
    table = {
        "root": "/images",
        "paths": ("ant/1.png", "bée/0.png", "bée/1.png"),
        "labels": np.array([0, 1, 1]),
        "class_names": ("ant", "bée"),
    }
    fields = {
        "layers": layers,
        "provenance": PROVENANCE,
        "command": "",
    }
    table |= {key: changes.pop(key) for key in table if key in changes}
    contents = Contents(ImageTable(**table), **{**fields, **changes})
    with FeatureWriter(path, contents, fingerprint={}) as file:
        rows = {spec.name: np.ones((3, *spec.shape)) for spec in layers}
        file.write(0, rows, np.ones(3, bool), [""] * 3)
        file.finish()
    return open_features(path)


def assert_same(value, expected):
    if dataclasses.is_dataclass(expected):
        for field in dataclasses.fields(expected):
            assert_same(getattr(value, field.name), getattr(expected, field.name))
    elif isinstance(expected, dict):
        assert value.keys() == expected.keys()
        for key in expected:
            assert_same(value[key], expected[key])
    elif isinstance(expected, np.ndarray):
        assert value.dtype == expected.dtype
        np.testing.assert_array_equal(value, expected)
    else:
        assert type(value) is type(expected)
        np.testing.assert_equal(value, expected)


names = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00/"), min_size=1, max_size=8
).filter(lambda name: name.strip("."))
floats = hnp.from_dtype(np.dtype("float32"), allow_nan=False, allow_infinity=False)


@st.composite
def heads(draw):
    spec = st.builds(
        LayerSpec,
        names,
        names,
        st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple),
        st.sampled_from(["none", "avg"]),
        st.booleans(),
    )
    specs = tuple(draw(st.lists(spec, min_size=1, max_size=2)))
    classes = tuple(draw(st.lists(names, min_size=1, max_size=4, unique=True)))
    d = sum(spec.n_features for spec in specs)
    n_components = draw(st.none() | st.integers(1, 3))
    shape = (len(classes), n_components or d)
    dtype = draw(st.sampled_from(["float32", "float64"]))
    scalars = st.one_of(st.floats(), st.integers(-(2**62), 2**62), st.booleans(), names)
    parts = draw(st.booleans())
    scaler = scaler_of(
        d,
        n_components,
        scale=draw(st.sampled_from(SCALES)),
        signed_sqrt=draw(st.booleans()),
        part_widths=np.array([s.n_features for s in specs] * parts, np.int64),
        factor=draw(hnp.arrays("float32", shape[1:], elements=floats)),
    )
    return make_head(
        kind=draw(st.sampled_from(["svm", "softmax", "ridge", "ncm"])),
        coef=draw(hnp.arrays(dtype, shape, elements=floats)),
        intercept=draw(hnp.arrays(dtype, shape[:1], elements=floats)),
        class_names=classes,
        scaler=scaler,
        training_paths=tuple(draw(st.lists(names, max_size=3))),
        training_digests=tuple(draw(st.lists(names, max_size=3))),
        heldout_paths=tuple(draw(st.lists(names, max_size=3))),
        layer_specs=specs,
        hyperparameters=draw(
            st.dictionaries(names, st.one_of(scalars, st.lists(names)), max_size=3)
        ),
        provenance=draw(st.dictionaries(names, names, max_size=3)),
    )


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(head=heads())
def test_what_is_saved_comes_back(tmp_path, head):
    save_head(tmp_path / "head.h5", head, overwrite=True)
    assert_same(load_head(tmp_path / "head.h5"), head)


def test_any_hdf5_reader_finds_the_documented_names(tmp_path):
    save_head(tmp_path / "head.h5", make_head())
    assert [path.name for path in tmp_path.iterdir()] == ["head.h5"]
    with h5py.File(tmp_path / "head.h5") as file:
        assert file.attrs["format"] == "cnnfeat-head"
        assert file["/coef"].shape == (2, 10)
        assert file["/intercept"].shape == (2,)
        assert file["/classes"].asstr()[:].tolist() == ["bée", "ant"]
        assert file["/training/path"].asstr()[:].tolist() == ["bée/0.png"]
        assert file["/scaler"].attrs["scale"] == "mean-norm"
        assert json.loads(file.attrs["hyperparameters"])["C"] == 1.0
        assert dict(file["/provenance"].attrs) == PROVENANCE


def test_an_existing_head_is_kept_unless_asked(tmp_path):
    path = tmp_path / "head.h5"
    path.write_text("old")
    with pytest.raises(OutputError, match="exists already"):
        save_head(path, make_head())
    assert path.read_text() == "old"
    save_head(path, make_head(), overwrite=True)
    assert load_head(path).kind == "svm"


def test_a_head_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "head.h5"
    path.write_text("old")
    with pytest.raises(TypeError):
        save_head(path, make_head(scaler={"x": object()}), overwrite=True)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["head.h5"]
    with pytest.raises(OutputError, match="there is no folder"):
        save_head(tmp_path / "no" / "head.h5", make_head())


def test_a_full_disk_leaves_the_old_head(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    path = tmp_path / "head.h5"
    save_head(path, make_head())
    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    with pytest.raises(
        OutputError, match=r"head\.h5: cannot be written: No space left"
    ):
        save_head(path, make_head(kind="softmax"), overwrite=True)
    assert load_head(path).kind == "svm"
    assert [entry.name for entry in tmp_path.iterdir()] == ["head.h5"]


def test_arrays_that_do_not_agree_are_refused():
    with pytest.raises(ShapeError, match=r"2 classes on 10 features"):
        make_head(coef=np.zeros((2, 9)))
    with pytest.raises(ShapeError, match="intercept"):
        make_head(intercept=np.zeros(3))


def test_damaged_heads_are_named(tmp_path):
    path = tmp_path / "head.h5"
    with pytest.raises(StoreError, match="no such file"):
        load_head(path)
    save_head(path, make_head())
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(StoreError, match="cut short"):
        load_head(path)
    for name in ("coef", "classes", "heldout/path", "scaler", "provenance"):
        path.write_bytes(data)
        with h5py.File(path, "r+") as file:
            del file[name]
        with pytest.raises(StoreError, match="damaged"):
            load_head(path)


def test_features_and_heads_are_not_mixed_up(tmp_path):
    save_head(tmp_path / "head.h5", make_head())
    write_features(tmp_path / "f.h5").close()
    with pytest.raises(StoreError, match=r"is a head file; expected a feature file"):
        open_features(tmp_path / "head.h5")
    with pytest.raises(StoreError, match=r"is a feature file; expected a head file"):
        load_head(tmp_path / "f.h5")


def test_summary_of_a_head_file(tmp_path):
    save_head(tmp_path / "head.h5", make_head())
    summary = json.loads(json.dumps(file_summary(tmp_path / "head.h5")))
    assert (summary["kind"], summary["head"], summary["C"]) == ("head", "svm", 1.0)
    assert (summary["n_training"], summary["n_heldout"]) == (1, 2)
    assert summary["scaler"]["factor"] == "float32 (10,)"
    assert summary["provenance"] == PROVENANCE


# -- a head and its features -----------------------------------------------------------


def test_the_same_provenance_gives_the_layers_to_read(tmp_path):
    with write_features(tmp_path / "f.h5") as features:
        assert check_same_provenance(make_head(), features) == ("fc7", "conv1")


def test_neither_names_nor_key_order_nor_engine_matter(tmp_path):
    provenance = {
        **PROVENANCE,
        "preprocessing": '{"crop": 6, "resize": 8}',
        "engine": "openvino",
    }
    renamed = (
        dataclasses.replace(CONV1, dtype="float16"),
        dataclasses.replace(FC7, name="classifier.5"),
        LayerSpec("fc7:pre", "classifier.5", (4,), "none", True),
    )
    with write_features(tmp_path / "f.h5", renamed, provenance=provenance) as features:
        assert check_same_provenance(make_head(), features) == ("classifier.5", "conv1")


@pytest.mark.parametrize(
    ("trained", "found", "agree"),
    [
        (None, None, True),  # both files of an earlier version
        (None, "full", True),
        (None, "auto", True),  # no image with more than 8 bits
        ("0,4095", "auto", True),
        ("0,4095", "0,4095", True),
        (None, "0,4095", False),
        ("0,4095", None, False),
        ("minmax", "full", False),
    ],
)
def test_ranges_of_values_agree_or_are_named(tmp_path, trained, found, agree):
    ranges = [{} if one is None else {"range": one} for one in (trained, found)]
    head = make_head(provenance={**PROVENANCE, **ranges[0]})
    told = {**PROVENANCE, **ranges[1]}
    with write_features(tmp_path / "f.h5", provenance=told) as features:
        assert features.table.value_range == (found or "full")
        if agree:
            assert check_same_provenance(head, features) == ("fc7", "conv1")
            return
        with pytest.raises(ProvenanceError, match=r"range is .*the same `value_range`"):
            check_same_provenance(head, features)


@pytest.mark.parametrize("field", sorted(PROVENANCE.keys() - {"engine"}))
def test_a_field_that_differs_is_named(tmp_path, field):
    other = '{"other": 1}' if field == "preprocessing" else "other"
    changed = {**PROVENANCE, field: other}
    match = f"{field} is '{other}'.*with the same `"
    with (
        write_features(tmp_path / "f.h5", provenance=changed) as features,
        pytest.raises(ProvenanceError, match=match),
    ):
        check_same_provenance(make_head(), features)


def test_text_that_no_json_reader_takes_is_text(tmp_path):
    changed = {**PROVENANCE, "decoder": "[" * 9999}
    with (
        write_features(tmp_path / "f.h5", provenance=changed) as features,
        pytest.raises(ProvenanceError, match="decoder is"),
    ):
        check_same_provenance(make_head(), features)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"layer": "features.2"}, "layer is 'classifier.5, features.2'"),
        ({"pool": "max"}, "pool of layer features.1 is 'max'.*'avg'.*`pool`"),
        ({"shape": (2, 4)}, r"shape of layer features.1 is '\(2, 4\)'"),
        ({"before_nonlinearity": True}, "before_nonlinearity .* 'True'.*`layers`"),
    ],
)
def test_a_layer_that_differs_is_named(tmp_path, change, match):
    layers = (FC7, dataclasses.replace(CONV1, **change))
    with (
        write_features(tmp_path / "f.h5", layers) as features,
        pytest.raises(ProvenanceError, match=match),
    ):
        check_same_provenance(make_head(), features)


def test_equal_file_names_in_another_folder_are_not_the_training_images(tmp_path):
    with write_features(tmp_path / "f.h5") as own:
        assert is_trained_from(make_head(), own)
        assert not is_trained_from(make_head(training_paths=("x.png",)), own)
    with write_features(tmp_path / "g.h5", root="/test") as other:
        assert not is_trained_from(make_head(), other)


def test_the_digest_of_the_images_decides_where_there_is_one(tmp_path):
    digest = {**PROVENANCE, "images_sha256": "1"}
    with write_features(
        tmp_path / "f.h5", root="/moved", provenance=digest
    ) as features:
        assert is_trained_from(make_head(provenance=digest), features)
        other = make_head(provenance={**digest, "images_sha256": "2"})
        assert not is_trained_from(other, features)


def test_other_images_of_the_same_names_are_not_the_training_images(tmp_path):
    head = make_head(training_digests=("d0",))
    rows = {"bée/0.png": "d0", "bée/1.png": "d1", "ant/1.png": "d2"}
    for changed, expected in [
        ({}, True),
        ({"ant/1.png": "other"}, True),  # not trained on
        ({"bée/0.png": "other"}, False),
        ({"bée/0.png": ""}, True),  # not known
    ]:
        path = tmp_path / "f.h5"
        path.unlink(missing_ok=True)
        with write_features(path) as features:
            told = {**rows, **changed}
            features.table = features.table.with_digests(
                [told.get(name, "") for name in features.paths]
            )
            assert is_trained_from(head, features) == expected


def test_files_of_the_first_versions_have_no_digests(tmp_path):
    with write_features(tmp_path / "f.h5") as features:
        rows = np.arange(features.n_images)
        assert set(features.table.digests(rows)) == {""}
    save_head(tmp_path / "head.h5", make_head(training_digests=("d0",)))
    for name, dataset in (("f.h5", "images/digest"), ("head.h5", "training/digest")):
        with h5py.File(tmp_path / name, "r+") as file:
            del file[dataset]
    assert load_head(tmp_path / "head.h5").training_digests == ()
    with open_features(tmp_path / "f.h5") as features:
        assert set(features.table.digests(rows)) == {""}
