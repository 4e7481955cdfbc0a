"""Tables of images: whose columns, from where, and labels that come later."""

import io
import os

import numpy as np
import pytest
from conftest import write_image
from hypothesis import given, strategies as st

from cnnfeat.errors import CnnfeatWarning, DataError, InputError
from cnnfeat.image_table import ImageTable
from cnnfeat.images import (
    LabelOptions,
    ManifestOptions,
    list_images,
    locate,
    relabel,
)


def names_of(table):
    return [table.class_names[k] if k >= 0 else None for k in table.labels]


def written(path, text):
    path.write_text(text)
    return path


WELLS = "File;Drug;Plate\nx/1.png;DMSO;p1\n2.png;;p2\n"


def test_columns_are_named_and_all_others_kept(tmp_path):
    path = written(tmp_path / "wells.csv", WELLS)
    asked = ManifestOptions(path_column="File", label_column="Drug", root="/images")
    table = list_images(path, options=asked)
    assert (table.root, table.paths) == ("/images", ("x/1.png", "2.png"))
    assert names_of(table) == ["DMSO", None]
    assert {k: v.tolist() for k, v in table.own_columns.items()} == {
        "Plate": ["p1", "p2"]
    }
    assert locate(table, 0).path == "/images/x/1.png"


@pytest.mark.parametrize("sep", [",", "\t", ";", "|"])
def test_the_separator_is_found_by_the_header(tmp_path, sep):
    text = 'path;note;label\na.png;"1;2";cat\n'.replace(";", sep)
    table = list_images(written(tmp_path / "t.csv", text))
    assert table.own_columns["note"].tolist() == [f"1{sep}2"]
    assert names_of(table) == ["cat"]


def test_a_separator_asked_for_is_taken(tmp_path):
    path = written(tmp_path / "t.csv", "path:a,b\nx:1\n")
    table = list_images(path, options=ManifestOptions(sep=":"))
    assert table.own_columns["a,b"].tolist() == ["1"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"path_column": "Files"}, "one column named 'Files'; nearest: File"),
        ({"path_column": "File", "label_column": "x"}, "'x'; found File, Drug, Plate"),
        ({}, "found File, Drug, Plate; `path_column`"),
    ],
)
def test_a_column_that_is_not_there_is_named(tmp_path, options, words):
    path = written(tmp_path / "wells.csv", WELLS)
    with pytest.raises(InputError, match=rf"wells.csv: line 1: .*{words}"):
        list_images(path, options=ManifestOptions(sep=";", **options))


def test_odd_headers_give_each_column_a_name_of_its_own(tmp_path):
    path = written(tmp_path / "t.csv", ",path,.file,x,x\n0,a,1,2,3\n")
    table = list_images(path)
    assert list(table.own_columns) == ["column 1", "file", "x", "x (5)"]
    assert locate(table, 0).path == str(tmp_path / "a")


# -- standard input --------------------------------------------------------------------


def test_standard_input_may_end_each_path_by_nul(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["a.png", "two\nlines\r.png", " b.png"]
    text = "".join(f"./{name}\0" for name in names)
    table = list_images("-", stdin=io.StringIO(text, newline="\n"))
    assert list(table.paths) == names


def test_standard_input_may_be_a_table():
    lines = ["path,label,day\n", "a.png,cat,1\n", '"b,c.png",dog,2\n']
    table = list_images("-", stdin=lines)
    assert (table.paths, names_of(table)) == (("a.png", "b,c.png"), ["cat", "dog"])
    assert table.own_columns["day"].tolist() == ["1", "2"]
    asked = ManifestOptions(path_column="File", root="/r")
    table = list_images("-", stdin=["File,n\n", "a.png,1\n"], options=asked)
    assert (table.root, table.paths) == ("/r", ("a.png",))


@given(names=st.lists(st.text("ab ,;\t.", min_size=1), min_size=1, unique=True))
def test_lines_without_a_header_are_paths(names):
    names = [f"x{name}.png" for name in names]
    table = list_images("-", stdin=[f"{name}\n" for name in names])
    assert list(table.paths) == names


# -- several sources -------------------------------------------------------------------


def test_several_sources_stand_one_after_the_other(tmp_path):
    for name in ("day1/cat/1.png", "day1/dog/2.png", "day2/cat/3.png", "4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / name, seed=1)
    written(tmp_path / "t.csv", "path,label,well\n/elsewhere/5.png,ant,A1\n")
    sources = [tmp_path / name for name in ("day2", "day1", "4.png", "t.csv")]
    table = list_images(sources)
    assert table.root == str(tmp_path)
    assert table.paths == (
        *("day2/cat/3.png", "day1/cat/1.png", "day1/dog/2.png", "4.png"),
        "/elsewhere/5.png",
    )
    assert names_of(table) == ["cat", "cat", "dog", None, "ant"]
    assert table.own_columns["well"].tolist() == ["", "", "", "", "A1"]
    for row in range(4):
        assert os.path.exists(locate(table, row).path)
    with pytest.raises(
        InputError, match=r"4\.png: 4\.png is named by .*4\.png already"
    ):
        list_images([tmp_path / "4.png", tmp_path / "4.png"])
    assert list_images([tmp_path / "day1"]).root == str(tmp_path / "day1")


# -- labels that come later ------------------------------------------------------------


def made_table():
    columns = {"dose": np.array(["lo", "hi", ""], dtype=object)}
    paths = ("a/0.png", "a/1.png", "/far/2.png")
    return ImageTable("/data", paths, [0, 0, -1], ("a",), columns=columns)


def test_labels_are_matched_by_path_wherever_they_start(tmp_path):
    text = "image,Phenotype,well\n/data/a/1.png,round,A1\na/0.png,flat,A2\n"
    path = written(tmp_path / "l.csv", text + "/far/2.png,round,A3\n")
    asked = LabelOptions(
        labels_file=str(path), path_column="image", label_column="Phenotype"
    )
    table = relabel(made_table(), asked)
    assert names_of(table) == ["flat", "round", "round"]
    assert table.class_names == ("flat", "round")
    assert table.own_columns["well"].tolist() == ["A2", "A1", "A3"]
    assert table.own_columns["dose"].tolist() == ["lo", "hi", ""]


def test_images_without_a_label_and_paths_without_an_image_are_told(tmp_path):
    path = written(tmp_path / "l.csv", "path,label\na/0.png,x\nno.png,y\n")
    with pytest.warns(CnnfeatWarning) as warned:
        table = relabel(made_table(), LabelOptions(labels_file=str(path)))
    assert names_of(table) == ["x", None, None]
    told = [str(one.message) for one in warned]
    assert any("1 of 2 paths are none of the images: no.png" in text for text in told)
    assert any("2 of 3 images have no label there, a/1.png" in text for text in told)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\nno.png,x\n", "none of its 1 paths .*: no.png; .*a/0.png; `root`"),
        ("path,kind\na/0.png,x\n", "no labels in it; `label_column` .*: kind"),
        ("path,label\na/0.png,x\n/data/a/0.png,y\n", "line 3: .* stands on line 2"),
    ],
)
def test_tables_of_labels_that_do_not_fit(tmp_path, text, words):
    path = written(tmp_path / "l.csv", text)
    with pytest.raises(InputError, match=words):
        relabel(made_table(), LabelOptions(labels_file=str(path)))


def test_a_column_that_was_kept_may_be_the_label():
    table = relabel(made_table(), LabelOptions(label_column="dose"))
    assert names_of(table) == ["lo", "hi", None]
    with pytest.raises(DataError, match="no column 'doses': there are dose"):
        relabel(made_table(), LabelOptions(label_column="doses"))
    assert relabel(made_table(), LabelOptions()).class_names == ("a",)
