"""What every command has: options in groups, defaults from the environment, `-v`."""

import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from cnnfeat.cli import processes, streams
from cnnfeat.cli.options.parsing import OTHER_OPTIONS, VERBOSE, group_of

PREFIX = "CNNFEAT"
_RUNNING = "cnnfeat.running"  # key of the context's `meta`
# Parameters that name a place for results, beside stdout.
_OUTPUTS = (
    *("output_path", "report_dir", "confusion_path", "predictions_path"),
    *("show_augment_path", "folder", "html_dir", "sheet_path", "plot_path"),
)
# How the library writes an argument: `overwrite`, `pool=avg`.
_ARGUMENT = re.compile(r"`(\w+)(?:=([^`]*))?`")


class Command(click.Command):
    """A command whose help lists options by subject.

    `CNNFEAT_<COMMAND>_<OPTION>` in the environment is the default of that option:
    `CNNFEAT_EXTRACT_MODEL=resnet50`. A list has commas; a flag is 1 or 0.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse with the environment's defaults below what is typed."""
        ctx.meta[_RUNNING] = self
        ctx.default_map = {**dict(self._from_environment()), **(ctx.default_map or {})}
        return super().parse_args(ctx, args)

    def _from_environment(self) -> Iterator[tuple[str, Any]]:
        for param in self.params:
            text = os.environ.get(environment_name(self, param), "")
            if text and isinstance(param, click.Option) and param.name:
                yield param.name, (text,) if param.multiple else text

    def format_options(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """List the options under the heading of their group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                groups.setdefault(group_of(param), []).append(record)
        rest = groups.pop(OTHER_OPTIONS, [])
        for title, records in [*groups.items(), (OTHER_OPTIONS, rest)]:
            with formatter.section(title):
                formatter.write_dl(records)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; with `-v` say at the end how long it took."""
        outputs = (ctx.params.get(name) for name in _OUTPUTS)
        streams.require_stdout(*outputs)
        started = time.monotonic()
        result = super().invoke(ctx)
        streams.tell_what_is_lost()
        if ctx.meta.get(VERBOSE) and processes.is_first():
            seconds = time.monotonic() - started
            click.echo(f"cnnfeat: {ctx.info_name}: {seconds:.1f} s in all", err=True)
        return result


def command(name: str | None = None) -> Callable[[Callable[..., Any]], Command]:
    """Return the decorator that makes a command of a function."""
    return click.command(name, cls=Command)


def flag_of(param: click.Parameter) -> str:
    """Return an option as it is typed: its longest spelling."""
    return max(param.opts, key=len)


def in_flags(ctx: click.Context, message: object) -> str:
    """Return a message with options where it speaks of Python's arguments.

    The options are those of the command that runs, else of another that has one.
    """
    root = ctx.find_root()
    group = root.command
    assert isinstance(group, click.Group)

    def commands() -> Iterator[click.Command | None]:
        yield running_command(ctx)
        yield from (group.get_command(root, name) for name in group.list_commands(root))

    def flag(found: re.Match[str]) -> str:
        for command in commands():
            for param in command.params if command else ():
                if param.name == found[1] and isinstance(param, click.Option):
                    value = found[2] and f" {found[2]}"
                    return f"{flag_of(param)}{value or ''}"
        return found[0]

    return _ARGUMENT.sub(flag, str(message))


def running_command(ctx: click.Context) -> Command | None:
    """Return the command whose words were parsed last; None before any was."""
    found: Command | None = ctx.meta.get(_RUNNING)
    return found


def environment_name(command: click.Command, param: click.Parameter) -> str:
    """Return the variable that holds an option's default."""
    words = (PREFIX, command.name or "", flag_of(param).lstrip("-"))
    return re.sub(r"[- ]", "_", "_".join(words)).upper()
