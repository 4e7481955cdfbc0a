"""`extract --resume`: only ever with the images that the unfinished run had."""

import os
import shutil
import signal
import tarfile

import pytest
from conftest import write_image
from store_rows import datasets

from cnnfeat.errors import ProvenanceError
from cnnfeat.extract import ExtractOptions, extract_features
from cnnfeat.interrupts import Interrupted

OPTIONS = {
    "model": "squeezenet1_1",
    "weights": "random",
    "layers": ("features.1",),
    "pool": "avg",
    "device": "cpu",
    "engine": "eager",
    "workers": 0,
    "batch_size": 2,
}


def extract(images, output, *, stop=False, **changes):
    def interrupt(n_done, n_images, n_failed):
        if stop and n_done >= 4:
            signal.raise_signal(signal.SIGINT)

    options = ExtractOptions(**{**OPTIONS, **changes})
    return extract_features(str(images), str(output), options, progress=interrupt)


@pytest.fixture
def begun(image_dir, tmp_path):
    """Twelve images, and an unfinished run of which some rows are committed."""
    with pytest.raises(Interrupted):
        extract(image_dir, tmp_path / "f.h5", stop=True)
    return image_dir, tmp_path / "f.h5"


def test_the_same_images_are_resumed(begun, tmp_path):
    images, output = begun
    report = extract(images, output, resume=True)
    assert 4 <= report.n_resumed < 12
    extract(images, tmp_path / "once.h5")
    assert datasets(output) == datasets(tmp_path / "once.h5")


def test_equal_names_sizes_and_times_in_another_folder_are_refused(begun, tmp_path):
    images, output = begun
    shutil.copytree(images, tmp_path / "others")  # copies the times too
    with pytest.raises(ProvenanceError, match=r"root was .*images. and is now "):
        extract(tmp_path / "others", output, resume=True)


def test_an_edited_image_is_named(begun):
    images, output = begun
    edited = images / "bee" / "1.png"
    before = edited.stat()
    write_image(edited, seed=99)
    keep = edited.read_bytes()[: before.st_size].ljust(before.st_size, b"\0")
    edited.write_bytes(keep)  # as long as it was
    os.utime(edited, ns=(0, before.st_mtime_ns + 1))
    with pytest.raises(ProvenanceError, match=r"image 6, now bee/1\.png, is not as"):
        extract(images, output, resume=True)


def test_an_image_that_came_first_is_named(begun):
    images, output = begun
    write_image(images / "bee" / "0a.png", seed=99)
    with pytest.raises(ProvenanceError, match=r"image 6, now bee/0a\.png, is not as"):
        extract(images, output, resume=True)


def test_a_tar_written_anew_is_refused(image_dir, tmp_path):
    def pack(seconds):
        with tarfile.open(tmp_path / "t.tar", "w") as archive:
            archive.add(image_dir, arcname=".")
        os.utime(tmp_path / "t.tar", (seconds, seconds))

    pack(1_000)
    with pytest.raises(Interrupted):
        extract(tmp_path / "t.tar", tmp_path / "f.h5", stop=True)
    pack(2_000)
    with pytest.raises(ProvenanceError, match=r"image 1, now ant/0\.png, is not as"):
        extract(tmp_path / "t.tar", tmp_path / "f.h5", resume=True)


def test_nothing_is_read_to_find_out(begun, monkeypatch):
    images, output = begun
    read = []
    real = os.pread

    def counted(descriptor, *where):
        data = real(descriptor, *where)
        if len(data) > 25:  # to tell the bits a channel, the first are enough
            read.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        return data

    monkeypatch.setattr(os, "pread", counted)
    n_resumed = extract(images, output, resume=True).n_resumed
    assert len(read) == len(set(read)) == 12 - n_resumed
