"""The layers of torchvision's networks and the embedded one, from a shipped table.

`docs/generate_tables.py` writes `known.json.gz`, a line a network; a test compares it
with the libraries. Nothing is built and no torch is read.
"""

import gzip
import json
from pathlib import Path
from typing import Any

from cnnfeat.layers._info import LayerInfo

TABLE = Path(__file__).with_name("known.json.gz")


def known_layers(model: str) -> list[LayerInfo] | None:
    """Return every module call of a network, in the order they end; None if unknown."""
    start = f"{json.dumps(model)}: "
    with gzip.open(TABLE, "rt", encoding="utf-8") as file:
        for line in file:
            if line.startswith(start):
                record = json.loads(line[len(start) :].rstrip().rstrip(","))
                return [_row(fields, record) for fields in record["calls"]]
    return None


def _row(fields: list[Any], record: dict[str, Any]) -> LayerInfo:
    name, kind, shape, parameters, macs, field, stride, stage, is_leaf = fields
    tokens = record["tokens"].get(name)
    return LayerInfo(
        name=name,
        alias=record["aliases"].get(name),
        kind=kind,
        shape=tuple(shape),
        parameters=parameters,
        macs=macs,
        receptive_field=field,
        stride=stride,
        stage=stage,
        is_leaf=bool(is_leaf),
        is_default=name == record["default"],
        place=record["places"].get(name),
        grid=tuple(tokens[:2]) if tokens else None,
        n_prefix_tokens=tokens[2] if tokens else None,
    )


def to_record(rows: list[LayerInfo]) -> dict[str, Any]:
    """Return what the table keeps of a network's rows."""
    return {
        "default": next((row.name for row in rows if row.is_default), None),
        "aliases": {row.name: row.alias for row in rows if row.alias},
        "places": {row.name: row.place for row in rows if row.place},
        "tokens": {
            row.name: [*row.grid, row.n_prefix_tokens] for row in rows if row.grid
        },
        "calls": [
            [
                *(row.name, row.kind, list(row.shape), row.parameters, row.macs),
                *(row.receptive_field, row.stride, row.stage, int(row.is_leaf)),
            ]
            for row in rows
        ],
    }
