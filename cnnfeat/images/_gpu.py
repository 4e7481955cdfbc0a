"""JPEGs decoded and resized by a GPU, for `--decoder nvjpeg`.

Its arithmetic is not PIL's: pixels differ by grey levels, so what it made is recorded
and never mixed with the rest. What a GPU does not decode as PIL does is left to PIL:
other formats, CMYK, images that are to be turned upright, files that lack their end.
The limits on one image's seconds and memory cannot be kept.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.io import ImageReadMode, decode_jpeg

from cnnfeat.errors import DataError, DeviceError, ImageError
from cnnfeat.images._decode import plain_jpeg_size
from cnnfeat.images._preprocessing import MAX_RESIZED_PIXELS
from cnnfeat.images._reading import Location, content_digest
from cnnfeat.images._worker import DecodingJob, Loaded

# Files that are read at once: network drives are slow to answer.
_N_READERS = 8
# PIL's filters that PyTorch has: name and whether they smooth when they shrink.
_MODES = {
    "nearest": ("nearest-exact", False),
    "bilinear": ("bilinear", True),
    "bicubic": ("bicubic", True),
}


def check_decoder(decoder: str, device: torch.device | None) -> None:
    """Raise DeviceError where JPEGs are to be decoded on a device that cannot."""
    if decoder != "nvjpeg":
        return
    if device is None or device.type != "cuda":
        raise DeviceError(
            f"`decoder=nvjpeg` needs a CUDA GPU, and the device is {device or 'none'}; "
            "`decoder=fast` and `decoder=pil` run anywhere"
        )
    encoded = BytesIO()
    Image.new("RGB", (16, 16)).save(encoded, "JPEG")
    try:
        _decode([encoded.getvalue()], device)
    except (ImportError, AttributeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DeviceError(
            f"`decoder=nvjpeg`: torchvision does not decode on {device}: {reason}; "
            "give `decoder=pil`"
        ) from error


class GpuDecoder:
    """Decodes batches of images for one job; to be used as a context manager.

    Parameters
    ----------
    job : DecodingJob
    device : torch.device
        Any that torchvision decodes on.

    Raises
    ------
    DataError
        If PyTorch has no such filter as the preprocessing wants.
    """

    def __init__(self, job: DecodingJob, device: Any) -> None:
        self._job = job
        self._device = device
        if job.preprocessing.interpolation not in _MODES:
            raise DataError(
                f"`decoder=nvjpeg` cannot resize by {job.preprocessing.interpolation} "
                "as these weights want; give `decoder=pil`"
            )
        self._readers = ThreadPoolExecutor(_N_READERS, "cnnfeat-read")
        self._stream: Any = None

    def __enter__(self) -> GpuDecoder:
        return self

    def __exit__(self, *exception: object) -> None:
        self._readers.shutdown(wait=False, cancel_futures=True)

    def load_into(
        self, locations: Sequence[Location], pixels: np.ndarray
    ) -> list[Loaded]:
        """Write images into `pixels` and say what became of each.

        Parameters
        ----------
        locations : sequence of m Location
        pixels : ndarray of shape (m, n_crops, crop_h, crop_w, 3), dtype=uint8
            Left as it was where an image fails.

        Returns
        -------
        list of m Loaded
            Each with its share of the time.
        """
        started = time.perf_counter()
        files = list(self._readers.map(self._read, locations))
        suits = {k: data for k, data in enumerate(files) if self._suits(data)}
        with self._on_own_stream():
            decoded = self._decode_all(list(suits.values()))
        found = dict(zip(suits, decoded, strict=True))
        digests = self._readers.map(_digest, files, locations)
        loaded = []
        for k, (data, digest) in enumerate(zip(files, digests, strict=True)):
            try:
                if isinstance(data, ImageError):
                    raise data
                resized, notes = found.get(k), tuple[str, ...]()
                if resized is None:
                    pixels[k], notes = self._job.decode(data, locations[k].page)
                else:
                    crops = self._job.crops
                    pixels[k] = self._job.preprocessing.crop(resized, crops)
                loaded.append(Loaded("", digest, notes=notes))
            except ImageError as error:
                loaded.append(Loaded(str(error)))
        share = (time.perf_counter() - started) / max(1, len(loaded))
        return [one._replace(seconds=share) for one in loaded]

    def _read(self, location: Location) -> bytes | ImageError:
        try:
            return location.read(self._job.limits.file_bytes)
        except ImageError as error:
            return error

    def _suits(self, data: Any) -> bool:
        """Tell whether the GPU decodes these bytes as PIL does."""
        if isinstance(data, ImageError):
            return False
        if not data[-64:].rstrip(b"\0").endswith(b"\xff\xd9"):  # cut off
            return False
        size = plain_jpeg_size(data, self._job.limits)
        if size is None:
            return False
        width, height = self._job.preprocessing.resized_size(*size)
        return 0 < width * height <= MAX_RESIZED_PIXELS

    def _on_own_stream(self) -> AbstractContextManager[Any]:
        """Let the work run beside the network, which has the usual stream."""
        if self._device.type != "cuda":
            return nullcontext()
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._device)
        return torch.cuda.stream(self._stream)

    def _decode_all(self, files: list[Any]) -> list[Image.Image | None]:
        """Return the resized images, None where the GPU gives none."""
        if not files:
            return []
        try:
            return [self._resize(image) for image in _decode(files, self._device)]
        except RuntimeError:  # one of them: which one is not said
            if len(files) == 1:
                return [None]
        return [image for data in files for image in self._decode_all([data])]

    def _resize(self, image: torch.Tensor) -> Image.Image:
        """Return the image (3, h, w), uint8, as PIL would resize it, on the host."""
        preprocessing = self._job.preprocessing
        width, height = preprocessing.resized_size(image.shape[2], image.shape[1])
        mode, smooths = _MODES[preprocessing.interpolation]
        pixels = image[None].float()
        if (width, height) != (image.shape[2], image.shape[1]):
            pixels = interpolate(pixels, (height, width), mode=mode, antialias=smooths)
        rounded = pixels[0].round_().clamp_(0, 255).byte()
        return Image.fromarray(rounded.permute(1, 2, 0).cpu().numpy())


def _digest(data: bytes | ImageError, location: Location) -> str:
    if isinstance(data, ImageError):
        return ""
    return content_digest(data, location.page)


def _decode(files: Sequence[bytes], device: Any) -> list[torch.Tensor]:
    """Return each JPEG as RGB (3, h, w), uint8, on the device."""
    with warnings.catch_warnings():
        # bytes cannot be written to, which nobody does; and decode_jpeg is to move to
        # another package in some later release.
        warnings.simplefilter("ignore")
        tensors = [torch.frombuffer(data, dtype=torch.uint8) for data in files]
        return decode_jpeg(tensors, mode=ImageReadMode.RGB, device=device)
