"""`cnnfeat benchmark`."""

from typing import Any

import click

from cnnfeat.cli import options


@click.command()
@options.features_arg
@options.protocol_opt
@options.benchmark_layers_opt
@options.heads_opt
@options.drawing_opts
@options.train_sizes_opt
@options.splits_file_opt
@options.C_opt
@options.scale_opt
@options.sqrt_opt
@options.pca_opt
@options.dropout_opt
@options.baselines_opt
@options.compare_opt
@options.report_opt
@options.memory_opt
@options.device_opt
@options.overwrite_opt
@options.quiet_opt
@options.verbose_opt
@options.json_opt
def benchmark(
    features_path: str, quiet: bool, verbose: bool, as_json: bool, **chosen: Any
) -> None:
    """Measure layers and heads of FEATURES.h5 over a paper's splits.

    Prints mean and standard deviation over the splits, both accuracies, the C chosen
    inside the training rows of each split, the papers' numbers, and the best row
    against every other on the same splits.

    \b
    $ cnnfeat benchmark features.h5 --protocol caltech101-zf --report report/
    $ cnnfeat benchmark features.h5 --protocol folder --train-per-class 20 --splits 5
    $ cnnfeat benchmark features.h5 --train-per-class 20 --compare fc6 fc7
    """
    from cnnfeat.benchmark import run_benchmark
    from cnnfeat.cli.output import echo_benchmark
    from cnnfeat.cli.progress import progress_bar

    with progress_bar("benchmark", quiet=quiet) as progress:
        report = run_benchmark(
            features_path, options.benchmark_options(chosen), progress=progress
        )
    echo_benchmark(report, verbose=verbose, as_json=as_json)
