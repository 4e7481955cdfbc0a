"""`cnnfeat leaks`."""

from typing import Any

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.evidence_reports import echo_leaks
from cnnfeat.cli.progress import progress_bar


@command()
@options.common.features_arg
@options.evidence.other_features_arg
@options.evidence.pairs_output_opt
@options.evidence.sheet_opt
@options.heads.file_layer_opt
@options.evidence.cosine_opt
@options.evidence.bits_opt
@options.evidence.trained_opt
@options.rows.splits_file_opt
@options.rows.split_index_opt
@options.common.overwrite_opt
@options.common.progress_opts
def leaks(
    features_path: str,
    other_path: str | None,
    quiet: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Find copies among the images of FEATURES.h5, or of it and OTHER.h5.

    Pairs whose features are alike are compared: by their bytes, their pixels, and a
    perceptual hash that outlasts resizing, compression and the mirror. Pairs of two
    classes and pairs of a training and a test image come first. The images have to be
    where they were extracted from; pairs of others are counted as unconfirmed.

    \b
    $ cnnfeat leaks features.h5 --trained svm.h5 -o copies.csv --sheet copies.png
    """
    from cnnfeat.leaks import LeaksOptions, find_leaks

    with progress_bar("leaks", quiet=quiet) as progress:
        report = find_leaks(
            features_path, other_path, LeaksOptions(**chosen), progress=progress
        )
    echo_leaks(report, as_json=as_json)
