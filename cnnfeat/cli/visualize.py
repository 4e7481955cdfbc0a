"""`cnnfeat visualize`: one function for each thing that is seen."""

from typing import Any

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.output import echo_record, stdin_lines
from cnnfeat.cli.progress import progress_bar
from cnnfeat.cli.visualize_reports import (
    echo_explanation,
    echo_neighbours,
    echo_occlusion,
    echo_top_patches,
)

visualize = options.visualize


@command("visualize filters")
@visualize.outputs_opts
@visualize.network_opts
@visualize.layer_opt
@visualize.way_opt
@visualize.scale_opt
@visualize.sort_opt
@visualize.beside_opt
@visualize.run_opts
def filters(as_json: bool, **chosen: Any) -> None:
    """Draw the kernels of a layer, those of the first convolution by default.

    \b
    $ cnnfeat visualize filters -o filters.png
    $ cnnfeat visualize filters --model alexnet --beside tuned.pth -o beside.pdf
    $ cnnfeat visualize filters --layer blocks.2.0.conv_dw --as slices --html page/
    """
    from cnnfeat.visualize import FiltersOptions, look_at_filters

    echo_record(look_at_filters(FiltersOptions(**chosen)), as_json=as_json)


@command("visualize project")
@visualize.image_arg
@visualize.outputs_opts
@visualize.network_opts
@visualize.layer_opt
@visualize.unit_opt
@visualize.position_opt
@visualize.class_opt
@visualize.method_opt
@visualize.sanity_opt
@visualize.run_opts
def project(image: str, as_json: bool, **chosen: Any) -> None:
    """Take one activation of IMAGE, or the score of a class, back to its pixels.

    By default the most probable class. With --layer a unit of that layer, its strongest
    where --unit names none. The deconvnet and guided are for networks of ReLUs;
    grad-cam and layer-cam map a class onto the positions of --layer.

    \b
    $ cnnfeat visualize project cat.jpg -o cat.png
    $ cnnfeat visualize project cat.jpg --layer blocks.4 --unit 7 --method guided
    $ cnnfeat visualize project cat.jpg --method grad-cam --class "tiger cat" --json
    $ cnnfeat visualize project cat.jpg --method deconvnet --sanity --html page/
    """
    from cnnfeat.visualize import ProjectOptions, project_image

    echo_record(project_image(image, ProjectOptions(**chosen)), as_json=as_json)


@command("visualize top-patches")
@visualize.images_or_features_arg
@visualize.outputs_opts
@visualize.network_opts
@visualize.layers_opt
@visualize.units_opt
@visualize.patches_opt
@visualize.beside_method_opt
@options.common.device_opt
@options.extraction.forward_batch_opt
@options.common.workers_opt
@options.extraction.engine_opt
@options.common.overwrite_opt
@options.common.progress_opts
def top_patches(
    images: tuple[str, ...], quiet: bool, as_json: bool, **chosen: Any
) -> None:
    """Find the patches of IMAGES that make units respond most, in one pass.

    They are cut from the original images where the unit's receptive field lies; beside
    each stands what the activation is made of. A feature file that holds layers with
    --pool none is read in place of the network, which --model then does not choose.

    \b
    $ cnnfeat visualize top-patches images/ -o patches.png
    $ cnnfeat visualize top-patches images/ --layer blocks.1,blocks.4 --units random:16
    $ cnnfeat visualize top-patches maps.h5 --units all --json
    """
    from cnnfeat.visualize import TopPatchesOptions, find_top_patches

    with progress_bar("top-patches", quiet=quiet) as progress:
        record = find_top_patches(
            images,
            TopPatchesOptions(**chosen),
            stdin=stdin_lines(images),
            progress=progress,
        )
    echo_top_patches(record, as_json=as_json)


@command("visualize occlusion")
@visualize.image_arg
@visualize.outputs_opts
@visualize.network_opts
@visualize.sizes_opt
@visualize.stride_opt
@visualize.fill_opt
@visualize.layer_opt
@visualize.class_opt
@options.common.device_opt
@options.extraction.forward_batch_opt
@options.common.overwrite_opt
@options.common.progress_opts
def occlusion(image: str, quiet: bool, as_json: bool, **chosen: Any) -> None:
    """Slide a square over IMAGE, and see what the network loses.

    Three maps come of one set of passes: the sum of the strongest map of --layer, the
    probability of the class, and the most probable class. Only what a square can reach
    is computed again where that saves work; else whole batches are.

    \b
    $ cnnfeat visualize occlusion cat.jpg -o occlusion.png
    $ cnnfeat visualize occlusion cat.jpg --size 24,48 --stride 4 --class "tiger cat"
    """
    from cnnfeat.visualize import OcclusionOptions, occlude_image

    with progress_bar("occlusion", quiet=quiet) as progress:
        asked = OcclusionOptions(**chosen)
        record = occlude_image(image, asked, progress=progress)
    echo_occlusion(record, as_json=as_json)


@command("visualize explain")
@options.common.head_arg
@visualize.image_arg
@visualize.outputs_opts
@visualize.explained_class_opt
@visualize.against_opt
@visualize.explained_opt
@visualize.square_opts
@visualize.run_opts
def explain(head_path: str, image: str, as_json: bool, **chosen: Any) -> None:
    """Show what in IMAGE speaks for the classes of HEAD.h5, your own SVM or softmax.

    The gradient of a class's score runs through head and network to the pixels, times
    these; beside it what squares of the image cost. Each map is tested: what it names
    is taken out of the image (deletion), or put into a grey one (insertion), step by
    step. The mean score of all steps stands beside that of random orders: a map that
    knows what matters is below it in deletion, and above it in insertion.

    \b
    $ cnnfeat visualize explain svm.h5 cat.jpg -o why.png
    $ cnnfeat visualize explain svm.h5 cat.jpg --class cat --against dog --json
    """
    from cnnfeat.visualize import ExplainOptions, explain_image

    record = explain_image(head_path, image, ExplainOptions(**chosen))
    echo_explanation(record, as_json=as_json)


@command("visualize neighbours")
@visualize.queries_arg
@options.common.features_arg
@visualize.outputs_opts
@options.heads.file_layer_opt
@visualize.distance_opt
@visualize.neighbours_opt
@options.common.device_opt
@options.common.overwrite_opt
@options.common.progress_opts
def neighbours(
    queries: tuple[str, ...],
    features_path: str,
    quiet: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Show the images of FEATURES.h5 that are nearest to each QUERY.

    A QUERY is a row of the file, named by its path in it or by where its image
    lies; any other image goes through the network that the file is of. All rows are
    compared, block by block. `cnnfeat leaks` finds copies among all images, across
    classes and splits.

    \b
    $ cnnfeat visualize neighbours cat/0001.jpg dog/0007.jpg features.h5 -o near.png
    $ cnnfeat visualize neighbours my.jpg features.h5 --distance euclidean --json
    """
    from cnnfeat.visualize import NeighboursOptions, find_neighbours

    with progress_bar("neighbours", quiet=quiet) as progress:
        asked = NeighboursOptions(**chosen)
        record = find_neighbours(queries, features_path, asked, progress=progress)
    echo_neighbours(record, as_json=as_json)
