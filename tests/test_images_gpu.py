"""`--decoder nvjpeg`, with torchvision's CPU decoder in the GPU's place.

The stand-in takes the same bytes and gives the same kind of tensors, so everything but
nvJPEG itself runs as it would.
"""

from io import BytesIO

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from cnnfeat.cli.main import cli
from cnnfeat.errors import DataError, DeviceError
from cnnfeat.images import (
    Preprocessing,
    _gpu as gpu,
    list_images,
    load_batches,
)
from cnnfeat.images._gpu import check_decoder

PREPROCESSING = Preprocessing(resize_size=64, crop_size=(56, 56))
CPU = torch.device("cpu")


def photo(size, seed, mode="RGB"):
    """An image with structure and a little noise, as cameras give."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = np.clip(pixels + rng.integers(-5, 6, pixels.shape), 0, 255)
    return Image.fromarray(noisy.astype(np.uint8)).convert(mode)


def jpeg(image, **options):
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


def rotated(image):
    exif = Image.Exif()
    exif[0x0112] = 6
    return jpeg(image, exif=exif)


@pytest.fixture
def stand_in(monkeypatch):
    """Let the CPU pass for a GPU; count the files that are decoded "there"."""
    monkeypatch.setattr(gpu, "check_decoder", lambda decoder, device: None)
    monkeypatch.setattr("cnnfeat.extraction._extractor.check_decoder", lambda *_: None)
    decoded, decode = [], gpu._decode

    def counted(files, device):
        found = decode(files, device)
        decoded.extend(files)
        return found

    monkeypatch.setattr(gpu, "_decode", counted)
    return decoded


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for k, data in enumerate(files):
        (folder / f"{k:02d}.jpg").write_bytes(data)
    return list_images(folder)


def load(image_list, decoder, preprocessing=PREPROCESSING, **how):
    batches = load_batches(
        image_list, preprocessing, batch_size=3, decoder=decoder, device=CPU, **how
    )
    batches = list(batches)
    images = np.concatenate([batch.images_nhwc for batch in batches])
    return images, [error for batch in batches for error in batch.errors]


def digests(image_list, decoder):
    batches = load_batches(
        image_list, PREPROCESSING, batch_size=3, decoder=decoder, device=CPU
    )
    return [digest for batch in batches for digest in batch.digests]


@pytest.mark.parametrize("crops", ["center", "ten"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_plain_jpegs_are_pil_s_within_grey_levels(
    tmp_path, stand_in, crops, interpolation
):
    sizes = [(90, 70), (70, 130), (64, 64), (40, 50), (300, 200)]
    files = [jpeg(photo(size, k)) for k, size in enumerate(sizes)]
    files += [jpeg(photo((80, 90), 7, "L")), jpeg(photo((80, 90), 8), progressive=True)]
    image_list = write(tmp_path / "a", files)
    how = Preprocessing(64, (56, 56), interpolation)
    expected, _ = load(image_list, "pil", how, crops=crops)
    found, errors = load(image_list, "nvjpeg", how, crops=crops)
    assert errors == [""] * len(files)
    assert len(stand_in) == len(files)
    assert digests(image_list, "nvjpeg") == digests(image_list, "pil")
    assert found.shape == expected.shape
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 2
    assert difference.mean() < 0.2


def test_the_rest_is_left_to_pil_to_the_bit(tmp_path, stand_in):
    image = photo((90, 70), 0)
    png = BytesIO()
    image.save(png, "PNG")
    files = [
        png.getvalue(),
        jpeg(image.convert("CMYK")),
        jpeg(image, keep_rgb=True),
        rotated(image),
        jpeg(image)[:-300],
        b"",
        b"not an image",
    ]
    image_list = write(tmp_path / "a", files)
    expected, reasons = load(image_list, "pil")
    found, errors = load(image_list, "nvjpeg")
    np.testing.assert_array_equal(found, expected)
    assert errors == reasons
    assert digests(image_list, "nvjpeg") == digests(image_list, "pil")
    assert [bool(error) for error in errors] == [*[False] * 4, *[True] * 3]
    assert stand_in == []


def test_what_the_gpu_refuses_is_left_to_pil_and_costs_the_others_nothing(
    tmp_path, stand_in, monkeypatch
):
    files = [jpeg(photo((90, 70), k)) for k in range(7)]
    refused = {files[1], files[6]}
    decode = gpu._decode

    def fussy(batch, device):
        if refused & set(batch):
            raise RuntimeError("nvjpeg: unsupported")
        return decode(batch, device)

    monkeypatch.setattr(gpu, "_decode", fussy)
    image_list = write(tmp_path / "a", files)
    expected, _ = load(image_list, "pil")
    found, errors = load(image_list, "nvjpeg")
    assert errors == [""] * 7
    assert sorted(map(files.index, stand_in)) == [0, 2, 3, 4, 5]
    for k in (1, 6):
        np.testing.assert_array_equal(found[k], expected[k])


def test_a_filter_that_pytorch_lacks_is_named(tmp_path, stand_in):
    image_list = write(tmp_path / "a", [jpeg(photo((90, 70), 0))])
    how = Preprocessing(64, (56, 56), "lanczos")
    with pytest.raises(DataError, match="`decoder=nvjpeg` cannot resize by lanczos"):
        load(image_list, "nvjpeg", how)


def test_without_a_gpu_it_is_refused_before_anything_is_written(image_dir, tmp_path):
    for device in (None, CPU):
        with pytest.raises(DeviceError, match="`decoder=nvjpeg` needs a CUDA GPU"):
            check_decoder("nvjpeg", device)
    check_decoder("fast", CPU)
    output = tmp_path / "f.h5"
    command = ["extract", str(image_dir), "-o", str(output), "--decoder", "nvjpeg"]
    network = ["--model", "squeezenet1_1", "--weights", "random", "--device", "cpu"]
    result = CliRunner().invoke(cli, [*command, *network])
    assert result.exit_code == 1
    assert "needs a CUDA GPU, and the device is cpu; --decoder fast" in result.stderr
    assert not list(tmp_path.glob("f.h5*"))


def test_a_torchvision_that_cannot_is_named(monkeypatch):
    def cannot(files, device):
        raise RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG\nx")

    monkeypatch.setattr(gpu, "_decode", cannot)
    with pytest.raises(DeviceError, match=r"does not decode on cuda: .*nvJPEG; give"):
        check_decoder("nvjpeg", torch.device("cuda"))


def test_the_decoder_is_recorded_and_not_mixed(tmp_path, stand_in):
    folder, output = tmp_path / "images", tmp_path / "f.h5"
    for name in ("ant", "bee"):
        write(folder / name, [jpeg(photo((300, 260), k)) for k in range(5)])

    def extract(*options):
        network = ["--model", "squeezenet1_1", "--weights", "random", "--device", "cpu"]
        command = ["extract", str(folder), "-o", str(output), "--batch-size", "4"]
        layer = ["--layer", "features.1", "--pool", "avg"]
        return CliRunner().invoke(cli, [*command, *network, *layer, *options])

    result = extract("--decoder", "nvjpeg")
    assert result.exit_code == 0, result.output
    with h5py.File(output) as file:
        assert file["provenance"].attrs["decoder"] == "nvjpeg"
        found = file["features/features.1"][:]
    assert len(stand_in) >= 10
    head = str(tmp_path / "h.h5")
    trained = ["train-svm", str(output), "-o", head, "--train-per-class", "3"]
    assert CliRunner().invoke(cli, trained).exit_code == 0
    assert extract("--overwrite").exit_code == 0
    with h5py.File(output) as file:
        by_pil = file["features/features.1"][:]
    assert 0 < np.abs(found - by_pil).max() < 0.05 * np.ptp(by_pil)
    result = CliRunner().invoke(cli, ["evaluate", head, str(output)])
    assert result.exit_code != 0
    assert "decoder is 'pil', but the head was trained on 'nvjpeg'" in result.stderr
