"""Write the tables of networks and layers that the package ships.

    python docs/generate_tables.py [--check]

`cnnfeat/networks/known.json` has every network of torchvision and timm, with its
parameters and its published accuracy; `cnnfeat/layers/known.json.gz` every module of
torchvision's. Networks are built without memory for their weights. With --check, only
tell whether both are what the libraries say. Takes some minutes.
"""

import csv
import gzip
import json
import sys
from importlib.metadata import version
from pathlib import Path

import timm
import torch
import torchvision

from cnnfeat import layers, networks
from cnnfeat.networks import Network, WeightsRecord

ROOT = Path(__file__).resolve().parent.parent / "cnnfeat"
ACCURACIES = Path(__file__).with_name("timm_top_1.csv")
TIMM = "timm/"


def on_meta(name: str) -> Network:
    """Return a network whose tensors have shapes and no values."""
    architecture = networks.find_architecture(name)
    try:
        with torch.device("meta"):
            module = architecture.build(None)
    except (NotImplementedError, RuntimeError):  # it computes its own widths
        module = architecture.build(None).to("meta")
    record = WeightsRecord("none", "none", "", architecture.preprocessing)
    return Network(name, module, record, "meta", architecture.n_classes)


def timm_accuracies() -> dict[str, float]:
    """Return published top-1 accuracies, fractions, by name and tag."""
    lines = [line for line in ACCURACIES.open() if not line.startswith("#")]
    rows = csv.DictReader(lines)
    return {row["name"]: round(float(row["top_1"]) / 100, 6) for row in rows}


def network_fields() -> dict[str, list]:
    """Return [parameters, top-1, repository, URL] of each network."""
    accuracies, counted, found = timm_accuracies(), {}, {}
    for name in networks.network_names():
        if not name.startswith(TIMM):
            (entry,) = [e for e in networks.list_networks(name) if e.name == name]
            url = None if entry.source == "package" else _url(name)
            found[name] = [entry.n_parameters, entry.top_1, None, url]
            continue
        config = timm.get_pretrained_cfg(name.removeprefix(TIMM))
        key = (config.architecture, config.num_classes, tuple(config.input_size))
        if key not in counted:
            counted[key] = _count(name)
        tagged = f"{config.architecture}.{config.tag}"
        top_1 = accuracies.get(tagged)
        fields = [counted[key], top_1, config.hf_hub_id or None, config.url or None]
        found[name] = fields
    return found


def _url(name: str) -> str:
    return torchvision.models.get_model_weights(name).DEFAULT.url


def _count(name: str) -> int | None:
    try:
        with torch.device("meta"):
            module = timm.create_model(name.removeprefix(TIMM), pretrained=False)
    except (NotImplementedError, RuntimeError):
        module = timm.create_model(name.removeprefix(TIMM), pretrained=False)
    return sum(parameter.numel() for parameter in module.parameters())


def layer_fields() -> dict[str, dict]:
    """Return every module call of torchvision's networks and the embedded one."""
    names = [name for name in networks.network_names() if not name.startswith(TIMM)]
    return {name: layers.to_record(layers.all_layers(on_meta(name))) for name in names}


def render(found: dict) -> str:
    """Return JSON with a line for each network."""
    versions = {name: version(name) for name in ("torchvision", "timm")}
    rows = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(fields, separators=(',', ':'))}"
        for name, fields in found.items()
    )
    return f'{{"versions": {json.dumps(versions)},\n"networks": {{\n{rows}\n}}}}\n'


def write(path: Path, text: str) -> None:
    """Write a table, compressed where its name says so; the same bytes each time."""
    data = text.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def read(path: Path) -> str:
    """Return the text of a table."""
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


def main() -> None:
    """Write both tables, or exit 1 where one differs."""
    for path, fields in (
        (ROOT / "layers" / "known.json.gz", layer_fields),
        (ROOT / "networks" / "known.json", network_fields),
    ):
        text = render(fields())
        if "--check" not in sys.argv[1:]:
            write(path, text)
        elif read(path) != text:
            sys.exit(f"{path} is out of date: python {sys.argv[0]}")


if __name__ == "__main__":
    main()
