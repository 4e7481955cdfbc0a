"""`cnnfeat visualize`: one function for each thing that is seen."""

from typing import Any

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.output import echo_record

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
