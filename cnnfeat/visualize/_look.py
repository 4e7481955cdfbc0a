"""What every look inside a network has: the network, a record, a figure, a page."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Rooms, not names from them: what is missing is told before torch is read.
from cnnfeat import networks, report
from cnnfeat._version import __version__
from cnnfeat.errors import OutputError
from cnnfeat.outputs import check_suffix, claimed_outputs
from cnnfeat.suffixes import PICTURES
from cnnfeat.visualize._options import PAGE, LookOptions, PictureOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Look:
    """What was seen.

    Attributes
    ----------
    record : dict
        The numbers behind the picture, as JSON types.
    draw : callable () -> Figure
        Called where a picture is asked for.
    title : str
    answer : str
        What is seen, in a sentence or two.
    alt : str
        What the figure shows, for readers who cannot see it.
    tables : sequence of Table
    origins : mapping
        As for `ReportPage`.
    """

    record: dict[str, Any]
    draw: Callable[[], Figure]
    title: str
    answer: str = ""
    alt: str = ""
    tables: Sequence[report.Table] = ()
    origins: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


def load_network(options: LookOptions) -> networks.Network:
    """Return the network to look into; see `networks.load_network`."""
    request = networks.NetworkRequest(
        options.model, options.weights, options.weights_seed, options.device
    )
    return request.load()


def published(
    options: PictureOptions, read: Iterable[str | Path], look: Callable[[], Look]
) -> dict[str, Any]:
    """Return the record of a look, its picture and its page written as asked.

    Parameters
    ----------
    options : PictureOptions
    read : iterable of path
        Files that are read, which no output may be.
    look : callable () -> Look
        Called once the outputs are claimed.

    Raises
    ------
    OptionError
        If the picture's suffix is none of `PICTURES`.
    OutputError
        If an output exists and is not to be replaced, or cannot be written.
    """
    if options.output_path:
        check_suffix(options.output_path, PICTURES)
    with _folder(options.html_dir) as pages:
        outputs: list[str | Path] = [*pages]
        if options.output_path:
            outputs.append(options.output_path)
        with claimed_outputs(outputs, read, overwrite=options.overwrite):
            found = look()
            if options.is_drawn:
                _write(found, found.draw(), options.output_path, pages)
    return found.record


def origins_of(network: networks.Network, **settings: object) -> dict[str, Any]:
    """Return where the numbers of a look come from, for its page."""
    record = network.weights
    return {
        "Network": {
            "name": network.name,
            "weights": record.source,
            "sha256": record.sha256,
        },
        "Settings": {**settings, "cnnfeat": __version__},
    }


def _write(
    look: Look, figure: Figure, output_path: str | None, pages: Sequence[Path]
) -> None:
    if output_path:
        report.save_figure(figure, output_path)
    for path in pages:
        shown = report.ReportFigure(
            report.figure_bytes(figure), look.title, look.alt, has_images=True
        )
        page = report.ReportPage(
            look.title,
            answer=look.answer,
            figures=[shown],
            tables=look.tables,
            origins=look.origins,
        )
        report.save_html(page, path)


@contextlib.contextmanager
def _folder(html_dir: str | None) -> Iterator[list[Path]]:
    """Yield the page to write, in a folder that goes again if nothing gets into it."""
    if html_dir is None:
        yield []
        return
    folder = Path(html_dir)
    is_new = not os.path.lexists(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}") from error
    try:
        yield [folder / PAGE]
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # the page is in it
                folder.rmdir()
