"""`cnnfeat benchmark`."""

from typing import Any

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.output import command_line
from cnnfeat.cli.progress import progress_bar
from cnnfeat.cli.reports import echo_benchmark


@command()
@options.benchmark.features_args
@options.rows.protocol_opt
@options.benchmark.file_layers_opt
@options.benchmark.heads_opt
@options.rows.drawing_opts
@options.rows.train_sizes_opt
@options.rows.splits_file_opt
@options.images.relabelling_opts
@options.heads.C_opt
@options.heads.scale_opt
@options.heads.sqrt_opt
@options.heads.power_opt
@options.heads.pca_opt
@options.heads.feature_dropout_opt
@options.benchmark.baselines_opt
@options.benchmark.compare_opt
@options.benchmark.report_opt
@options.benchmark.memory_opt
@options.common.device_opt
@options.common.overwrite_opt
@options.common.quiet_opt
@options.common.verbose_opt
@options.common.json_opt
def benchmark(
    features_paths: tuple[str, ...],
    quiet: bool,
    verbose: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Measure layers and heads of FEATURES.h5 over a paper's splits.

    Several feature files of the same images are measured on the same rows and splits,
    so that any two rows of the table are paired.

    Prints both accuracies as mean and standard deviation over the splits, the C chosen
    inside the training rows of each split, and the papers' numbers. The best row is
    compared with every other on the same splits.

    \b
    $ cnnfeat benchmark features.h5 --protocol caltech101-zf --report report/
    $ cnnfeat benchmark features.h5 --protocol folder --train-per-class 20 --splits 5
    $ cnnfeat benchmark features.h5 --train-per-class 20 --compare fc6 fc7
    $ cnnfeat benchmark alexnet.h5 resnet50.h5 --folds 5
    """
    from cnnfeat.benchmark import run_benchmark

    with progress_bar("benchmark", quiet=quiet) as progress:
        report = run_benchmark(
            features_paths,
            options.benchmark.benchmark_options(chosen),
            progress=progress,
            command=command_line(),
        )
    echo_benchmark(report, verbose=verbose, as_json=as_json)
