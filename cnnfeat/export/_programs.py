"""A whole classifier as one program: network, pooling, scaler and head.

The program is recorded once, turned into the format, and run there on pixels of any
number of images; only one that computes what `predict` does is written.
"""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from cnnfeat import extraction, heads
from cnnfeat._version import __version__
from cnnfeat.errors import DataError, NetworkError, ProvenanceError
from cnnfeat.exchange import require
from cnnfeat.scoring import Classifier

PIXELS, CLASSES = "pixels", "classes"
_TOLERANCE = 1e-4  # of probabilities; of scores, as a share of the largest
_CHECKED = (1, 4)  # images at once: any number must do
_LARGEST = 2**31 - 1  # bytes of one ONNX file (Protocol Buffers)

Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Program:
    """A program that was checked.

    `pixels` is the shape that it takes, `gives` the name of its output, `difference`
    the largest from what `predict` computes.
    """

    data: bytes
    pixels: list[int | str]
    gives: str
    difference: float


def program_bytes(classifier: Classifier, suffix: str, name: str) -> Program:
    """Return a classifier as a program in the format of a suffix.

    Parameters
    ----------
    classifier : Classifier
        Its extractor open, eager, on the CPU.
    suffix : {".onnx", ".pt2"}
    name : str
        Of the file that it comes from.

    Raises
    ------
    ExtraError
        If ONNX's packages are not installed.
    NetworkError
        If the network cannot be recorded, holds an operation that ONNX has not, or is
        computed otherwise there.
    DataError
        If the head is of nearest neighbours.
    ProvenanceError
        If the head is of features in less than fp32.
    """
    extractor = classifier.extractor
    if extractor.precision != "fp32":
        raise ProvenanceError(
            f"{name}: it was trained on features computed in {extractor.precision}, "
            "and programs compute in fp32: extract with `precision=fp32` and train "
            "again"
        )
    head = classifier.head
    if head is not None and head.neighbours is not None:
        raise DataError(
            f"{name}: nearest neighbours look up training rows and are no program: "
            "train another kind of head"
        )
    convert = _to_onnx() if suffix == ".onnx" else _to_pt2
    tail = nn.Softmax(1) if head is None else heads.HeadModule(head)
    recorded = extraction.record_program(extractor, tail)
    gives = "probabilities" if classifier.score == "probability" else "scores"
    data, run = convert(recorded, gives, _told(classifier, name))
    difference = _check(classifier, run, suffix)
    shape = list(_pixels(classifier, 1).shape[1:])
    return Program(data, ["batch", *shape], gives, difference)


def _told(classifier: Classifier, name: str) -> dict[str, str]:
    """Return what a program says of itself, key by key."""
    extractor, head = classifier.extractor, classifier.head
    told = extractor.provenance()
    fields = ("model", "weights", "weights_sha256", "preprocessing", "crops")
    return {
        CLASSES: json.dumps(list(classifier.class_names), ensure_ascii=False),
        "created_by": f"cnnfeat {__version__}",
        "made_from": name,
        "layer": "" if head is None else head.layer,
        "decoder": classifier.decoder,
        **{key: told[key] for key in fields},
    }


Converted = tuple[bytes, Run]


def _to_pt2(
    recorded: torch.export.ExportedProgram, gives: str, told: dict[str, str]
) -> Converted:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(
            recorded, file, extra_files={"cnnfeat.json": json.dumps(told)}
        )
        file.seek(0)
        module: Any = torch.export.load(file).module()

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            found: np.ndarray = module(torch.from_numpy(pixels)).numpy()
        return found

    return file.getvalue(), run


def _to_onnx() -> Callable[
    [torch.export.ExportedProgram, str, dict[str, str]], Converted
]:
    """Return the conversion; what it needs is asked for before any work."""
    runtime = require("onnxruntime", "onnx")
    require("onnx", "onnx")
    require("onnxscript", "onnx")

    def convert(
        recorded: torch.export.ExportedProgram, gives: str, told: dict[str, str]
    ) -> Converted:
        data = _onnx_bytes(recorded, gives, told)
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors: its warnings are for its developers
        session = runtime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"]
        )
        return data, lambda pixels: session.run(None, {PIXELS: pixels})[0]

    return convert


def _onnx_bytes(
    recorded: torch.export.ExportedProgram, gives: str, told: dict[str, str]
) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program: Any = torch.onnx.export(
                recorded,
                dynamo=True,
                verbose=False,
                input_names=[PIXELS],
                output_names=[gives],
            )
        except torch.onnx.OnnxExporterError as error:
            raise NetworkError(
                f"the network cannot be written as ONNX: {_missing(error)}; .pt2 has "
                "every operation"
            ) from error
    model = program.model_proto
    for key, value in told.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    if model.ByteSize() > _LARGEST:
        raise NetworkError(
            f"the network takes {model.ByteSize():,} bytes, and one ONNX file holds "
            f"{_LARGEST:,}; .pt2 has no such limit"
        )
    data: bytes = model.SerializeToString()
    return data


def _missing(error: BaseException) -> str:
    """Return which operation ONNX has not, or what else its exporter says first."""
    text, cause = str(error), error.__cause__
    while cause is not None:
        text, cause = f"{text} {cause}", cause.__cause__
    operations = dict.fromkeys(re.findall(r"op='?([\w.]+)'?", text))
    if operations:
        return f"ONNX has no operation {', '.join(operations)}"
    return next(iter(text.splitlines()), type(error).__name__)


def _pixels(classifier: Classifier, n_images: int) -> np.ndarray:
    """Return seeded pixels as a program takes them: noise, coarse and fine."""
    example: np.ndarray = classifier.extractor.module.example(n_images).numpy()
    example[::2] = np.repeat(example[::2, :, ::16], 16, 2)[:, :, : example.shape[2]]
    return example if example.shape[1] > 1 else example[:, 0]


def _check(classifier: Classifier, run: Run, suffix: str) -> float:
    """Return the largest difference from `predict` on some pixels.

    Raises
    ------
    NetworkError
        If it is more than rounding.
    """
    largest = 0.0
    for n_images in _CHECKED:
        pixels = _pixels(classifier, n_images)
        crops = pixels if pixels.ndim == 5 else pixels[:, None]
        found = classifier.extractor(crops)
        features = [found[layer].reshape(n_images, -1) for layer in classifier.layers]
        expected = classifier.scores(np.concatenate(features, axis=1))
        given = run(pixels)
        scale = max(1.0, float(np.abs(expected).max()))
        difference = float(np.abs(given - expected).max()) / scale
        if given.shape != expected.shape or not difference <= _TOLERANCE:
            raise NetworkError(
                f"the {suffix} program computes otherwise than `cnnfeat predict`: its "
                f"output differs by {difference:.2g}, more than {_TOLERANCE:g}; "
                "nothing was written"
            )
        largest = max(largest, difference)
    return largest
