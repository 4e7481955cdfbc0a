"""Features in other tools' formats, read back by those tools."""

import csv
import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from made_exchange import CLASSES, write_small

from cnnfeat.cli.main import cli
from cnnfeat.errors import ExtraError, LayerError, OptionError, OutputError
from cnnfeat.exchange import _columns
from cnnfeat.export import ExportOptions, export_file
from cnnfeat.store import open_features

pytestmark = pytest.mark.filterwarnings("ignore:::anndata", "ignore:::faiss")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The path of the small file, and its rows."""
    path = tmp_path_factory.mktemp("small") / "f.h5"
    return path, write_small(path)


@pytest.fixture
def export(small, tmp_path):
    """Export the small file by suffix; return the path."""

    def write(suffix, **options):
        out = tmp_path / f"out{suffix}"
        export_file(str(small[0]), str(out), ExportOptions(**options))
        return out

    return write


def expected_columns(n=14):
    classes = [CLASSES[k % 3] for k in range(n)]
    classes[5] = ""
    return {
        "path": [f"{k}/ä {k}.png" for k in range(n)],
        "label": [-1 if k == 5 else k % 3 for k in range(n)],
        "class": classes,
        "ok": [k != 3 for k in range(n)],
        "error": ["cut short" if k == 3 else "" for k in range(n)],
        "plate": [f"p{k % 2}" for k in range(n)],
        "ok_": ["theirs"] * n,
    }


# A layer whose name a column has already gets another.
LAYERS = {"fc": "fc", "label": "label_"}


@pytest.mark.parametrize("block_bytes", [200, 1 << 24])
def test_parquet_holds_every_row_for_pyarrow(small, export, monkeypatch, block_bytes):
    parquet = pytest.importorskip("pyarrow.parquet", reason="extra parquet")
    monkeypatch.setattr(_columns, "_BLOCK_BYTES", block_bytes)
    table = parquet.read_table(export(".parquet"))
    for name, values in expected_columns().items():
        assert table[name].to_pylist() == values, name
    for layer, name in LAYERS.items():
        rows = small[1][layer].reshape(14, -1)
        kind = table.schema.field(name).type
        assert kind.list_size == rows.shape[1]
        assert str(kind.value_type) == ("float" if layer == "fc" else "halffloat")
        found = np.array(table[name].to_pylist(), dtype=np.float32)
        np.testing.assert_array_equal(found, rows)


def test_parquet_is_written_in_groups_of_rows(export, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet", reason="extra parquet")
    monkeypatch.setattr(_columns, "_BLOCK_BYTES", 4 * 17 * 3)  # three rows
    read = parquet.ParquetFile(export(".parquet"))
    groups = [read.metadata.row_group(k).num_rows for k in range(read.num_row_groups)]
    assert groups == [3, 3, 3, 3, 2]


def test_parquet_says_where_its_rows_come_from(export):
    parquet = pytest.importorskip("pyarrow.parquet", reason="extra parquet")
    told = json.loads(parquet.read_schema(export(".parquet")).metadata[b"cnnfeat"])
    assert told["provenance"]["model"] == "made"
    assert told["classes"] == list(CLASSES)
    assert told["layers"][1]["shape"] == [2, 2, 3]
    assert told["root"] == "/data/x" and told["command"] == "cnnfeat made"


def test_parquet_is_read_by_pandas_and_duckdb(small, export):
    pandas = pytest.importorskip("pandas", reason="extra parquet")
    duckdb = pytest.importorskip("duckdb", reason="not installed")
    path = export(".parquet")
    frame = pandas.read_parquet(path)
    np.testing.assert_array_equal(np.stack(frame["fc"]), small[1]["fc"])
    assert frame["class"].tolist() == expected_columns()["class"]
    found = duckdb.sql(
        f"select class, count(*), sum(fc[1]) from '{path}' where ok group by class "
        "order by class"
    ).fetchall()
    ok = np.arange(14) != 3
    classes = np.array(expected_columns()["class"])
    for name, count, total in found:
        rows = ok & (classes == name)
        assert count == rows.sum()
        assert total == pytest.approx(small[1]["fc"][rows, 0].sum(), abs=1e-5)
    assert len(found) == 4


def test_npz_opens_without_pickles(small, export, monkeypatch):
    monkeypatch.setattr(_columns, "_BLOCK_BYTES", 300)
    with np.load(export(".npz"), allow_pickle=False) as arrays:
        for name, values in expected_columns().items():
            assert arrays[name].tolist() == values
        for layer, name in LAYERS.items():
            np.testing.assert_array_equal(arrays[name], small[1][layer])
        assert arrays["label_"].dtype == np.float16
        assert json.loads(str(arrays["cnnfeat"]))["provenance"]["model"] == "made"


def test_npy_has_its_table_beside_it(small, export):
    path = export(".npy", layers=("label",))
    np.testing.assert_array_equal(np.load(path), small[1]["label"])
    with path.with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == expected_columns()["path"]
    assert [row["ok"] for row in rows] == [str(k != 3) for k in range(14)]
    assert rows[0]["class"] == "'=ant, red"  # no spreadsheet runs it


def test_h5ad_is_read_by_anndata(small, export):
    anndata = pytest.importorskip("anndata", reason="extra h5ad")
    data = anndata.read_h5ad(export(".h5ad"))
    np.testing.assert_array_equal(data.X, small[1]["fc"])
    np.testing.assert_array_equal(
        data.obsm["label_"], small[1]["label"].reshape(14, -1)
    )
    assert data.obs_names.tolist() == expected_columns()["path"]
    assert data.obs["class"].tolist() == expected_columns()["class"]
    assert json.loads(data.uns["cnnfeat"])["provenance"]["model"] == "made"


def test_an_index_finds_every_ok_row_by_its_number(small, export):
    faiss = pytest.importorskip("faiss", reason="extra faiss")
    path = export(".faiss", layers=("fc",))
    index = faiss.read_index(str(path))
    assert index.ntotal == 13
    distances, rows = index.search(small[1]["fc"], 1)
    ok = np.arange(14) != 3
    np.testing.assert_array_equal(rows[ok, 0], np.flatnonzero(ok))
    assert distances[ok].max() == 0
    assert 3 not in rows
    assert len(path.with_suffix(".csv").read_text().splitlines()) == 15


def test_a_file_of_splits_adds_a_column(small, export, tmp_path):
    splits = tmp_path / "s.csv"
    splits.write_text("path,split\n0/ä 0.png,train\n2/ä 2.png,test\n", "utf-8")
    with np.load(export(".npz", splits_file=str(splits))) as arrays:
        assert arrays["split"].tolist() == ["train", "", "test", *[""] * 11]


@pytest.mark.parametrize(
    ("suffix", "module"),
    [
        *((".parquet", "pyarrow"), (".h5ad", "anndata"), (".faiss", "faiss")),
        (".h5ad", "pandas"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    export, tmp_path, monkeypatch, suffix, module
):
    if module == "pandas":
        pytest.importorskip("anndata", reason="extra h5ad")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ExtraError, match=rf"{module}.*cnnfeat\[{suffix[1:]}\]"):
        export(suffix, layers=("fc",))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".npy", ".faiss"])
def test_a_file_of_one_array_takes_one_layer(export, tmp_path, suffix):
    with pytest.raises(LayerError, match=r"fc, label.*`layers`"):
        export(suffix)
    assert list(tmp_path.iterdir()) == []


def test_each_format_is_for_one_kind_of_file(small, colour_head, tmp_path):
    for path, output in ((small[0], "m.onnx"), (colour_head, "h.parquet")):
        with pytest.raises(OptionError, match=r"exported as \."):
            export_file(str(path), str(tmp_path / output))
    with pytest.raises(OptionError, match="ends in"):
        export_file(str(small[0]), str(tmp_path / "f.mat"))


def test_the_table_beside_is_an_output_too(small, export, tmp_path):
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"out\.csv exists"):
        export(".npy", layers=("fc",))
    assert (tmp_path / "out.csv").read_text() == "mine"
    assert not (tmp_path / "out.npy").exists()


def test_the_command_says_what_it_wrote(small, tmp_path):
    out = tmp_path / "f.npz"
    result = CliRunner().invoke(
        cli, ["export", str(small[0]), "-o", str(out), "--json"]
    )
    told = json.loads(result.stdout)
    assert told["n_images"] == 14 and told["layers"] == {"fc": [5], "label": [2, 2, 3]}
    assert told["n_bytes"] == out.stat().st_size
    with open_features(small[0]) as features:
        assert told["files"] == [str(out)] and features.n_images == 14
