"""Oxford flowers by their published list; Office from one source to another."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.io import savemat

from cnnfeat.errors import OptionError, SplitError
from cnnfeat.image_table import ImageTable
from cnnfeat.protocols import (
    Draw,
    get_protocol,
    protocol_splits,
    read_published_splits,
)

FLOWERS = [f"jpg/image_{number:05}.jpg" for number in range(1, 13)]


def write_setid(folder, **changes):
    sets = {"trnid": [[1, 3, 5]], "valid": [[2, 4]], "tstid": [[6, 7, 8, 12]]}
    savemat(folder / "setid.mat", sets | changes)


def test_flowers_train_on_the_training_and_the_validation_list(tmp_path):
    write_setid(tmp_path)
    (split,) = read_published_splits("flowers102", tmp_path, FLOWERS)
    assert split.train.tolist() == [0, 1, 2, 3, 4]
    assert split.test.tolist() == [5, 6, 7, 11]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "published list, which cannot be read"),
        (b"", "is not the flowers' list"),
        (b"not a matrix", "is not the flowers' list"),
        (b"MATLAB 5.0" + bytes(200), "is not the flowers' list"),
    ],
)
def test_a_list_of_flowers_that_is_none_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "setid.mat").write_bytes(content)
    with pytest.raises(SplitError, match=message):
        read_published_splits("flowers102", tmp_path, FLOWERS)


def test_a_list_of_flowers_without_a_part_or_with_an_image_twice_is_refused(tmp_path):
    savemat(tmp_path / "setid.mat", {"trnid": [[1]], "tstid": [[2]]})
    with pytest.raises(SplitError, match="expected trnid, valid, tstid"):
        read_published_splits("flowers102", tmp_path, FLOWERS)
    write_setid(tmp_path, tstid=[[5, 6]])
    with pytest.raises(SplitError, match="both in training and in test"):
        read_published_splits("flowers102", tmp_path, FLOWERS)


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 300))
def test_a_damaged_list_of_flowers_gives_rows_or_an_error(tmp_path_factory, change, at):
    folder = tmp_path_factory.mktemp("flowers")
    write_setid(folder)
    content = (folder / "setid.mat").read_bytes()
    damaged = content[:at] + change + content[at + len(change) :]
    (folder / "setid.mat").write_bytes(damaged)
    try:
        splits = read_published_splits("flowers102", folder, FLOWERS)
    except SplitError as error:
        assert "\n" not in str(error)
    else:
        assert len(splits) == 1


# -- Office ----------------------------------------------------------------------------

SIZES = {"amazon": 25, "dslr": 7, "webcam": 12}


@pytest.fixture(scope="module")
def office():
    """31 classes, whose images have the same names in all three sources."""
    names = tuple(f"object{k:02}" for k in range(31))
    paths = [
        f"{source}/images/{name}/frame_{k:04}.jpg"
        for source, n in SIZES.items()
        for name in names
        for k in range(n)
    ]
    labels = [names.index(path.split("/")[2]) for path in paths]
    return ImageTable("", tuple(paths), labels, names)


def drawn(table, name="office31", **draw):
    usable = np.ones(len(table), dtype=bool)
    with pytest.warns(match="has 4,110 images"):
        return protocol_splits(
            get_protocol(name), table, Draw(n_splits=2, **draw), usable=usable
        )


@pytest.mark.parametrize(
    ("name", "source", "n_source"),
    [("office31", "amazon", 20), ("office31-dslr", "dslr", 7)],
)
def test_office_learns_from_one_source_and_tests_on_the_webcam(
    office, name, source, n_source
):
    splits = drawn(office, name)
    assert len(splits) == 2
    for split in splits:
        of = np.array([path.split("/")[0] for path in office.paths])
        assert set(of[split.test]) == {"webcam"}
        for folder, n in ((source, n_source), ("webcam", 3)):
            rows = split.train[of[split.train] == folder]
            assert np.bincount(office.labels[rows]).tolist() == [n] * 31
        assert set(of[split.train]) == {source, "webcam"}
        assert np.bincount(office.labels[split.test]).tolist() == [9] * 31
        assert not set(split.train) & set(split.test)
    assert not np.array_equal(splits[0].train, splits[1].train)


def test_office_has_its_own_sizes_and_needs_its_folders(office):
    with pytest.raises(OptionError, match="do not go with it"):
        drawn(office, train_per_class=5)
    flat = ImageTable(
        "",
        [path.replace("/", "_") for path in office.paths],
        office.labels,
        office.class_names,
    )
    with pytest.raises(SplitError, match="no image is in a folder `amazon`"):
        drawn(flat)
