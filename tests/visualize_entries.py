"""What each option of `cnnfeat visualize` is run with, and what must then be seen.

As `option_entries`, where names in braces are the inputs of `test_cli_every_option`.
"""

from option_checks import file_begins, is_replaced, is_silent, says, tells, works


def n_patches(expected):
    """Return a check: each unit has so many patches."""

    def check(record, told, out):
        units = record["report"]["layers"][0]["units"]
        assert max(len(one["patches"]) for one in units) == expected

    return check


def n_classes(expected):
    """Return a check: so many classes are explained."""
    return lambda record, told, out: _counts(record["report"]["classes"], expected)


def n_neighbours(expected):
    """Return a check: each query has so many neighbours."""
    return lambda record, told, out: _counts(
        record["report"]["queries"][0]["neighbours"], expected
    )


def _counts(found, expected):
    assert len(found) == expected


NETWORK = "--model squeezenet1_1 --weights random"
BASE = {
    "visualize filters": NETWORK,
    "visualize top-patches": "{images} --model squeezenet1_1 --weights random "
    "--layer features.3 --units 0-1 --workers 0 --engine eager",
    "visualize occlusion": f"{{images}}/ant/0.png {NETWORK} --stride 88",
    "visualize explain": "{images_head} {images}/ant/0.png --stride 88 --top 1",
    "visualize neighbours": "ant/0.png bee/0.png {images_features} --top 2",
    "visualize project": f"{{images}}/ant/0.png {NETWORK} --layer features.3",
}
COMMON = {
    "--json": ("", works),
    "--quiet": ("--quiet", is_silent),
    "--verbose": ("--verbose", tells(r"\d s in all")),
    "--device": ("--device cpu", works),
    "--overwrite": ("-o {out}/look.png --overwrite", is_replaced),
    "--output": ("-o {out}/look.pdf", file_begins("look.pdf", b"%PDF")),
    "--html": ("--html {out}", file_begins("index.html", b"<!DOCTYPE html>")),
    "--weights": ("--weights random", works),
    "--weights-seed": ("--weights-seed 3", works),
}
TOP = "visualize top-patches"
WITHOUT_NETWORK = (
    *("--json", "--quiet", "--verbose", "--device", "--overwrite", "--output"),
    "--html",
)
OTHER = "=--model squeezenet1_0 --weights random"
PROJECT = "={images}/ant/0.png --model squeezenet1_1 --weights random"
OPTIONS = {
    "visualize filters": {
        **COMMON,
        "--model": (OTHER, says("report/networks/0/shape", [96, 3, 7, 7])),
        "--layer": (
            "--layer features.3.expand3x3",
            says("report/networks/0/shape", [64, 16, 3, 3]),
        ),
        "--as": ("--as norms", says("report/way", "norms")),
        "--contrast": ("--contrast shared", works),
        "--sort": ("--sort norm", works),
        "--beside": (
            "=--model squeezenet1_1 --weights {nameless} --beside {nameless}",
            says("report/networks/1/layer", "features.0"),
        ),
    },
    TOP: {
        **COMMON,
        "--model": (
            "={images} --model squeezenet1_0 --weights random --workers 0",
            says("report/model", "squeezenet1_0"),
        ),
        "--layer": ("--layer features.4", says("report/layers/1/layer", "features.4")),
        "--units": ("--units 3,5-6", says("report/layers/0/units/1/unit", 5)),
        "--top": ("--top 2", n_patches(2)),
        "--method": (
            "-o {out}/look.png --method guided",
            says("report/method", "guided"),
        ),
        "--batch-size": ("--batch-size 5", works),
        "--workers": ("--workers 1", works),
        "--engine": ("--engine eager", works),
    },
    "visualize occlusion": {
        **COMMON,
        "--model": (
            "={images}/ant/0.png --model squeezenet1_0 --weights random --stride 88",
            says("report/model", "squeezenet1_0"),
        ),
        "--layer": ("--layer features.4", says("report/layer", "features.4")),
        "--size": ("--size 32,64", says("report/maps/1/size", 64)),
        "--stride": ("--stride 176", says("report/maps/0/n_squares", 4)),
        "--fill": ("--fill blur", says("report/fill", "blur")),
        "--class": ("--class 7", says("report/class", "7")),
        "--batch-size": ("--batch-size 3", works),
    },
    "visualize explain": {
        **{flag: COMMON[flag] for flag in WITHOUT_NETWORK},
        "--class": ("--class bee", says("report/classes/0/class", "bee")),
        "--against": (
            "--class bee --against cat",
            says("report/classes/0/class", "bee against cat"),
        ),
        "--top": ("--top 2", n_classes(2)),
        "--size": ("--size 60", works),
        "--stride": ("--stride 176", works),
    },
    "visualize neighbours": {
        **{flag: COMMON[flag] for flag in WITHOUT_NETWORK},
        "--layer": (
            "=class0/000.png {features} --layer layer2",
            says("report/layer", "layer2"),
        ),
        "--distance": ("--distance euclidean", says("report/distance", "euclidean")),
        "--top": ("--top 3", n_neighbours(3)),
    },
    "visualize project": {
        **COMMON,
        "--model": (
            "={images}/ant/0.png --model squeezenet1_0 --weights random",
            says("report/model", "squeezenet1_0"),
        ),
        "--layer": ("--layer features.4", says("report/layer", "features.4")),
        "--unit": ("--unit 5", says("report/unit", 5)),
        "--position": ("--position 2,3", says("report/position", [2, 3])),
        "--class": (f"{PROJECT} --class 7", says("report/class", "7")),
        "--method": ("--method guided", says("report/method", "guided")),
        "--sanity": (
            "--sanity",
            says("report/rank_correlation/0/from", "features.3"),
        ),
    },
}
