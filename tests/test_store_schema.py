"""What a file may not do to its reader: lead elsewhere, claim, keep waiting."""

import json
import os

import h5py
import numpy as np
import pytest
from test_store_features import N, edit, write_features
from test_store_heads import make_head

from cnnfeat.errors import StoreError
from cnnfeat.store import file_summary, load_head, open_features, save_head


@pytest.fixture
def path(tmp_path):
    return write_features(tmp_path / "f.h5")


def put(name, make):
    def change(file):
        if name in file:
            del file[name]
        make(file, name)

    return change


def link(target):
    return lambda file, name: file.__setitem__(name, target)


def virtual(file, name):
    layout = h5py.VirtualLayout((N,), "i4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (N,))
    file.create_virtual_dataset(name, layout)


def elsewhere(file, name):
    file.create_dataset(name, (N,), "i4", external=[("/etc/passwd", 0, 4 * N)])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (link(h5py.ExternalLink("other.h5", "/x")), "a link to another file"),
        (virtual, "a virtual dataset"),
        (elsewhere, "its bytes lie in another file"),
    ],
)
@pytest.mark.parametrize("name", ["/images/label", "/features/fc7", "/a/b/unknown"])
def test_nothing_leads_out_of_a_file(path, name, make, match):
    edit(path, put(name, make))
    with pytest.raises(StoreError, match=f"{name}: {match}"):
        open_features(path)


@pytest.mark.parametrize("target", ["/images/label", "/nothing"])
def test_links_that_lead_nowhere_are_named(path, target):
    edit(path, put("/images/label", link(h5py.SoftLink(target))))
    with pytest.raises(StoreError, match="/images/label is missing"):
        open_features(path)


def test_links_inside_and_unknown_datasets_do_no_harm(path):
    def change(file):
        file.move("/images/label", "/images/label-moved")
        file["/images/label"] = h5py.SoftLink("/images/label-moved")
        file["/images/up"] = file["/"]
        file["/images/extra"] = np.ones((2, 2), complex)

    edit(path, change)
    with open_features(path) as file:
        assert file.labels[4] == -1


def test_a_size_that_is_not_there_is_not_read(path):
    """A file of some kB may not fill the memory of its reader."""

    def change(file):
        text = h5py.string_dtype()
        for name in ("label", "ok", "path", "error"):
            del file["images"][name]
            dtype = text if name in ("path", "error") else "i4"
            place = f"/images/{name}"
            file.create_dataset(place, (2**40,), dtype, chunks=(9,), compression=9)

    edit(path, change)
    with pytest.raises(StoreError, match=r"/images/path: most of its .* are absent"):
        open_features(path)


def test_packed_datasets_are_read(path):
    def change(file):
        for name in ("/images/label", "/images/path"):
            values, dtype = file[name][:], file[name].dtype
            del file[name]
            file.create_dataset(name, data=values, dtype=dtype, compression=9)

    edit(path, change)
    with open_features(path) as file:
        assert (file.paths[30], file.labels[4]) == ("30.png", -1)


@pytest.mark.parametrize("seed", ["", "0", "17"])
def test_weights_of_a_seed_or_of_none_are_known(path, seed):
    edit(path, lambda file: file["provenance"].attrs.__setitem__("weights_seed", seed))
    with open_features(path) as file:
        assert file.provenance["weights_seed"] == seed


def test_a_seed_that_is_no_number_is_named(path):
    edit(path, lambda file: file["provenance"].attrs.__setitem__("weights_seed", "-x"))
    with pytest.raises(StoreError, match="/provenance/weights_seed: expected a whole"):
        open_features(path)


@pytest.mark.parametrize("read", [open_features, load_head, file_summary])
def test_pipes_and_long_names_are_no_files(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.h5")
    for name, match in (
        ("pipe.h5", "is a pipe or a device"),
        ("/dev/null", "is a pipe or a device"),
        ("a" * 300, "cannot be opened: File name too long"),
        ("a\0b", "cannot be opened: embedded null byte"),
        ("f.h5/x", "cannot be opened: Not a directory"),
    ):
        (tmp_path / "f.h5").touch()
        with pytest.raises(StoreError, match=match):
            read(tmp_path / name)


def test_a_loop_of_links_is_no_file(tmp_path):
    (tmp_path / "loop.h5").symlink_to("loop.h5")
    with pytest.raises(StoreError, match="cannot be opened: Too many levels"):
        open_features(tmp_path / "loop.h5")


def test_a_link_to_a_file_is_the_file(path, tmp_path):
    (tmp_path / "link.h5").symlink_to(path)
    with open_features(tmp_path / "link.h5") as file:
        assert file.n_images == N


# -- heads ----


def set_json(name, change):
    def edit(file):
        value = json.loads(file.attrs[name])
        file.attrs[name] = json.dumps(change(value))

    return edit


def place(name, value):
    def edit(file):
        if name in file:
            del file[name]
        file[name] = value

    return edit


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (place("coef", np.full((2, 10), np.nan)), "/coef: NaN or infinity"),
        (place("coef", np.ones((2, 10), complex)), "/coef: .*neither number nor text"),
        (place("coef", np.full((2, 10), b"x")), "/coef: expected floating"),
        (place("coef", np.ones((2, 10), int)), "/coef: expected floating"),
        (place("coef", np.ones((2, 9))), r"/scaler/shift: .*\(9,\), found \(10,\)"),
        (place("coef", 1.0), r"/coef: expected 2 axes, found shape \(\)"),
        (place("intercept", np.ones(3)), r"/intercept: expected shape \(2,\)"),
        (place("classes", [b"a", b"a"]), "/classes: 'a' is there twice"),
        (place("classes", np.empty(0, "S1")), "/classes: expected 1 or more"),
        (
            place("scaler/factor", np.ones(9)),
            r"factor: .*10,\), found \(9,",
        ),
        (
            place("scaler/factor", np.full(10, 1e300)),
            "/scaler/factor: NaN or infinity",
        ),
        (
            place("scaler/components", np.ones((10, 10))),
            "one of mean and components",
        ),
        (
            place("scaler/part_widths", [4, 5]),
            "/scaler/part_widths: .*10 .*found 9",
        ),
        (
            place("scaler/part_widths", [11, -1]),
            "part_widths: expected values from 1",
        ),
        (lambda f: f["scaler"].attrs.__setitem__("scale", "x"), "/scaler/scale: .*x"),
        (lambda f: f["scaler"].attrs.__setitem__("n_features_in", 9), "found 9"),
        (lambda f: f.attrs.__setitem__("kind", "tree"), "kind: expected one of"),
        (lambda f: f.attrs.__setitem__("kind", [1]), "kind: expected text"),
        (lambda f: f.attrs.__setitem__("layers", "{"), "layers: not JSON"),
        (lambda f: f.attrs.__setitem__("hyperparameters", "[]"), "an object"),
        (set_json("hyperparameters", lambda h: {"C": [1]}), "hyperparameters/C"),
        (set_json("hyperparameters", lambda h: {"C": -1}), "hyperparameters/C"),
        (set_json("layers", lambda s: s[:1]), "2 classes on 4 features"),
        (set_json("layers", lambda s: [{**s[0], "dtype": "f8"}]), "dtype: expected"),
        (
            set_json("layers", lambda s: [{**s[0], "shape": 3}]),
            "expected a list",
        ),
        (set_json("layers", lambda s: [{**s[0], "shape": [0]}]), "from 1, found 0"),
        (set_json("layers", lambda s: [{**s[0], "x": 1}]), "x is unknown"),
        (
            place("training/path", h5py.ExternalLink("/etc/x.h5", "/x")),
            "another file",
        ),
    ],
)
def test_a_head_that_does_not_hold_together(tmp_path, change, match):
    save_head(tmp_path / "head.h5", make_head())
    with h5py.File(tmp_path / "head.h5", "r+") as file:
        change(file)
    with pytest.raises(StoreError, match=match) as caught:
        load_head(tmp_path / "head.h5")
    assert "\n" not in str(caught.value)


def test_a_head_of_another_program_is_read(tmp_path):
    """Numbers in another order of bytes, in float64, and text of fixed length."""
    head = make_head()
    save_head(tmp_path / "head.h5", head)
    with h5py.File(tmp_path / "head.h5", "r+") as file:
        for name in ("coef", "scaler/factor"):
            place(name, file[name][:].astype(">f8"))(file)
        place("classes", np.array([b"b\xc3\xa9e", b"ant"]))(file)
        file.attrs["root"] = np.bytes_(b"/images")
    found = load_head(tmp_path / "head.h5")
    assert (found.class_names, found.root) == (("bée", "ant"), "/images")
    assert found.scaler["factor"].dtype == np.float32
    np.testing.assert_array_equal(
        found.scores(np.ones((1, 10))), head.coef.sum(1)[None] * 0.5 + head.intercept
    )
