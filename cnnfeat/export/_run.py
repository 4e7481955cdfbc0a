"""A file of cnnfeat's in the format of another tool, by the suffix of the output."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from cnnfeat import exchange, scoring, suffixes
from cnnfeat.errors import OptionError
from cnnfeat.export._options import ExportOptions, ExportReport
from cnnfeat.export._programs import program_bytes
from cnnfeat.outputs import check_suffix, claimed_outputs, refuse_inputs, write_output
from cnnfeat.splits import read_split
from cnnfeat.store import is_head_file, open_features


def export_file(
    path: str, output_path: str, options: ExportOptions | None = None
) -> ExportReport:
    """Write features, or a whole classifier, in the format of another tool.

    Parameters
    ----------
    path : str
        A feature file, for an output that ends in `.parquet`, `.npz`, `.npy`, `.h5ad`
        or `.faiss`; a head file or weights with class names, for `.onnx` or `.pt2`.
    output_path : str
        `.npy` and `.faiss` have a CSV of the same name beside them, a line a row.
    options : ExportOptions, optional

    Returns
    -------
    ExportReport

    Raises
    ------
    OptionError
        If the suffix is none of these, or not one for a file of this kind.
    ExtraError
        If the format needs a package that is not installed.
    StoreError, WeightsError, ProvenanceError
        If the file is damaged, or the network of a head is not the one found.
    LayerError, SplitError
        As their names say.
    NetworkError
        If the network holds an operation that the format has not, or the program does
        not compute what `predict` does.
    OutputError
        If an output exists already or cannot be written.

    Notes
    -----
    A program takes pixels as `Preprocessing` crops them, uint8 (batch, h, w, 3) in the
    order R, G, B, for any batch; it normalises them itself. Heads on ten crops take
    (batch, 10, h, w, 3). It gives probabilities, or the decision values of an SVM.
    """
    options = options or ExportOptions()
    started = time.monotonic()
    check_suffix(output_path, (*suffixes.EXPORTED_FEATURES, *suffixes.PROGRAMS))
    is_program = suffixes.suffix_of(output_path) in suffixes.PROGRAMS
    _refuse_other_kind(path, output_path, is_program)
    files = [output_path] if is_program else exchange.exported_files(output_path)
    read = [path, options.splits_file or path]
    with claimed_outputs(files, read, overwrite=options.overwrite):
        export = _export_classifier if is_program else _export_features
        report = export(path, output_path, options)
    return replace(
        report,
        files=files,
        n_bytes=sum(os.path.getsize(file) for file in files),
        seconds=round(time.monotonic() - started, 3),
    )


def _refuse_other_kind(path: str, output_path: str, is_program: bool) -> None:
    is_weights = suffixes.suffix_of(path) in suffixes.WEIGHTS
    is_classifier = is_weights or is_head_file(path)
    if is_classifier == is_program:
        return
    kind = "features are" if is_program else "a classifier is"
    known = suffixes.EXPORTED_FEATURES if is_program else suffixes.PROGRAMS
    listed = f"{', '.join(known[:-1])} or {known[-1]}"
    raise OptionError(f"{output_path}: {kind} exported as {listed}")


def _export_features(
    path: str, output_path: str, options: ExportOptions
) -> ExportReport:
    with open_features(path) as features:
        names = [name for one in options.layers for name in features.resolve(one)]
        layers = list(dict.fromkeys(names)) or list(features.layers)
        split = None
        if options.splits_file is not None:
            split = read_split(options.splits_file, features.paths, options.split_index)
        columns = exchange.RowColumns(features, layers, split)
        exchange.write_features(output_path, columns, overwrite=options.overwrite)
        return ExportReport(
            output=output_path,
            files=[],
            kind="features",
            n_images=features.n_images,
            layers={spec.name: list(spec.shape) for spec in columns.specs},
        )


def _export_classifier(
    path: str, output_path: str, options: ExportOptions
) -> ExportReport:
    asked = scoring.ScoringOptions(model=options.model, device="cpu", engine="eager")
    classifier = scoring.read_classifier(path, asked)
    with classifier.extractor:
        source = classifier.extractor.network.weights.source
        refuse_inputs([output_path], [source] if Path(source).is_file() else [])
        program = program_bytes(
            classifier, suffixes.suffix_of(output_path), os.path.basename(path)
        )
        write_output(output_path, program.data, overwrite=options.overwrite)
    return ExportReport(
        output=output_path,
        files=[],
        kind=f"classifier ({classifier.kind})",
        n_classes=len(classifier.class_names),
        pixels=program.pixels,
        gives=program.gives,
        difference=float(f"{program.difference:.2g}"),
    )
