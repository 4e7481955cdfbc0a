"""The papers' numbers in the shape of our own: lines of the table, lines of plots."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnnfeat.benchmark._results import Cell
from cnnfeat.protocols import Protocol, PublishedResult
from cnnfeat.report import MeanStd, Reference


@dataclass(frozen=True)
class AsPrinted(MeanStd):
    """A paper's number, shown with the digits that the paper printed."""

    text: str = ""

    def percent(self, digits: int = 1) -> str:
        """Return the number as printed."""
        return self.text


def published_beside(
    protocol: Protocol, cells: Sequence[Cell]
) -> list[PublishedResult]:
    """Return the papers' numbers for the training sizes that were measured."""
    sizes = {cell.train_per_class for cell in cells}
    return [
        result
        for result in protocol.published
        if result.train_per_class is None or result.train_per_class in sizes
    ]


def published_rows(protocol: Protocol, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return them as rows of our table, the number under the protocol's metric."""
    return [
        {
            "features": result.source,
            "layer": result.layer,
            "head": result.head,
            "train": result.train_per_class,
            protocol.metric: AsPrinted(result.accuracy, result.std, result.percent),
        }
        for result in published_beside(protocol, cells)
    ]


def published_references(protocol: Protocol, cells: Sequence[Cell]) -> list[Reference]:
    """Return the best number of each paper and kind of head, the highest first.

    Only heads that were measured: with one head alone, its own and those with dropout.
    """
    heads = {cell.head for cell in cells}
    best: dict[tuple[str, str], PublishedResult] = {}
    for result in published_beside(protocol, cells):
        key = (result.source, result.head)
        if result.head.split()[0] in heads and (
            key not in best or result.accuracy > best[key].accuracy
        ):
            best[key] = result
    ordered = sorted(best.values(), key=lambda result: -result.accuracy)
    return [
        Reference(_label(result), result.accuracy, at=result.train_per_class)
        for result in ordered
    ]


def _label(result: PublishedResult) -> str:
    paper = result.source.split(",")[0]
    layer = f"layer {result.layer}" if result.layer.isdigit() else result.layer
    return f"{paper}, {result.head}, {layer}: {result.percent}"
