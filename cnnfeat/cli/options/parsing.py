"""Turning the text of options into values; anything else is wrong usage."""

import math
import re
from collections.abc import Callable
from typing import Any

import click

from cnnfeat.benchmark import HEADS
from cnnfeat.errors import DataError, OptionError
from cnnfeat.extract import Shard, most_failures
from cnnfeat.machine import most_workers
from cnnfeat.similarity import MEASURES
from cnnfeat.value_range import read_range


def compose(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return one decorator that applies several, so that the first is listed first."""

    def apply(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


OTHER_OPTIONS = "Options"
VERBOSE = "cnnfeat.verbose"  # key of the context's `meta`


def grouped(title: str, *decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return `compose` of several options, which the help lists under a heading."""

    def apply(function: Any) -> Any:
        n_before = len(getattr(function, "__click_params__", ()))
        function = compose(*decorators)(function)
        for param in function.__click_params__[n_before:]:
            param.group = title
        return function

    return apply


def group_of(param: click.Parameter) -> str:
    """Return the heading that an option stands under."""
    return str(getattr(param, "group", OTHER_OPTIONS))


def repeatable(
    parse: Callable[[Any, Any, str | None], Any],
) -> Callable[[Any, Any, tuple[str, ...]], Any]:
    """Return a callback for an option given several times, each with commas or not."""

    def parse_all(ctx: Any, param: Any, values: tuple[str, ...]) -> Any:
        return parse(ctx, param, ",".join(values) if values else None)

    return parse_all


def parse_names(ctx: Any, param: Any, value: str | None) -> tuple[str, ...]:
    r"""Turn `a,b` into names without repeats; `\,` is a comma inside a name."""
    parts = re.split(r"(?<!\\),", value or "")
    names = (part.replace("\\,", ",").strip() for part in parts)
    return tuple(dict.fromkeys(name for name in names if name))


def parse_heads(ctx: Any, param: Any, value: str | None) -> tuple[str, ...]:
    """Turn `svm,softmax` into kinds of head."""
    return _choices(parse_names(ctx, param, value), HEADS)


def parse_measures(ctx: Any, param: Any, value: str | None) -> tuple[str, ...]:
    """Turn `cka,neighbours` into measures of likeness."""
    return _choices(parse_names(ctx, param, value), MEASURES)


def _choices(names: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in known:
            raise click.BadParameter(f"{name!r} is neither {' nor '.join(known)}")
    return names


def note_verbose(ctx: click.Context, param: Any, value: bool) -> bool:
    """Remember that the command is to say more."""
    ctx.meta[VERBOSE] = value
    return value


class RenamedOption(click.Option):
    """An option that its old name still stands for, without a word in the help."""

    def __init__(self, *args: Any, old_name: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.old_name = old_name

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Let the parser know both names."""
        super().add_to_parser(parser, ctx)
        action = "append" if self.multiple else "store"
        parser.add_option(self, [self.old_name], self.name, action, self.nargs)


def parse_device(ctx: Any, param: Any, value: str) -> str:
    """Accept `auto`, `cpu`, `cuda` and `cuda:N`."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise click.BadParameter(f"{value!r} is not auto, cpu, cuda or cuda:N")
    return value


def parse_workers(ctx: Any, param: Any, value: int | None) -> int | None:
    """Refuse more processes than any machine has a use for."""
    if value is not None and value > most_workers():
        raise click.BadParameter(
            f"{value} processes are more than the {most_workers():,} that are allowed "
            "on this machine"
        )
    return value


def parse_range(ctx: Any, param: Any, value: str) -> str:
    """Accept what `read_range` reads."""
    try:
        return str(read_range(value))
    except DataError as error:
        raise click.BadParameter(str(error).removeprefix("range ")) from None


def parse_pages(ctx: Any, param: Any, value: str) -> str:
    """Accept `first`, `all` and a number from 1."""
    if not re.fullmatch(r"first|all|[1-9]\d{0,8}", value):
        raise click.BadParameter(f"{value!r} is not first, all or a number from 1")
    return value


def parse_count_or_auto(ctx: Any, param: Any, value: str) -> int | None:
    """Turn `auto` into None and a positive whole number into an int."""
    if value == "auto":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither auto nor a number from 1")
    return int(value)


def parse_shard(ctx: Any, param: Any, value: str | None) -> str | None:
    """Accept `3/64`, from 1/64 to 64/64."""
    try:
        return None if value is None else str(Shard.parse(value))
    except OptionError as error:
        raise click.BadParameter(str(error)) from None


def parse_max_failed(ctx: Any, param: Any, value: str) -> str:
    """Accept a number of images and a share such as `5%`."""
    try:
        most_failures(value, 0)
    except OptionError as error:
        raise click.BadParameter(str(error)) from None
    return value


def parse_C(ctx: Any, param: Any, value: str | None) -> tuple[float, ...] | None:
    """Turn `0.1,1,10` into positive finite floats, sorted and without repeats."""
    if value is None:
        return None
    try:
        values = [float(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not numbers with commas") from None
    if not all(math.isfinite(C) and C > 0 for C in values):
        raise click.BadParameter(f"{value!r}: every C must be finite and above 0")
    return tuple(sorted(set(values)))


def parse_sizes(ctx: Any, param: Any, value: str | None) -> tuple[int, ...]:
    """Turn `5,10,15` into positive whole numbers, sorted and without repeats."""
    if value is None:
        return ()
    parts = value.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{value!r} is not whole numbers from 1 with commas")
    return tuple(sorted({int(part) for part in parts}))


def parse_baselines(ctx: Any, param: Any, value: str | None) -> tuple[str, ...]:
    """Turn `pixels,random` into names of baselines."""
    return _choices(parse_names(ctx, param, value), ("pixels", "random"))


def refuse_together(chosen: dict[str, Any], first: str, second: str) -> None:
    """Raise a usage error when two flags that contradict each other are both set."""
    if chosen.get(first) and chosen.get(second):
        text = f"--{first} and --{second} contradict each other"
        raise click.UsageError(text.replace("_", "-"))


def parse_separator(ctx: Any, param: Any, value: str | None) -> str | None:
    """Accept one character; `tab` and backslash t stand for a tab."""
    if value in ("tab", "\\t"):
        return "\t"
    if value is not None and (len(value) != 1 or value in '\r\n"\0'):
        raise click.BadParameter(f"{value!r} is not one character, nor tab")
    return value


def parse_stages(ctx: Any, param: Any, value: str) -> str:
    """Accept `head`, `all` and `last:N` with N from 1."""
    if not re.fullmatch(r"head|all|last:[1-9]\d*", value):
        raise click.BadParameter(f"{value!r} is not head, last:N or all")
    return value


def require_any(**given: Any) -> None:
    """Raise a usage error when none of some options is given."""
    if not any(given.values()):
        names = " or ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"nothing to do: give {names}")
