"""`cnnfeat extract`."""

from typing import Any

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.output import command_line, stdin_lines
from cnnfeat.cli.progress import progress_bar
from cnnfeat.cli.reports import echo_extraction


@command()
@options.images.images_arg
@options.extraction.features_output_opt
@options.images.table_opts
@options.extraction.model_opt
@options.extraction.weights_opt
@options.extraction.weights_seed_opt
@options.extraction.allow_missing_opt
@options.extraction.input_size_opt
@options.extraction.preprocessing_opt
@options.extraction.network_layers_opt
@options.extraction.pool_opt
@options.extraction.tokens_opt
@options.extraction.crops_opt
@options.common.device_opt
@options.extraction.forward_batch_opt
@options.common.workers_opt
@options.extraction.engine_opt
@options.extraction.decoder_opt
@options.extraction.value_range_opt
@options.extraction.pages_opt
@options.extraction.precision_opt
@options.extraction.dtype_opt
@options.extraction.shard_opt
@options.extraction.shards_opt
@options.extraction.on_error_opt
@options.extraction.max_failed_opt
@options.common.resume_opt
@options.common.overwrite_opt
@options.extraction.retry_failed_opt
@options.extraction.add_opt
@options.common.quiet_opt
@options.common.verbose_opt
@options.common.json_opt
def extract(
    images: tuple[str, ...],
    output_path: str,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Extract features of IMAGES from a network's layers into an HDF5 file.

    IMAGES is a folder of class folders, a folder of images, a table (CSV, TSV) with a
    column of paths and maybe one of labels, whose other columns are kept, a tar of
    images, or - for standard input: paths, one a line or ended by NUL, or a table.
    Several may be given.

    --resume goes on with the images that the unfinished run had: it compares the
    folder, and each image's path, class, size and time of change, and reads no image
    for it. --retry-failed goes by the folder, paths and classes; of the images that it
    reads again it compares the contents.

    --add is for images that came later: the same command again, with it. Images whose
    contents the file knows keep their rows, wherever they lie now; all others are
    computed with the file's engine, batch size and range of values. Paths, labels and
    classes become those that are listed now. It removes no image: where one of the file
    is not listed any more, it is refused. Interrupted, it goes on when given again.

    \b
    $ cnnfeat extract images/ -o features.h5
    $ cnnfeat extract images/ -o features.h5 --add
    $ cnnfeat extract images/ -o features.h5 --model alexnet --layer fc6 --layer fc7
    $ cnnfeat extract wells.csv -o features.h5 --path-column File --label-column Drug
    $ find images/ -name '*.jpg' -print0 | cnnfeat extract - -o features.h5 --json
    """
    from cnnfeat.extract import ExtractOptions, extract_features

    options.extraction.refuse_contradictions(chosen)
    with progress_bar("extract", quiet=quiet) as progress:
        report = extract_features(
            images,
            output_path,
            ExtractOptions(**chosen),
            stdin=stdin_lines(images),
            progress=progress,
            command=command_line(),
        )
    echo_extraction(report, verbose=verbose, as_json=as_json)
