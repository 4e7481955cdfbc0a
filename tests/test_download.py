"""Fetching and unpacking, against a server on loopback that misbehaves."""

import hashlib
import http.server
import io
import os
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import files_up_to

from cnnfeat.datasets import (
    FileRecipe,
    count_images,
    list_recipes,
    load_recipe,
    read_recipe,
    unpack_archive,
)
from cnnfeat.download import download_dataset
from cnnfeat.errors import CnnfeatWarning, DownloadError
from cnnfeat.fetching import fetch_file

PAYLOAD = bytes(range(256)) * 400  # 102,400 bytes
FAST = {"retries": 3, "timeout": 5.0, "backoff": 0.0}


class Server(http.server.ThreadingHTTPServer):
    """Serves `payload`; `mode` says how it misbehaves."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.payload, self.mode, self.requests = PAYLOAD, "good", []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/file"

    def handle_error(self, request, client_address):
        pass  # a client that hangs up is part of the tests


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        data, mode = self.server.payload, self.server.mode
        asked = self.headers.get("Range")
        self.server.requests.append(asked)
        if mode == "redirect" and self.path == "/file":
            self.send_response(302)
            self.send_header("Location", "/other")
            return self.end_headers()
        if mode in ("404", "503"):
            return self.send_error(int(mode))
        start = 0
        if asked and mode != "no range":
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                return self.end_headers()
            self.send_response(206)
            sent = start + 1 if mode == "wrong range" else start
            self.send_header("Content-Range", f"bytes {sent}-{len(data) - 1}/*")
        else:
            self.send_response(200)
        body = data[start:]
        lie = {"too large": 5000, "too small": -5000}.get(mode, 0)
        self.send_header("Content-Length", str(len(body) + lie))
        self.end_headers()
        breaks = mode == "breaks off" or (mode == "no range" and not asked)
        return self.wfile.write(body[: len(body) // 2 + 1] if breaks else body)


@pytest.fixture
def server():
    with Server() as one:
        thread = threading.Thread(target=one.serve_forever, args=(0.01,))
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def recipe_of(server, **changes):
    plain = FileRecipe(
        "file.bin",
        server.url,
        size=len(PAYLOAD),
        md5=hashlib.md5(PAYLOAD).hexdigest(),
    )
    return replace(plain, **changes)


def test_a_full_disk_is_no_broken_connection(server, tmp_path):
    with files_up_to(50_000), pytest.raises(DownloadError) as caught:
        fetch_file(recipe_of(server), tmp_path / "file.bin", **FAST)
    assert "file.bin.part: cannot be written: File too large" in str(caught.value)
    assert "50000 bytes are kept" in str(caught.value)
    assert len(server.requests) == 1  # it is not tried again
    fetch_file(recipe_of(server), tmp_path / "file.bin", **FAST)
    assert server.requests[1:] == ["bytes=50000-"]
    assert (tmp_path / "file.bin").read_bytes() == PAYLOAD


def test_an_archive_of_folders_without_end_is_refused(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("a/" * 1500 + "x.jpg"))
    with pytest.raises(DownloadError, match="is 1501 folders deep"):
        unpack_archive(tmp_path / "x.tar", tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


def test_a_good_server_gives_the_bytes_and_progress(server, tmp_path):
    seen = []
    path = tmp_path / "file.bin"
    fetch_file(recipe_of(server), path, progress=lambda *a: seen.append(a), **FAST)
    assert path.read_bytes() == PAYLOAD
    assert seen[-1] == ("file.bin", len(PAYLOAD), len(PAYLOAD))
    assert not (tmp_path / "file.bin.part").exists()
    fetch_file(recipe_of(server), path, **FAST)
    assert server.requests == [None]  # the second time asks for nothing


@pytest.mark.parametrize("mode", ["breaks off", "no range", "redirect"])
def test_it_arrives_whole_all_the_same(server, tmp_path, mode):
    server.mode = mode
    fetch_file(recipe_of(server), tmp_path / "file.bin", **FAST)
    assert (tmp_path / "file.bin").read_bytes() == PAYLOAD


def test_a_broken_download_resumes_where_it_stopped(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(PAYLOAD[:1000])
    fetch_file(recipe_of(server), tmp_path / "file.bin", **FAST)
    assert server.requests == ["bytes=1000-"]
    assert (tmp_path / "file.bin").read_bytes() == PAYLOAD


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_stands_in_for_the_part_is_not_written_to(server, tmp_path, kind):
    (tmp_path / "mine").write_bytes(b"mine")
    part = tmp_path / "file.bin.part"
    part.symlink_to("mine") if kind == "link" else os.mkfifo(part)
    with pytest.raises(DownloadError, match=r"file\.bin\.part is .*: remove it"):
        fetch_file(recipe_of(server), tmp_path / "file.bin", **FAST)
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert len(server.requests) == 1


def test_a_complete_part_of_unknown_size_is_taken_on_416(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(PAYLOAD)
    fetch_file(recipe_of(server, size=None), tmp_path / "file.bin", **FAST)
    assert (tmp_path / "file.bin").read_bytes() == PAYLOAD


def test_a_part_of_another_file_starts_over_on_416(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(PAYLOAD + b"more")
    fetch_file(recipe_of(server, size=None), tmp_path / "file.bin", **FAST)
    assert (tmp_path / "file.bin").read_bytes() == PAYLOAD


def test_a_wrong_range_is_not_appended(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(PAYLOAD[:1000])
    server.mode = "wrong range"
    fetch_file(recipe_of(server), tmp_path / "file.bin", **FAST)
    assert (tmp_path / "file.bin").read_bytes() == PAYLOAD


@pytest.mark.parametrize("mode", ["too large", "too small"])
def test_a_lie_about_the_size_is_named(server, tmp_path, mode):
    server.mode = mode
    with pytest.raises(DownloadError, match=r"expected 102400 bytes.*announces"):
        fetch_file(recipe_of(server), tmp_path / "file.bin", **FAST)
    assert not (tmp_path / "file.bin").exists()


def test_wrong_bytes_are_set_aside(server, tmp_path):
    server.payload = PAYLOAD[::-1]
    found = hashlib.md5(server.payload).hexdigest()
    with pytest.raises(DownloadError, match=rf"expected md5 .*found {found}.*aside"):
        fetch_file(recipe_of(server), tmp_path / "file.bin", **FAST)
    assert not (tmp_path / "file.bin").exists()
    server.payload = PAYLOAD
    fetch_file(recipe_of(server), tmp_path / "file.bin", **FAST)  # the cure works


@pytest.mark.parametrize(("mode", "n_requests"), [("404", 1), ("503", 3)])
def test_refusals_name_the_status_and_the_place(server, tmp_path, mode, n_requests):
    server.mode = mode
    path = tmp_path / "file.bin"
    with pytest.raises(DownloadError, match=f"{mode}.*put it at {path}"):
        fetch_file(recipe_of(server), path, **FAST)
    assert len(server.requests) == n_requests


def test_offline_is_one_line(tmp_path):
    file = FileRecipe("a.zip", "http://127.0.0.1:9/a.zip")
    with pytest.raises(DownloadError, match=r"127.0.0.1:9/a.zip.*by hand") as caught:
        fetch_file(file, tmp_path / "a.zip", **FAST)
    assert "\n" not in str(caught.value)


def make_tar(entries, mode="w:gz"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, data in entries.items():
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = b"" if isinstance(data, tarfile.TarInfo) else data
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def make_zip(entries):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in entries.items():
            bundle.writestr(name, data)
    return out.getvalue()


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("make", [make_tar, make_zip])
@pytest.mark.parametrize("name", ["../out.jpg", "/abs/out.jpg", "a/../../out.jpg"])
def test_members_that_leave_the_folder_refuse_the_archive(tmp_path, make, name):
    archive = tmp_path / "bad"
    archive.write_bytes(make({"a/ok.jpg": b"x", name: b"y"}))
    with pytest.raises(DownloadError, match="leaves the folder"):
        unpack_archive(archive, tmp_path / "there")
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_left_out(tmp_path, kind):
    archive = tmp_path / "bad.tar"
    entries = {"evil": link("evil", "/etc", kind), "evil/passwd": b"x"}
    archive.write_bytes(make_tar(entries, "w"))
    with pytest.warns(CnnfeatWarning, match="left out 'evil'"):
        unpack_archive(archive, tmp_path / "there")
    assert (tmp_path / "there/evil/passwd").read_bytes() == b"x"
    assert not (tmp_path / "there/evil").is_symlink()


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_a_bomb_is_refused(tmp_path, make, monkeypatch):
    monkeypatch.setattr("cnnfeat.datasets._unpack.MIN_LIMIT", 1000)
    archive = tmp_path / "bomb"
    archive.write_bytes(make({"a": bytes(1_000_000)}))
    with pytest.raises(DownloadError, match="grows beyond"):
        unpack_archive(archive, tmp_path / "there")
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize("data", [b"", b"no archive", make_tar({"a": PAYLOAD})[:300]])
def test_a_damaged_archive_is_named(tmp_path, data):
    (tmp_path / "x.tgz").write_bytes(data)
    with pytest.raises(DownloadError, match=r"x\.tgz"):
        unpack_archive(tmp_path / "x.tgz", tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_strip_and_nested_archives(tmp_path):
    inner = make_tar({"objects/ant/1.jpg": b"1"})
    archive = tmp_path / "outer.zip"
    archive.write_bytes(make_zip({"set/in.tgz": inner, "__MACOSX/junk": b"j"}))
    unpack_archive(archive, tmp_path / "out", strip="set", nested=("in.tgz",))
    files = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert files == [tmp_path / "out/objects/ant/1.jpg"]
    with pytest.raises(DownloadError, match="exists already"):
        unpack_archive(archive, tmp_path / "out")
    with pytest.raises(DownloadError, match=r"expected no\.tgz inside"):
        unpack_archive(archive, tmp_path / "o2", strip="set", nested=("no.tgz",))


def test_counting_top_and_leaf_folders(tmp_path):
    for name in ("a/1.jpg", "a/2.PNG", "a/note.txt", "b/c/3.jpg", "b/d/4.gif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert count_images(tmp_path, "top") == (2, 1)
    assert count_images(tmp_path, "leaf") == (4, 3)
    assert count_images(tmp_path / "missing") == (0, 0)


def dataset_recipe(server, **changes):
    server.payload = make_tar({"set/ant/1.jpg": b"1", "set/bee/2.jpg": b"2"})
    file = FileRecipe("set.tgz", server.url, unpacks_to="set", strip="set")
    plain = replace(load_recipe("caltech101"), name="tiny", files=(file,))
    return replace(plain, images="set", n_images=2, n_classes=2, **changes)


def test_a_data_set_is_downloaded_once(server, tmp_path):
    recipe = dataset_recipe(server)
    first = download_dataset("tiny", tmp_path / "new/data", recipe=recipe, **FAST)
    assert (first.n_images, first.n_classes) == (2, 2)
    assert (first.fetched, first.unpacked) == (("set.tgz",), ("set",))
    second = download_dataset("tiny", tmp_path / "new/data", recipe=recipe, **FAST)
    assert (second.fetched, second.unpacked) == ((), ())
    assert len(server.requests) == 1


def test_an_archive_put_there_by_hand_is_unpacked(server, tmp_path):
    recipe = dataset_recipe(server)
    (tmp_path / "set.tgz").write_bytes(server.payload)
    report = download_dataset("tiny", tmp_path, recipe=recipe, **FAST)
    assert (report.fetched, report.unpacked) == ((), ("set",))
    assert server.requests == []


def test_other_counts_than_published_are_warned_of(server, tmp_path):
    recipe = replace(dataset_recipe(server), n_images=3)
    with pytest.warns(CnnfeatWarning, match="expected 3 images in 2 classes, found 2"):
        download_dataset("tiny", tmp_path, recipe=recipe, **FAST)


def test_missing_split_lists_are_warned_of(server, tmp_path):
    recipe = dataset_recipe(server, splits=("train.txt",))
    with pytest.warns(CnnfeatWarning, match=r"lists are missing: train\.txt"):
        download_dataset("tiny", tmp_path, recipe=recipe, **FAST)


def test_a_folder_that_cannot_be_made_is_named(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="cannot be written"):
        download_dataset("x", tmp_path / "file/x", recipe=dataset_recipe(server))


def test_an_unknown_data_set_offers_the_nearest():
    with pytest.raises(DownloadError, match="did you mean 'caltech101'"):
        load_recipe("caltech-101")


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("https://data.caltech.edu/records/mzrjq-6wc02/files", "file:///etc", "http"),
        ('unpacks_to = "caltech-101"', 'unpacks_to = "../x"', "leaves its folder"),
        ("n_images = 9144", "", "n_images"),
        ("n_images = 9144", "n_images = ", "damaged recipe"),
        ("n_images = 9144", 'n_images = "many"', "n_images: expected a whole number"),
        ("n_images = 9144", "n_images = 0", "n_images: .* from 1, found 0"),
        ("size = 137414764", "size = -1", r"files\[0\]/size: .* found -1"),
        ('md5 = "3138', 'md5 = "313', r"files\[0\]/md5: expected 32 hexadecimal"),
        ('nested = ["', 'nested = [1, "', r"files\[0\]/nested\[0\]: expected text"),
        ('class_folders = "top"', 'class_folders = "any"', "one of top, leaf"),
        ('name = "caltech101"', 'names = "caltech101"', "name is missing"),
        ("[[files]]", "[files]", "files: expected a list"),
        ("n_classes = 102", "n_classes = 102\nextra = 1", "extra is unknown"),
    ],
)
def test_a_damaged_recipe_is_refused(old, new, match):
    path = Path(__file__).parent.parent / "cnnfeat/datasets/recipes/caltech101.toml"
    with pytest.raises(DownloadError, match=match):
        read_recipe(path.read_text().replace(old, new, 1))


def test_the_five_data_sets_have_recipes():
    names = ["caltech101", "caltech256", "cub200", "mit67", "sun397"]
    assert list_recipes() == names


@pytest.mark.parametrize("name", list_recipes())
def test_the_readme_of_data_agrees_with_the_recipe(name):
    text = (Path(__file__).parent.parent / "data/README.md").read_text()
    section = text.split(f"## `{name}`")[1].split("\n## ")[0]
    recipe = load_recipe(name)
    facts = [recipe.page, recipe.licence, recipe.citation, recipe.split_format]
    facts += [f"{recipe.n_images:,} in {recipe.n_classes}", recipe.notes]
    facts += recipe.splits
    for file in recipe.files:
        facts += [file.url, *(file.digest or ("none published",))]
        facts.append(f"{file.size:,}" if file.size else "none published")
        assert bool(file.digest) == bool(file.checksum_source)
    assert [fact for fact in facts if fact not in section] == []


@pytest.mark.images
def test_the_count_of_caltech101_is_the_published_one(caltech101_dir):
    recipe = load_recipe("caltech101")
    assert count_images(caltech101_dir) == (recipe.n_images, recipe.n_classes)
