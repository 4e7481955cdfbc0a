"""What is looked at inside a network, and what is drawn."""

import click

from cnnfeat.cli.options.common import device_opt, output_opts, overwrite_opt
from cnnfeat.cli.options.extraction import model_opt, weights_opt, weights_seed_opt
from cnnfeat.cli.options.listing import complete_layers
from cnnfeat.cli.options.parsing import (
    compose,
    parse_names,
    parse_sizes,
    repeatable,
)
from cnnfeat.visualize import (
    ExplainOptions,
    FiltersOptions,
    NeighboursOptions,
    OcclusionOptions,
    ProjectOptions,
    TopPatchesOptions,
)

picture_opt = click.option(
    "-o",
    "--output",
    "output_path",
    type=click.Path(),
    default=None,
    metavar="OUT.png",
    help="Draw the picture: .png, .svg or .pdf.  [default: only numbers]",
)
html_opt = click.option(
    "--html",
    "html_dir",
    type=click.Path(),
    default=None,
    metavar="DIR",
    help="Write a page, index.html, into this folder.",
)
outputs_opts = compose(picture_opt, html_opt)
network_opts = compose(model_opt, weights_opt, weights_seed_opt)
run_opts = compose(device_opt, overwrite_opt, output_opts)
layer_opt = click.option(
    "--layer",
    "layer",
    default=None,
    shell_complete=complete_layers,
    metavar="NAME",
    help="The layer to look at.  [default: the last one with maps; for filters the "
    "first convolution]",
)
way_opt = click.option(
    "--as",
    "way",
    type=click.Choice(["auto", "colours", "norms", "slices"]),
    default=FiltersOptions.way,
    show_default=True,
    help="Kernels in colour, the norm of each one's part on each input, or these "
    "parts in grey; auto: colours where the layer reads R, G and B, else norms.",
)
scale_opt = click.option(
    "--contrast",
    "scale",
    type=click.Choice(["own", "shared"]),
    default=FiltersOptions.scale,
    show_default=True,
    help="Each kernel on its own scale, or all on one.",
)
sort_opt = click.option(
    "--sort",
    type=click.Choice(["none", "norm"]),
    default=FiltersOptions.sort,
    show_default=True,
    help="Order of the kernels: as in the network, or the longest first.",
)
beside_opt = click.option(
    "--beside",
    multiple=True,
    callback=repeatable(parse_names),
    metavar="WEIGHTS[,...]",
    help="Other weights of the same network, drawn beside.",
)
image_arg = click.argument("image", metavar="IMAGE", type=click.Path())
unit_opt = click.option(
    "--unit",
    type=click.IntRange(min=0),
    default=None,
    metavar="N",
    help="The unit of --layer, from 0.  [default: the strongest]",
)
position_opt = click.option(
    "--position",
    default=ProjectOptions.position,
    show_default=True,
    metavar="strongest|all|ROW,COLUMN",
    help="Where in the unit's map, from 0,0; all: the whole map.",
)
class_opt = click.option(
    "--class",
    "class_name",
    default=None,
    metavar="NAME|N",
    help="A class of the network, by name or number from 0.  [default: the most "
    "probable]",
)
method_opt = click.option(
    "--method",
    type=click.Choice(
        [
            *("auto", "deconvnet", "guided", "gradient", "gradient-x-input"),
            *("integrated", "grad-cam", "layer-cam"),
        ]
    ),
    default=ProjectOptions.method,
    show_default=True,
    help="How the signal goes back; auto: deconvnet in a network of ReLUs, else "
    "gradient.",
)
sanity_opt = click.option(
    "--sanity",
    is_flag=True,
    help="Again with weights randomised from the top down, and the rank correlation "
    "with each: a method that hardly depends on the weights shows the image alone.",
)
images_or_features_arg = click.argument(
    "images",
    metavar="IMAGES...|FEATURES.h5",
    nargs=-1,
    required=True,
    type=click.Path(),
)
layers_opt = click.option(
    "--layer",
    "layers",
    multiple=True,
    callback=repeatable(parse_names),
    shell_complete=complete_layers,
    metavar="NAME|GLOB[,...]",
    help="Layers of maps, several at once.  [default: the last one with maps; of "
    "FEATURES.h5 all that it holds unpooled]",
)
units_opt = click.option(
    "--units",
    default=TopPatchesOptions.units,
    show_default=True,
    metavar="0-15|random:N|all",
    help="Units of each layer: a list with ranges, N drawn at random, or all.",
)
patches_opt = click.option(
    "--top",
    type=click.IntRange(min=1, max=100),
    default=TopPatchesOptions.top,
    show_default=True,
    metavar="K",
    help="Patches of each unit, at most one an image.",
)
beside_method_opt = click.option(
    "--method",
    type=click.Choice(
        [
            *("auto", "none", "deconvnet", "guided", "gradient", "gradient-x-input"),
            "integrated",
        ]
    ),
    default=TopPatchesOptions.method,
    show_default=True,
    help="What is drawn beside each patch; auto: deconvnet in a network of ReLUs, "
    "else gradient.",
)
sizes_opt = click.option(
    "--size",
    "sizes",
    default=",".join(map(str, OcclusionOptions.sizes)),
    show_default=True,
    callback=parse_sizes,
    metavar="PIXELS[,...]",
    help="Sides of the squares, in pixels of the crop.",
)
stride_opt = click.option(
    "--stride",
    type=click.IntRange(min=1),
    default=OcclusionOptions.stride,
    show_default=True,
    metavar="PIXELS",
    help="Between two squares.",
)
fill_opt = click.option(
    "--fill",
    type=click.Choice(["grey", "mean", "blur"]),
    default=OcclusionOptions.fill,
    show_default=True,
    help="What covers the image: grey, which is the mean of the images that the "
    "weights were trained on; the mean of this image; or the image, blurred.",
)
explained_class_opt = click.option(
    "--class",
    "class_name",
    default=None,
    metavar="NAME",
    help="The class of the head to explain.  [default: those that score highest]",
)
against_opt = click.option(
    "--against",
    default=None,
    metavar="NAME",
    help="Explain by how much --class scores above this one.",
)
explained_opt = click.option(
    "--top",
    type=click.IntRange(min=1),
    default=ExplainOptions.top,
    show_default=True,
    metavar="K",
    help="Classes to explain where --class names none, the highest first.",
)
square_opts = compose(
    click.option(
        "--size",
        type=click.IntRange(min=1),
        default=ExplainOptions.size,
        show_default=True,
        metavar="PIXELS",
        help="Side of the squares of the map of occlusion, in pixels of the crop.",
    ),
    click.option(
        "--stride",
        type=click.IntRange(min=1),
        default=ExplainOptions.stride,
        show_default=True,
        metavar="PIXELS",
        help="Between two of these squares.",
    ),
)
queries_arg = click.argument(
    "queries", metavar="QUERY...", nargs=-1, required=True, type=click.Path()
)
distance_opt = click.option(
    "--distance",
    type=click.Choice(["cosine", "euclidean"]),
    default=NeighboursOptions.distance,
    show_default=True,
    help="By what features are near.",
)
neighbours_opt = click.option(
    "--top",
    type=click.IntRange(min=1, max=100),
    default=NeighboursOptions.top,
    show_default=True,
    metavar="K",
    help="Neighbours of each query.",
)
