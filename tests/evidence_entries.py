"""What the options of `leaks`, `compare` and `suspects` are run with; see OPTIONS."""

from option_checks import (
    file_begins,
    is_replaced,
    says,
    stops,
)

LEAKS_OPTIONS = {
    "--output": ("-o {out}/p.csv", file_begins("p.csv", b"path,label,other_path")),
    "--sheet": ("--sheet {out}/s.svg", file_begins("s.svg", b"<?xml")),
    "--layer": ("--layer features.1", says("report/n_images", 12)),
    "--cosine": ("--cosine 1", says("report/cosine", 1.0)),
    "--bits": ("--bits 32", says("report/n_candidates", 66)),
    "--trained": ("--trained {images_head}", says("report/accuracy/n_images", 3)),
    "--splits-file": (
        "--splits-file {image_splits}",
        says("report/n_test_with_copies", 0),
    ),
    "--split-index": (
        "--splits-file {image_splits} --split-index 1",
        says("report/n_train_test", 0),
    ),
    "--overwrite": ("-o {out}/p.csv --overwrite", is_replaced),
}

COMPARE_OPTIONS = {
    "--output": ("-o {out}/p.csv", file_begins("p.csv", b"a,b,measure,likeness")),
    "--plot": ("--plot {out}/s.svg", file_begins("s.svg", b"<?xml")),
    "--layer": (
        "--layer layer10,layer2",
        says("report/sets", ["layer10", "layer2"]),
    ),
    "--measure": ("--measure neighbours", says("report/pairs/0/measure", "neighbours")),
    "--images": ("--images 30", says("report/n_images", 30)),
    "--draws": ("--draws 0", says("report/pairs/0/low", None)),
    "--seed": ("--seed 3", says("report/n_images", 48)),
    "--overwrite": ("-o {out}/p.csv --overwrite", is_replaced),
}

SUSPECTS_OPTIONS = {
    "--labels": (
        "={images_features} --labels {plain}",
        says("report/n_classes", 2),
    ),
    "--label-column": (
        "={kept_features} --label-column kind",
        says("report/n_classes", 2),
    ),
    "--group": (
        "={kept_features} --label-column kind --group plate",  # of two plates each
        stops("classes"),
    ),
    "--output": ("-o {out}/p.csv", file_begins("p.csv", b"path,label,suggested")),
    "--sheet": ("--sheet {out}/s.svg", file_begins("s.svg", b"<?xml")),
    "--layer": ("--layer layer2", says("report/n_images", 48)),
    "--flip": ("--flip 0.25", says("report/trial/n_flipped", 12)),
    "--exclude": ("--exclude class0", says("report/n_classes", 3)),
    "--seed": ("--seed 3", says("report/n_images", 48)),
    "--overwrite": ("-o {out}/p.csv --overwrite", is_replaced),
}
