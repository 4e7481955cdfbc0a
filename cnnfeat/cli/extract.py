"""`cnnfeat extract`."""

from typing import TYPE_CHECKING, Any

import click

from cnnfeat.cli import options

if TYPE_CHECKING:
    from cnnfeat.extract import ExtractReport


@click.command()
@options.images_arg
@options.features_output_opt
@options.model_opt
@options.weights_opt
@options.weights_seed_opt
@options.taps_opt
@options.pool_opt
@options.crops_opt
@options.device_opt
@options.batch_size_opt
@options.workers_opt
@options.engine_opt
@options.decoder_opt
@options.precision_opt
@options.dtype_opt
@options.on_error_opt
@options.resume_opt
@options.overwrite_opt
@options.quiet_opt
@options.json_opt
def extract(
    images: str, output_path: str, quiet: bool, as_json: bool, **chosen: Any
) -> None:
    """Tap layers of a network on IMAGES and keep the features in an HDF5 file.

    IMAGES is a folder of class folders, a folder of images, a CSV or TSV manifest with
    a `path` and maybe a `label` column, a tar of images, or - for paths on stdin.

    \b
    $ cnnfeat extract images/ -o features.h5
    $ cnnfeat extract images/ -o features.h5 --model alexnet --layer fc6 --layer fc7
    $ find images/ -name '*.jpg' | cnnfeat extract - -o features.h5 --json
    """
    from cnnfeat.cli.output import command_line, echo_extraction, stdin_lines
    from cnnfeat.cli.progress import progress_bar
    from cnnfeat.extract import ExtractOptions, extract_features

    options.refuse_together(chosen, "resume", "overwrite")
    with progress_bar("extract", quiet=quiet) as bar:
        report = extract_features(
            images,
            output_path,
            ExtractOptions(**chosen),
            stdin=stdin_lines(images),
            progress=bar,
            command=command_line(),
        )
    if not quiet:
        echo_time(report)
    echo_extraction(report, as_json=as_json)


def echo_time(report: "ExtractReport") -> None:
    """Say on stderr where the time went, and which stage was the limit."""
    time = report.time
    wait = time["wait_for_images"] + time["wait_for_writer"]
    click.echo(
        f"cnnfeat: {report.seconds:.1f} s: start {time['start']:.1f}, decode "
        f"{time['decode']:.1f} (beside the rest), forward {time['forward']:.1f}, write "
        f"{time['write']:.1f} (beside the rest), wait {wait:.1f}; engine "
        f"{report.engine}; the limit was {_LIMITS[time['limit']]}",
        err=True,
    )


_LIMITS = {"decode": "decoding", "forward": "the network", "write": "the disk"}
