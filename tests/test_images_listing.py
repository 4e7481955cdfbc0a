"""`list_images`: every source, its order, its labels, and what is refused."""

import io
import os
import tarfile

import numpy as np
import pytest

from cnnfeat.errors import CnnfeatWarning, ImageError, InputError
from cnnfeat.images import fingerprint_images, list_images, locate


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def make_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, body in members:
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return path


def classes_of(images):
    return [images.class_names[k] if k >= 0 else None for k in images.labels]


def test_class_folders_are_sorted_by_class_then_path(tmp_path):
    touch(tmp_path, "b/2.PNG", "b/1.jpg", "a-/x.gif", "a/z/deep/1.bmp", "a/a.webp")
    images = list_images(tmp_path)
    assert images.class_names == ("a", "a-", "b")
    assert images.paths == (
        "a/a.webp",
        "a/z/deep/1.bmp",
        "a-/x.gif",
        "b/1.jpg",
        "b/2.PNG",
    )
    assert images.labels.tolist() == [0, 0, 1, 2, 2]
    assert images.labels.dtype == np.int32
    assert images.root == str(tmp_path)
    assert len(images) == 5
    assert locate(images, 1).read() == b"a/z/deep/1.bmp"


def test_hidden_files_and_other_suffixes_are_ignored(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/.2.jpg", ".b/1.jpg", "a/notes.txt", "a/.c/3.jpg")
    assert list_images(tmp_path).paths == ("a/1.jpg",)


def test_a_flat_folder_has_no_labels(tmp_path):
    touch(tmp_path, "2.jpg", "10.jpg", "1.jpeg")
    (tmp_path / "x.jpg").mkdir()  # a folder without images, whatever its name
    images = list_images(str(tmp_path))
    assert images.paths == ("1.jpeg", "10.jpg", "2.jpg")
    assert images.labels.tolist() == [-1, -1, -1]
    assert images.class_names == ()


def test_a_folder_named_as_an_image_is_a_folder(tmp_path):
    touch(tmp_path, "x.jpg/1.png", "y.jpg/1.png")
    assert list_images(tmp_path).class_names == ("x.jpg", "y.jpg")


def test_loose_images_and_empty_classes_are_left_out_with_a_warning(tmp_path):
    touch(tmp_path, "a/1.jpg", "loose.jpg", "b/notes.txt")
    with pytest.warns(CnnfeatWarning) as caught:
        assert list_images(tmp_path).paths == ("a/1.jpg",)
    messages = " ".join(str(warning.message) for warning in caught)
    assert "1 images beside the class folders" in messages
    assert "loose.jpg" in messages
    assert "1 folders without images are left out: b" in messages


def test_one_image_file_is_a_list_of_one(tmp_path):
    touch(tmp_path, "one.jpg")
    images = list_images(tmp_path / "one.jpg")
    assert (images.paths, images.root) == (("one.jpg",), str(tmp_path))


def test_names_that_are_not_utf8_are_escaped_and_read(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    with open(folder + b"/\xff.jpg", "wb") as file:
        file.write(b"bytes")
    images = list_images(tmp_path)
    assert images.paths == ("caf\\xe9/\\xff.jpg",)
    assert images.class_names == ("caf\\xe9",)
    assert locate(images, 0).read() == b"bytes"
    assert len(fingerprint_images(images)) == 64
    assert len(list_images(os.fsdecode(folder))) == 1


def test_a_link_back_to_a_folder_above_is_an_error(tmp_path):
    touch(tmp_path, "a/1.jpg")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    with pytest.raises(InputError, match="loop: this symbolic link leads back"):
        list_images(tmp_path)


def test_links_to_one_folder_are_followed_once(tmp_path):
    """Two links at each of 40 levels would make 2^40 folders."""
    levels = tmp_path / "levels"
    touch(levels, *(f"{k:02}/{k:02}.jpg" for k in range(40)))
    for k in range(39):
        for name in "xy":
            (levels / f"{k:02}" / name).symlink_to(levels / f"{k + 1:02}")
    root = touch(tmp_path / "root", "b/1.jpg", "b/z/2.jpg")
    (root / "a").symlink_to(levels / "00")
    (root / "b" / "c").symlink_to(root / "b" / "z")
    (root / "b" / "d").symlink_to(levels / "39")  # in another class it counts anew
    with pytest.warns(CnnfeatWarning, match="40 links to folders that are") as caught:
        images = list_images(root)
    assert len(caught) == 1
    of_a = ["a" + "/x" * k + f"/{k:02}.jpg" for k in range(40)]
    assert images.paths == (*sorted(of_a), "b/1.jpg", "b/d/39.jpg", "b/z/2.jpg")


def test_the_link_that_is_left_out_is_named(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/z/2.jpg")
    (tmp_path / "a" / "c").symlink_to("z")
    with pytest.warns(CnnfeatWarning, match="already are left out: a/c$"):
        assert list_images(tmp_path).paths == ("a/1.jpg", "a/z/2.jpg")


def test_links_to_images_and_folders_are_followed_and_broken_ones_keep_a_row(tmp_path):
    touch(tmp_path, "real/1.jpg")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "real" / "gone.jpg").symlink_to("nowhere.jpg")
    images = list_images(root)
    assert images.paths == ("a/1.jpg", "a/gone.jpg", "a/self.jpg")
    assert locate(images, 0).read() == b"real/1.jpg"
    with pytest.raises(ImageError, match="no such file"):
        locate(images, 1).read()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda p: p / "missing", "missing: no such file or folder"),
        (lambda p: p, "no images in this folder .* found 0 other files"),
        (lambda p: touch(p, "a/notes.txt", "b.txt"), "found 1 other files"),
        (lambda p: touch(p, "a.bin") / "a.bin", "neither a folder"),
        (lambda p: "", "no such file"),
        (lambda p: os.mkfifo(p / "f.csv") or p / "f.csv", "nor a regular file"),
    ],
)
def test_sources_without_images_are_named(tmp_path, make, match):
    with pytest.raises(InputError, match=match):
        list_images(make(tmp_path))


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(InputError, match="cannot be listed: permission denied"):
        list_images(tmp_path)


@pytest.mark.parametrize(("suffix", "comma"), [("csv", ","), ("tsv", "\t")])
def test_a_manifest_keeps_its_order(tmp_path, suffix, comma):
    touch(tmp_path, "z.jpg", "sub/a.jpg")
    lines = [
        "label,PATH,more",
        "dog, z.jpg,1",
        "",
        f"cat,{tmp_path}/sub/a.jpg,2",
        ",b,3",
    ]
    manifest = tmp_path / f"m.{suffix}"
    manifest.write_text("\ufeff" + "\r\n".join(lines).replace(",", comma))
    images = list_images(manifest)
    assert images.paths == ("z.jpg", "sub/a.jpg", "b")
    assert classes_of(images) == ["dog", "cat", None]
    assert images.class_names == ("cat", "dog")
    assert locate(images, 1).read() == b"sub/a.jpg"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "line 1: expected a header with one column named path"),
        ("file,label\na.jpg,x\n", "line 1: expected a header .* found file, label"),
        ("path,path\na,b\n", "line 1: expected a header"),
        ("path,label\n", "names no images"),
        ("path,label\na.jpg,x\nb.jpg\n", "line 3: expected 2 fields .* found 1"),
        ("path\na.jpg,x\n", "line 2: expected 1 fields .* found 2"),
        ("path\na.jpg\n\n./a.jpg\n", "line 4: ./a.jpg stands on line 2 already"),
        ("path,label\n ,x\n", "line 2: '' is not a path"),
        ('path\n"a.jpg\n', "line 2: unexpected end of data"),
    ],
)
def test_malformed_manifests_are_refused_with_the_line(tmp_path, text, match):
    manifest = tmp_path / "m.csv"
    manifest.write_text(text)
    with pytest.raises(InputError, match=match):
        list_images(manifest)


def test_a_manifest_in_another_encoding_finds_its_files(tmp_path):
    with open(os.fsencode(tmp_path) + b"/\xe9.jpg", "wb") as file:
        file.write(b"bytes")
    (tmp_path / "m.csv").write_bytes(b"path\n\xe9.jpg\n")
    images = list_images(tmp_path / "m.csv")
    assert images.paths == ("\\xe9.jpg",)
    assert locate(images, 0).read() == b"bytes"


def test_lines_are_paths_relative_to_the_current_folder(tmp_path, monkeypatch):
    touch(tmp_path, "a b.jpg", "c.jpg")
    monkeypatch.chdir(tmp_path)
    lines = [
        "./c.jpg\n",
        "\n",
        "a b.jpg\r\n",
        " f .jpg\n",
        f"{tmp_path}/d.jpg",
        "/elsewhere/e.jpg",
    ]
    images = list_images("-", stdin=lines)
    assert images.paths == ("c.jpg", "a b.jpg", " f .jpg", "d.jpg", "/elsewhere/e.jpg")
    assert images.labels.tolist() == [-1] * 5
    assert locate(images, 1).read() == b"a b.jpg"
    with pytest.raises(InputError, match="standard input: names no images"):
        list_images("-", stdin=["\n"])
    with pytest.raises(InputError, match="line 2: a stands on line 1 already"):
        list_images("-", stdin=["a", "a"])


def test_a_tar_lists_as_the_folder_it_was_made_from(tmp_path):
    root = touch(
        tmp_path / "root", "b/2.png", "a/1.jpg", "a/.x.jpg", "c/n.txt", "a/z.jpg"
    )
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        archive.add(root, arcname=".")
    images = list_images(tmp_path / "t.tar")
    assert images.paths == ("a/1.jpg", "a/z.jpg", "b/2.png")
    assert classes_of(images) == ["a", "a", "b"]
    assert [locate(images, k).read() for k in range(3)] == [
        b"a/1.jpg",
        b"a/z.jpg",
        b"b/2.png",
    ]
    assert images.root == str(tmp_path / "t.tar")


def test_webdataset_members_carry_the_labels(tmp_path):
    members = [
        ("0.jpg", b"A"),
        ("0.cls", b"7\n"),
        ("d/1.left.png", b"B"),
        ("d/1.txt", b"dog"),
        ("2.jpg", b"C"),
        ("2.json", b'{"label": "cat", "size": 3}'),
        ("3.jpg", b"D"),
        ("d/4.jpg", b"E"),
    ]
    images = list_images(make_tar(tmp_path / "t.tar", members))
    found = dict(zip(images.paths, classes_of(images), strict=True))
    assert found == {
        "0.jpg": "7",
        "d/1.left.png": "dog",
        "2.jpg": "cat",
        "3.jpg": None,
        "d/4.jpg": "d",
    }
    assert sorted(locate(images, k).read() for k in range(5)) == [
        b"A",
        b"B",
        b"C",
        b"D",
        b"E",
    ]


def test_links_in_a_tar_are_no_images(tmp_path):
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        info = tarfile.TarInfo("a.jpg")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(InputError, match="no images in this tar"):
        list_images(tmp_path / "t.tar")


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ([("a.jpg", b""), ("a.json", b"[1]")], "a.json: no label can be read"),
        ([("a.jpg", b""), ("a.json", b"{")], "a.json: no label can be read"),
        ([("a.jpg", b""), ("a.cls", b"")], "a.cls: expected a class name on one line"),
        ([("a.jpg", b""), ("a.txt", b"\xff")], "a.txt: no label can be read"),
        ([("a.jpg", b""), ("./a.jpg", b"")], "a.jpg is in this tar twice"),
        (
            [("a.txt", b"")],
            "no images in this tar .* found 1 other files|found 1 other",
        ),
    ],
)
def test_malformed_tars_are_refused(tmp_path, members, match):
    with pytest.raises(InputError, match=match):
        list_images(make_tar(tmp_path / "t.tar", members))


@pytest.mark.parametrize(("mode", "cure"), [("gz", "gunzip"), ("xz", "unxz")])
def test_a_compressed_tar_is_refused_with_its_cure(tmp_path, mode, cure):
    with tarfile.open(tmp_path / "t.tar", f"w:{mode}"):
        pass
    with pytest.raises(InputError, match=f"compressed; .* {cure} it first"):
        list_images(tmp_path / "t.tar")


def test_a_truncated_tar_is_an_error_and_never_a_shorter_list(tmp_path):
    path = make_tar(tmp_path / "t.tar", [(f"{k}.jpg", b"x" * 2000) for k in range(4)])
    whole = path.read_bytes()
    path.write_bytes(whole[:4000])
    with pytest.raises(InputError, match="nor a whole tar"):
        list_images(path)


HUNDRED = [(f"a/{k:03}.jpg", b"%d" % k * 300) for k in range(100)]


def header_at(path, k):
    """The offset of the header of member k."""
    with tarfile.open(path) as archive:
        return archive.getmembers()[k].offset


def test_a_damaged_header_is_named_by_its_offset(tmp_path):
    path = make_tar(tmp_path / "t.tar", HUNDRED)
    offset = header_at(path, 60)
    data = bytearray(path.read_bytes())
    for damage in (b"x" * 10, bytes(512), bytes(4096)):
        damaged = data.copy()
        damaged[offset : offset + len(damage)] = damage
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"nor a whole tar: .* at byte [\d,]+; "):
            list_images(path)
    data[offset + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"damaged or cut at byte {offset:,}; copy"):
        list_images(path)


def test_a_tar_cut_anywhere_before_its_end_is_an_error(tmp_path):
    path = make_tar(tmp_path / "t.tar", HUNDRED[:4])
    whole, last = path.read_bytes(), header_at(path, 3)
    end = last + 1024
    for size in (*range(0, end + 1024, 512), last + 1, last + 700, end + 1023):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"nor a whole tar: .* at byte [\d,]+; "):
            list_images(path)
    path.write_bytes(whole[: last + 700])
    with pytest.raises(InputError, match=f"end of data at byte {last + 700:,};"):
        list_images(path)
    path.write_bytes(whole[:last])
    with pytest.raises(InputError, match=f"damaged or cut at byte {last:,};"):
        list_images(path)
    path.write_bytes(whole[: end + 1024])
    assert len(list_images(path)) == 4


@pytest.mark.parametrize(
    "how", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
@pytest.mark.parametrize("mode", ["w", "w|"])  # webdataset writes a stream
def test_whole_tars_of_every_format_are_read(tmp_path, how, mode):
    names = ["a/1.jpg", "a/" + "n" * 90 + ".jpg"]
    if how != tarfile.USTAR_FORMAT:
        names.append("b/\xe9" + "n" * 150 + ".jpg")
    with tarfile.open(tmp_path / "t.tar", mode, format=how) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(name), 0.5
            archive.addfile(info, io.BytesIO(name.encode("latin-1")))
    assert (tmp_path / "t.tar").stat().st_size == 10_240
    images = list_images(tmp_path / "t.tar")
    assert images.paths == tuple(names)
    assert [locate(images, k).read().decode("latin-1") for k in range(len(names))] == (
        names
    )


def test_archives_in_one_file_are_read_on_and_other_data_is_refused(tmp_path):
    parts = [
        make_tar(tmp_path / f"{k}.tar", HUNDRED[k : k + 3]).read_bytes()
        for k in (0, 3, 6)
    ]
    path = tmp_path / "t.tar"
    path.write_bytes(b"".join(parts) + bytes(700))
    images = list_images(path)
    assert images.paths == tuple(name for name, _ in HUNDRED[:9])
    assert [locate(images, k).read() for k in range(9)] == [b for _, b in HUNDRED[:9]]
    for tail in (parts[1][:2048], b"more", bytes(100) + parts[1], parts[0]):
        path.write_bytes(parts[0] + tail)
        with pytest.raises(InputError, match=r"at byte 1\d,\d+; |in this tar twice"):
            list_images(path)


def test_a_member_that_leads_backwards_is_an_error(tmp_path):
    path = make_tar(tmp_path / "t.tar", HUNDRED[:2])
    info = tarfile.TarInfo("x")
    info.type, info.size = b"Z", -1024
    data = path.read_bytes()[:2048]
    path.write_bytes(data + info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
    with pytest.raises(InputError, match="negative size at byte 2,048;"):
        list_images(path)


def test_the_fingerprint_follows_paths_labels_and_sizes(tmp_path):
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    before = fingerprint_images(list_images(tmp_path))
    assert fingerprint_images(list_images(tmp_path)) == before
    (tmp_path / "b" / "1.jpg").write_bytes(b"longer than it was")
    changed = fingerprint_images(list_images(tmp_path))
    (tmp_path / "b" / "1.jpg").unlink()
    touch(tmp_path, "b/2.jpg")
    assert len({before, changed, fingerprint_images(list_images(tmp_path))}) == 3


def test_reading_refuses_pipes_and_large_files(tmp_path):
    touch(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "b.jpg")
    images = list_images(tmp_path)
    with pytest.raises(ImageError, match="5 bytes is over the limit of 4"):
        locate(images, 0).read(4)
    with pytest.raises(ImageError, match="not a regular file"):
        locate(images, 1).read()


def test_listing_opens_no_file_and_asks_for_nothing_twice(tmp_path, monkeypatch):
    for name in "abc":
        (tmp_path / name).mkdir()
        for k in range(100):
            (tmp_path / name / f"{k}.jpg").touch()
    scanned, real = [], os.scandir

    def counted(path):
        scanned.append(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", counted)
    monkeypatch.setattr(os, "open", pytest.fail)
    assert len(list_images(tmp_path)) == 300
    assert len(scanned) == len(set(scanned)) == 4
