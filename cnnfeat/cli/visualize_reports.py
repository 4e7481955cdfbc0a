"""What `cnnfeat visualize` prints: a line for each thing that was seen."""

from typing import Any

from cnnfeat.cli.output import echo_record, echo_table
from cnnfeat.report import Column


def echo_explanation(record: dict[str, Any], *, as_json: bool) -> None:
    """Print a line a map; --json has the curves."""
    if as_json:
        echo_record(record, as_json=True)
        return
    rows = [
        {
            "class": one["class"],
            "score": one["score"],
            "covered": one["covered_score"],
            **{key: told[key] for key in ("map", "deletion", "insertion")},
        }
        for one in record["classes"]
        for told in [*one["maps"], {"map": "random orders", **one["chance"]}]
    ]
    echo_record({**record, "classes": rows}, as_json=False)


def echo_neighbours(record: dict[str, Any], *, as_json: bool) -> None:
    """Print a line a neighbour."""
    if as_json:
        echo_record(record, as_json=True)
        return
    rows = [
        {"query": one["path"], "neighbour": near.pop("path"), **near}
        for one in record["queries"]
        for near in map(dict, one["neighbours"])
    ]
    echo_record({**record, "queries": rows}, as_json=False)


def echo_occlusion(record: dict[str, Any], *, as_json: bool) -> None:
    """Print what the worst squares do; --json has the maps."""
    if as_json:
        echo_record(record, as_json=True)
        return
    rows = [
        {
            **{key: one[key] for key in ("size", "n_squares", "computed")},
            "share of multiply-adds": one["share"],
            "lowest probability": one["lowest"]["probability"],
            "region": one["lowest"]["region"],
        }
        for one in record["maps"]
    ]
    shown = {key: value for key, value in record.items() if key != "classes"}
    echo_record({**shown, "maps": rows}, as_json=False)


def echo_top_patches(record: dict[str, Any], *, as_json: bool) -> None:
    """Print a line a unit; --json has every patch."""
    if as_json:
        echo_record(record, as_json=True)
        return
    rows = [
        {
            "layer": layer["layer"],
            "unit": one["unit"],
            "patches": len(one["patches"]),
            "strongest": one["patches"][0]["activation"] if one["patches"] else None,
            "in": one["patches"][0]["path"] if one["patches"] else None,
        }
        for layer in record["layers"]
        for one in layer["units"]
    ]
    layers = [
        {key: value for key, value in layer.items() if key != "units"}
        for layer in record["layers"]
    ]
    echo_record({**record, "layers": layers}, as_json=False)
    columns = [Column(key) for key in ("layer", "unit", "patches", "strongest", "in")]
    echo_table(rows, columns, as_json=False, key="units")
