"""`cnnfeat models`."""

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.output import echo_table
from cnnfeat.report import Column

_COLUMNS = (
    Column("name", "model", whole=True),
    Column("source"),
    Column("n_parameters", "parameters", amount=True),
    Column("top_1", "top-1", percent=True),
    Column("offline"),
)


@command()
@options.listing.pattern_arg
@options.common.output_opts
def models(pattern: str | None, as_json: bool) -> None:
    """List the networks that can be loaded, and which weights are available offline.

    PATTERN is a part of the name, or a glob of all of it. timm's some 3,000 names are
    listed only where they match. Top-1 is the published ImageNet accuracy; that of
    timm's networks is known for those asked for most, and for dinov2, which has no
    classifier, it is that of a linear one.

    \b
    $ cnnfeat models
    $ cnnfeat models 'resnet*'
    $ cnnfeat models dinov2
    """
    from cnnfeat.describe import describe_models

    echo_table(describe_models(pattern), _COLUMNS, as_json=as_json, key="models")
