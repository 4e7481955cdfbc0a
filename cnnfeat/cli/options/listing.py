"""What is listed, and what shells complete: networks and layers."""

from typing import Any

import click
from click.core import ParameterSource


def complete_models(ctx: Any, param: Any, incomplete: str) -> list[str]:
    """Return the networks of the shipped table that begin so."""
    from cnnfeat.describe import known_models

    return [name for name in known_models() if name.startswith(incomplete)]


def complete_layers(ctx: Any, param: Any, incomplete: str) -> list[str]:
    """Return the layers that begin so of the network named on the same line."""
    words = ctx.params.get("words") or ()
    return _layers_of(words[0] if words else ctx.params.get("model"), incomplete)


def _complete_words(ctx: Any, param: Any, incomplete: str) -> list[str]:
    named = _is_typed(ctx)
    if named or ctx.params.get("words"):
        return complete_layers(ctx, param, incomplete)
    return complete_models(ctx, param, incomplete)


def _layers_of(model: str | None, incomplete: str) -> list[str]:
    from cnnfeat.describe import known_layer_names
    from cnnfeat.extract import ExtractOptions

    done, comma, last = incomplete.rpartition(",")
    names = known_layer_names(model or ExtractOptions.model)
    return [f"{done}{comma}{name}" for name in names if name.startswith(last)]


def _is_typed(ctx: click.Context) -> bool:
    return ctx.get_parameter_source("model") == ParameterSource.COMMANDLINE


model_and_pattern_args = click.argument(
    "words", nargs=-1, metavar="[MODEL] [PATTERN]", shell_complete=_complete_words
)
every_opt = click.option(
    "--all",
    "every",
    is_flag=True,
    help="List every module that computes; their parameters sum to the network's.",
)
pattern_arg = click.argument("pattern", required=False, shell_complete=complete_models)


def model_and_pattern(
    ctx: click.Context, words: tuple[str, ...], model: str
) -> tuple[str, str | None]:
    """Return the network and the pattern; with --model the words are the pattern."""
    names = words if words and not _is_typed(ctx) else (model, *words)
    if len(names) > 2:
        raise click.UsageError(f"{names[2]!r} is one word too many")
    return names[0], names[1] if len(names) == 2 else None
