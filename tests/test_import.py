"""Features of other tools become a feature file that heads and protocols work on."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from made_exchange import CLASSES, write_small

from cnnfeat.cli.main import cli
from cnnfeat.errors import CnnfeatError, InputError, LayerError
from cnnfeat.exchange import Foreign, _foreign
from cnnfeat.export import ExportOptions, export_file
from cnnfeat.import_ import ImportOptions, import_features
from cnnfeat.store import open_features

ANIMALS = ("ant", "bee", "cat")


def made(n_per_class=6, dtype=np.float32):
    """Return easy rows of three classes, and their paths."""
    labels = np.repeat(np.arange(3), n_per_class)
    rng = np.random.default_rng(0)
    rows = 3 * np.eye(3, 8)[labels] + rng.normal(size=(len(labels), 8)) / 4
    paths = [f"data/{ANIMALS[k]}/{i}.jpg" for i, k in enumerate(labels)]
    return rows.astype(dtype), paths


def head_accuracy(path, folder):
    """Return the accuracy of a head that is trained on the features."""
    line = ["train-svm", str(path), "-o", str(folder / "head.h5"), "--C", "1"]
    trained = CliRunner().invoke(cli, line)
    assert trained.exit_code == 0, trained.output
    told = CliRunner().invoke(
        cli, ["evaluate", str(folder / "head.h5"), str(path), "--json"]
    )
    return json.loads(told.stdout)["accuracy"]


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("at_once", [64, 1 << 24])
def test_what_was_exported_comes_back_whole(tmp_path, monkeypatch, suffix, at_once):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="extra parquet")
    monkeypatch.setattr(_foreign, "_AT_ONCE", at_once)
    write_small(tmp_path / "f.h5")
    export_file(str(tmp_path / "f.h5"), str(tmp_path / f"x{suffix}"))
    import_features(str(tmp_path / f"x{suffix}"), str(tmp_path / "back.h5"))
    with (
        open_features(tmp_path / "f.h5") as a,
        open_features(tmp_path / "back.h5") as b,
    ):
        assert a.paths == b.paths and a.class_names == b.class_names == CLASSES
        np.testing.assert_array_equal(a.labels, b.labels)
        np.testing.assert_array_equal(a.ok, b.ok)
        assert a.errors == b.errors and a.layers == b.layers
        assert a.provenance.items() <= b.provenance.items()
        assert b.table.own_columns["plate"].tolist() == [f"p{k % 2}" for k in range(14)]
        for name in a.layers:
            np.testing.assert_array_equal(a.read(name), b.read(name))


def test_thingsvision_s_array_and_list_train_a_head(tmp_path):
    rows, paths = made()
    np.save(tmp_path / "features.npy", rows)
    (tmp_path / "file_names.txt").write_text("\n".join(paths) + "\n")
    for source in (tmp_path / "features.npy", tmp_path):
        out = tmp_path / "f.h5"
        report = import_features(str(source), str(out), ImportOptions(overwrite=True))
        assert report.classes == dict.fromkeys(ANIMALS, 6)
        with open_features(out) as features:
            np.testing.assert_array_equal(features.read("features"), rows)
            assert features.paths == tuple(paths)
    assert head_accuracy(tmp_path / "f.h5", tmp_path) == 1


def test_clip_retrieval_s_folder_trains_a_head(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="extra parquet")
    parquet = pytest.importorskip("pyarrow.parquet", reason="extra parquet")
    rows, paths = made(dtype=np.float16)
    for name in ("img_emb", "metadata"):
        (tmp_path / "clip" / name).mkdir(parents=True)
    # Eleven parts: their order is that of numbers, not of letters.
    for k, part in enumerate(np.array_split(np.arange(18), 11)):
        np.save(tmp_path / "clip" / "img_emb" / f"img_emb_{k}.npy", rows[part])
        listed = {"image_path": [f"/root/{paths[i]}" for i in part], "caption": None}
        listed["caption"] = [f"caption {i}" for i in part]
        path = tmp_path / "clip" / "metadata" / f"metadata_{k}.parquet"
        parquet.write_table(arrow.table(listed), path)
    import_features(str(tmp_path / "clip"), str(tmp_path / "f.h5"))
    with open_features(tmp_path / "f.h5") as features:
        np.testing.assert_array_equal(features.read("img_emb"), rows)
        assert features.layers["img_emb"].dtype == "float16"
        captions = features.table.own_columns["caption"].tolist()
        assert captions == [f"caption {i}" for i in range(18)]
    assert head_accuracy(tmp_path / "f.h5", tmp_path) == 1


@pytest.mark.parametrize("kind", ["list", "fixed", "large", "columns"])
def test_parquet_of_lists_and_of_columns_is_read(tmp_path, kind):
    arrow = pytest.importorskip("pyarrow", reason="extra parquet")
    parquet = pytest.importorskip("pyarrow.parquet", reason="extra parquet")
    rows, paths = made()
    columns = {"filename": paths, "label": [path.split("/")[1] for path in paths]}
    if kind == "columns":
        # Written in another order than that of their numbers.
        order = [7, 0, 3, 1, 2, 6, 5, 4]
        columns |= {f"feature_{k}": rows[:, k] for k in order}
    else:
        types = {"list": arrow.list_, "large": arrow.large_list}
        made_type = types.get(kind, lambda one: arrow.list_(one, 8))(arrow.float32())
        columns["features"] = arrow.array(rows.tolist(), made_type)
    parquet.write_table(arrow.table(columns), tmp_path / "x.parquet", row_group_size=5)
    import_features(str(tmp_path / "x.parquet"), str(tmp_path / "f.h5"))
    with open_features(tmp_path / "f.h5") as features:
        np.testing.assert_array_equal(features.read("features"), rows)
        assert features.table.class_counts() == dict.fromkeys(ANIMALS, 6)


def test_an_import_says_where_its_rows_come_from(tmp_path):
    rows, paths = made()
    np.savez(tmp_path / "x.npz", a=rows, paths=paths)
    options = ImportOptions(model="ViT-B/32")
    import_features(str(tmp_path / "x.npz"), str(tmp_path / "f.h5"), options)
    with open_features(tmp_path / "f.h5") as features:
        told = features.provenance
    assert told["imported_from"] == str(tmp_path / "x.npz")
    assert told["imported_bytes"] == str((tmp_path / "x.npz").stat().st_size)
    assert told["model"] == "ViT-B/32" and "weights_sha256" not in told


def test_images_of_one_folder_have_no_class(tmp_path):
    rows, _ = made()
    np.savez(tmp_path / "x.npz", a=rows, paths=[f"all/{k}.jpg" for k in range(18)])
    report = import_features(str(tmp_path / "x.npz"), str(tmp_path / "f.h5"))
    assert report.n_classes == 0


def test_a_row_that_is_not_finite_is_kept_as_failed(tmp_path):
    rows, paths = made()
    rows[4, 2] = np.nan
    np.savez(tmp_path / "x.npz", a=rows, paths=paths)
    report = import_features(str(tmp_path / "x.npz"), str(tmp_path / "f.h5"))
    assert report.n_failed == 1
    with open_features(tmp_path / "f.h5") as features:
        assert np.flatnonzero(~features.ok).tolist() == [4]
        assert "non-finite" in features.errors[4]


def spoil(told):
    """Return an archive that says something of itself."""
    rows, paths = made()
    return {"a": rows, "paths": paths, "cnnfeat": np.array(told)}


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"a": made()[0]}, "does not name its images.*found none"),
        ({"paths": made()[1]}, "expected an array of numbers.*found paths"),
        ({"a": made()[0], "paths": made()[1][:3]}, r"paths has shape \(3,\)"),
        ({"a": made()[0], "paths": ["x.jpg"] * 18}, "x.jpg is there twice"),
        ({"a": made()[0], "paths": [" "] * 18}, "row 0 has no path"),
        (spoil("{"), "cannot be read"),
        (spoil("[]"), "is no object"),
        (spoil('{"layers": [{"column": "a"}]}'), "layers is damaged"),
        (
            spoil(
                '{"layers": [{"column": "a", "name": "a", "layer": "", "shape": [9]}]}'
            ),
            "according to itself",
        ),
        (spoil('{"provenance": {"model": 1}}'), "provenance is damaged"),
    ],
)
def test_what_a_foreign_file_lacks_is_one_line(tmp_path, arrays, told):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=told) as caught:
        import_features(str(tmp_path / "x.npz"), str(tmp_path / "f.h5"))
    assert "x.npz" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "f.h5").exists()


def test_pickled_objects_are_never_loaded(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object))
    np.savez(tmp_path / "x.npz", a=np.array([[print]], dtype=object))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(InputError, match=f"{name}: cannot be read"):
            import_features(str(tmp_path / name), str(tmp_path / "f.h5"))


def test_a_list_of_another_length_is_refused(tmp_path):
    rows, paths = made()
    np.save(tmp_path / "x.npy", rows)
    (tmp_path / "file_names.txt").write_text("\n".join(paths[:-1]))
    with pytest.raises(InputError, match=r"names 17 images, and .* has 18 rows"):
        import_features(str(tmp_path / "x.npy"), str(tmp_path / "f.h5"))


def test_an_array_that_is_not_there_is_named(tmp_path):
    rows, paths = made()
    np.savez(tmp_path / "x.npz", a=rows, paths=paths)
    with pytest.raises(LayerError, match="no array 'b'; it has a"):
        import_features(
            str(tmp_path / "x.npz"),
            str(tmp_path / "f.h5"),
            ImportOptions(layers=("b",)),
        )


def test_an_import_that_is_stopped_leaves_nothing(tmp_path, monkeypatch):
    rows, paths = made()
    np.savez(tmp_path / "x.npz", a=rows, paths=paths)

    def stop(self):
        yield 0, {"a": rows[:4]}
        raise KeyboardInterrupt

    monkeypatch.setattr(Foreign, "blocks", stop)
    with pytest.raises(KeyboardInterrupt):
        import_features(str(tmp_path / "x.npz"), str(tmp_path / "f.h5"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


def test_one_layer_of_several_is_exported_and_imported(tmp_path):
    rows = write_small(tmp_path / "f.h5")
    options = ExportOptions(layers=("label",))
    export_file(str(tmp_path / "f.h5"), str(tmp_path / "x.npy"), options)
    import_features(str(tmp_path / "x.npy"), str(tmp_path / "back.h5"))
    with open_features(tmp_path / "back.h5") as features:
        assert features.layers["x"].shape == (2, 2, 3)
        np.testing.assert_array_equal(features.read("x"), rows["label"].reshape(14, -1))
        assert features.class_names == tuple(sorted(CLASSES))
        assert features.labels[5] == -1


def test_errors_are_of_one_family(tmp_path):
    with pytest.raises(CnnfeatError, match=r"expected \.npz"):
        (tmp_path / "x.mat").write_bytes(b"MATLAB")
        import_features(str(tmp_path / "x.mat"), str(tmp_path / "f.h5"))
