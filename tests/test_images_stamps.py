"""`stamp_images`: what of a file must stay the same for a run to be resumed."""

import os
import tarfile

import numpy as np

from cnnfeat.images import list_images, stamp_images


def test_a_stamp_follows_path_class_size_and_time_of_change(tmp_path):
    def stamps():
        return stamp_images(list_images(tmp_path)).tolist()

    for name in ("a/1.jpg", "b/1.jpg", "b/2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"bytes")
    first = tmp_path / "a" / "1.jpg"
    before = stamps()
    assert stamps() == before and len(set(before)) == 3
    os.utime(first, ns=(0, first.stat().st_mtime_ns + 1))
    later = stamps()
    assert later[0] != before[0] and later[1:] == before[1:]
    time = first.stat().st_mtime_ns
    first.write_bytes(b"longer than it was")
    os.utime(first, ns=(0, time))
    assert stamps()[0] not in (before[0], later[0])
    (tmp_path / "b").rename(tmp_path / "c")
    assert not set(stamps()[1:]) & set(before)


def test_images_of_a_tar_are_stamped_with_its_time(image_dir, tmp_path):
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(image_dir, arcname=".")
    before = stamp_images(list_images(path))
    assert np.array_equal(stamp_images(list_images(path)), before)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert not (stamp_images(list_images(path)) == before).any()
