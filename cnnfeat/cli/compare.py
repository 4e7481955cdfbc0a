"""`cnnfeat compare`."""

from typing import Any

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.evidence_reports import echo_comparison


@command()
@options.benchmark.features_args
@options.evidence.likeness_output_opt
@options.evidence.plot_opt
@options.benchmark.file_layers_opt
@options.evidence.measure_opt
@options.evidence.n_images_opt
@options.evidence.n_draws_opt
@options.rows.seed_opt
@options.common.overwrite_opt
@options.common.output_opts
def compare(features_paths: tuple[str, ...], as_json: bool, **chosen: Any) -> None:
    """Tell how alike layers, networks and checkpoints are on the same images.

    \b
    cka              linear CKA, unbiased
    rsa-correlation  Spearman's correlation of 1 - r between images
    rsa-euclidean    the same of Euclidean distances
    rsa-cosine       the same of 1 - cosine
    neighbours       the share of each image's 10 nearest that both sets have
    procrustes       after the best rotation; slow where features are wide

    Each is 1 for sets that differ by a rotation and a scale (rsa-correlation and the
    neighbours of some also by less). Images are matched by path; 95 % intervals are
    percentiles of draws of half the images.

    \b
    $ cnnfeat compare layers.h5 --plot cka.png
    $ cnnfeat compare before.h5 after.h5 --measure cka,neighbours --json
    """
    from cnnfeat.compare import CompareOptions, compare_features

    report = compare_features(features_paths, CompareOptions(**chosen))
    echo_comparison(report, as_json=as_json)
