"""The command group: finds a command, runs it, and turns errors into one line.

Commands are imported when they are called, so `cnnfeat --help` reads no module but
this one and its short help texts.
"""

import errno
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from keyword import iskeyword
from typing import IO, Any

import click

from cnnfeat._version import __version__
from cnnfeat.cli import processes, signals, streams
from cnnfeat.cli.command import in_flags, running_command
from cnnfeat.cli.output import say
from cnnfeat.errors import CnnfeatError, CnnfeatWarning, LeftAloneError, OptionError
from cnnfeat.interrupts import Interrupted, Stopped
from cnnfeat.machine import is_out_of_memory
from cnnfeat.outputs import system_reason
from cnnfeat.shown import visible_text

# Command name -> (module under cnnfeat.cli, one line for the list of commands). The
# first of two words is a group of commands, each a function of one module.
COMMANDS = {
    "extract": ("extract", "Extract features of images into an HDF5 file."),
    "merge": ("merge", "Make one feature file of the shards of a job."),
    "layers": ("layers", "List the layers of a network that can be tapped."),
    "models": ("models", "List the networks that can be loaded."),
    "info": ("info", "Show what a feature, head or weights file holds."),
    "train": ("train", "Train a head of any kind on extracted features."),
    "train-svm": ("train_svm", "Train a linear SVM on extracted features."),
    "train-softmax": ("train_softmax", "Train a softmax on extracted features."),
    "evaluate": ("evaluate", "Score a trained head on extracted features."),
    "benchmark": ("benchmark", "Repeat a paper's experiment: layers, heads, splits."),
    "leaks": ("leaks", "Find copies of images, across classes, splits and sets."),
    "suspects": ("suspects", "Rank images whose label is doubtful, and outliers."),
    "compare": ("compare", "Tell how alike layers and networks are."),
    "splits": ("splits", "Draw a protocol's training and test rows as CSV."),
    "finetune": ("finetune", "Adapt a network to images and keep its weights."),
    "predict": ("predict", "Name the classes of new images."),
    "export": ("export", "Write features or classifiers for other tools."),
    "import": ("import_", "Make a feature file of another tool's features."),
    "download": ("download", "Fetch, check and unpack a published data set."),
    "weights": ("weights", "Fetch a network's published weights for another machine."),
    "visualize filters": ("visualize", "Draw the kernels of a layer."),
    "visualize top-patches": ("visualize", "Find what makes units respond most."),
    "visualize occlusion": ("visualize", "Cover parts of an image, one by one."),
    "visualize project": ("visualize", "Take an activation back to an image's pixels."),
    "visualize explain": ("visualize", "Show what speaks for the classes of a head."),
    "visualize neighbours": ("visualize", "Show the images nearest to others."),
}

_GROUPS = {"visualize": "Look inside a network, each as a picture, numbers and a page."}

MAX_WIDTH = 88  # of the help; click leaves two columns of it free
_EXIT_ERROR = 1
# Where memory ran out: what needs less, by the options that a command has.
_NEEDS_LESS = {
    "--batch-size": "a smaller --batch-size",
    "--memory-mib": "--memory-mib 1000",
    "--cache-mib": "a smaller --cache-mib",
    "--layer": "fewer or smaller layers",
}
_ELSE_NEEDS_LESS = "features extracted with --pool avg"


class _OneLineError(click.ClickException):
    """A `CnnfeatError` on its way to stderr: one line, exit status 1."""

    def __init__(self, message: str, status: int = _EXIT_ERROR) -> None:
        super().__init__(message)
        self.status = status

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the line."""
        click.echo(f"cnnfeat: {_one_line(self.message)}", file, err=file is None)


class _WrongUsage(_OneLineError):
    """An `OptionError` on its way to stderr: exit status 2."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(message, self.exit_code)


class LazyGroup(click.Group):
    """A group whose commands are imported on use and whose errors are one line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, `~` in them as a shell would have read it."""
        return super().parse_args(ctx, list(map(_expand_home, args)))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of a day's work, those of two words whole."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, or the group that a first word names."""
        if cmd_name in _GROUPS:
            return _CommandGroup(cmd_name)
        if cmd_name not in COMMANDS:
            return None
        module_name, _ = COMMANDS[cmd_name]
        module = import_module(f"cnnfeat.cli.{module_name}")
        function = cmd_name.split()[-1].replace("-", "_")
        function += "_" * iskeyword(function)  # import_
        command: click.Command = getattr(module, function)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command named first, or offer the nearest name."""
        names = (*self.list_commands(ctx), *_GROUPS)
        if args and args[0] not in names and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}{_did_you_mean(args[0], names)}")
        return super().resolve_command(ctx, args)

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """List the commands; click's own version would import every one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; errors become one line, warnings become one line each."""
        with warnings.catch_warnings(), _one_line_errors(ctx):
            # Other libraries' warnings are for developers; ours are for users.
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", CnnfeatWarning)
            warnings.showwarning = partial(_show_warning, ctx)
            return super().invoke(ctx)


class _CommandGroup(click.Group):
    """The commands whose first word is `name`; the group above tells their errors."""

    def __init__(self, name: str) -> None:
        super().__init__(name, help=_GROUPS[name])

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the second words."""
        pairs = (name.split() for name in COMMANDS)
        return [words[1] for words in pairs if words[0] == self.name and words[1:]]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        return cli.get_command(ctx, f"{self.name} {cmd_name}")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command named first, or offer the nearest name."""
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-"):
            nearest = _did_you_mean(args[0], names)
            ctx.fail(f"no command '{self.name} {args[0]}'{nearest}")
        return super().resolve_command(ctx, args)

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """List the commands without importing them."""
        texts = [
            (name, COMMANDS[f"{self.name} {name}"][1])
            for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(texts)


@contextmanager
def _one_line_errors(ctx: click.Context) -> Iterator[None]:
    """Turn what is raised inside into `_OneLineError`; mistakes of ours stay as is."""
    try:
        yield
    except LeftAloneError:
        sys.exit(_EXIT_ERROR)  # the process that failed has told
    except Interrupted as error:
        raise _OneLineError(in_flags(ctx, error), 128 + error.signum) from error
    except BaseException as error:
        # A signal counts, whatever libraries made of the interruption on its way.
        stopped = error.signum if isinstance(error, Stopped) else signals.came()
        if stopped is not None:
            raise _OneLineError("interrupted", 128 + stopped) from error
        if isinstance(error, OptionError):
            raise _WrongUsage(in_flags(ctx, error)) from error
        if isinstance(error, CnnfeatError):
            raise _OneLineError(in_flags(ctx, error)) from error
        if is_out_of_memory(error):
            raise _OneLineError(_out_of_memory(ctx)) from error
        raise


def _out_of_memory(ctx: click.Context) -> str:
    """Return that memory ran out, and what the command's options can do about it."""
    command = running_command(ctx)
    flags = {flag for one in command.params for flag in one.opts} if command else set()
    cures = [cure for flag, cure in _NEEDS_LESS.items() if flag in flags]
    return f"out of memory: {' or '.join(cures or [_ELSE_NEEDS_LESS])} would need less"


def _expand_home(argument: str) -> str:
    """Return an argument with the user's folder for `~`.

    Shells leave it alone in `--output=~/x.h5`, and programs that start us know nothing
    of it. A file of that very name stays what is meant.
    """
    option, equals, value = argument.partition("=")
    if not (equals and option.startswith("--")):
        option, equals, value = "", "", argument
    is_home = value == "~" or value.startswith("~/")
    if not is_home or os.path.lexists(value):
        return argument
    return f"{option}{equals}{os.path.expanduser(value)}"


def _did_you_mean(name: str, names: Sequence[str]) -> str:
    from difflib import get_close_matches

    nearest = get_close_matches(name, names, n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def _one_line(message: str) -> str:
    """Return a message on one line; a terminal obeys nothing of the names in it."""
    return visible_text(" ".join(message.split()))


def _show_warning(
    ctx: click.Context, message: Warning | str, *_: Any, **__: Any
) -> None:
    if processes.is_first():
        _warn(in_flags(ctx, message))


def _warn(message: str) -> None:
    say(f"warning: {_one_line(message)}")


@click.group(
    cls=LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": MAX_WIDTH,
    },
)
@click.version_option(__version__, "-V", "--version", prog_name="cnnfeat")
def cli() -> None:
    """Features of pretrained convnets, linear heads on top, honest statistics.

    \b
    $ cnnfeat extract images/ -o features.h5
    $ cnnfeat train-svm features.h5 -o head.h5 --train-per-class 30
    $ cnnfeat evaluate head.h5 features.h5
    """


def main() -> None:
    """Run the command line and end the process; see `run` for its exit status."""
    streams.keep()
    with signals.watched():
        status: object = 0
        try:
            run()
        except SystemExit as stop:
            status = stop.code
        signals.disregard()
        processes.leave(status if isinstance(status, int) else int(status is not None))


def run() -> None:
    """Run the command line and exit.

    0 done, 1 a named error, 2 wrong usage, 128 + its number after a signal.
    """
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        if processes.is_first_to_fail():
            _show(error)
        sys.exit(error.status if isinstance(error, _OneLineError) else error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("cnnfeat: interrupted", err=True)
        sys.exit(128 + (signals.came() or signal.SIGINT))
    except BrokenPipeError:
        # The reader of a pipe went away (`cnnfeat layers | head`): nothing to say.
        _drop_stdout()
        sys.exit(_EXIT_ERROR)
    except OSError as error:
        # Outputs that fail have their own errors: it is stdout, a temporary file, or
        # what the system lacks for anything else.
        _drop_stdout()
        where = f"{error.filename}: " if error.filename else ""
        cure = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            cure = (
                ": neither what is printed nor temporary files fit; make room and run "
                "it again"
            )
        click.echo(f"cnnfeat: error: {where}{system_reason(error)}{cure}", err=True)
        sys.exit(_EXIT_ERROR)


def _show(error: click.ClickException) -> None:
    """Write an error to stderr; a terminal obeys nothing of what it quotes."""
    text = io.StringIO()
    error.show(text)
    for line in text.getvalue().removesuffix("\n").split("\n"):
        click.echo(visible_text(line), err=True)


def _drop_stdout() -> None:
    """Let nobody try to write again what is still in the buffer."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
