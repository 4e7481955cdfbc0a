"""What each option of each command is run with, and what must then be seen.

An entry of `OPTIONS` is a command's flag: what is added to the command line of `BASE`,
or "=" and a line of its own, and a check of the record of the run: what the command
prints with `--json` and what `cnnfeat info` says of its output. Names in braces are the
inputs that `test_cli_every_option` makes.
"""

from evidence_entries import COMPARE_OPTIONS, LEAKS_OPTIONS, SUSPECTS_OPTIONS
from option_checks import (
    chose,
    compares,
    file_begins,
    has_asked,
    has_cells,
    has_events,
    has_files,
    is_replaced,
    is_silent,
    says,
    starts_from_tiny,
    stops,
    tells,
    trained,
    two_labels,
    works,
)

BASE = {
    "extract": "{images} -o {out}/f.h5 --model squeezenet1_1 --weights random "
    "--layer features.1 --pool avg --workers 0 --engine eager",
    "layers": "--model squeezenet1_1",
    "models": "squeezenet*",
    "info": "{features}",
    "train": "ridge {features} -o {out}/h.h5 --layer layer10 --C 1",
    "train-svm": "{features} -o {out}/h.h5 --layer layer10 --C 1",
    "train-softmax": "{features} -o {out}/h.h5 --layer layer10 --C 1",
    "evaluate": "{head} {features}",
    "benchmark": "{features} --train-per-class 4 --splits 2 --layer layer10 --C 1",
    "splits": "{features} --train-per-class 4 --splits 2 -o {out}/s.csv",
    "finetune": "{images} -o {out}/w.pth --epochs 1 --no-frozen --workers 0 "
    "--batch-size 8",
    "leaks": "{images_features} --cosine 0.1",
    "suspects": "{features} --layer layer10",
    "compare": "{features} --draws 2",
    "predict": "{images_head} {images} --workers 0 --engine eager",
    "merge": "{shards} -o {out}/f.h5",
    "import": "{foreign}.npz -o {out}/f.h5",
    "export": "{features} -o {out}/x.npz",
    "download": "caltech101 {out}",
    "weights": "squeezenet1_1 {out}",
}
OUTPUT = {
    **{"extract": "f.h5", "import": "f.h5", "merge": "f.h5"},
    **{"train": "h.h5", "train-svm": "h.h5", "train-softmax": "h.h5"},
    **{"splits": "s.csv", "finetune": "w.pth"},
}


# Where a command takes its images from, and how it tells what it made of them. Tables
# stand in the place of images, or are labels of the features.
LINES = {
    "extract": BASE["extract"].replace("{images}", "{source}"),
    "predict": BASE["predict"]
    .replace("{images}", "{source}", 1)
    .replace("{source}_head", "{images_head}"),
    "finetune": BASE["finetune"].replace("{images}", "{source}"),
    "train": "ncm {source} -o {out}/h.h5",
    "train-svm": "{source} -o {out}/h.h5 --C 1",
    "train-softmax": "{source} -o {out}/h.h5 --C 1",
    "evaluate": "{kind_head} {source} --rows all",
    "benchmark": "{source} --C 1",
    "splits": "{source} -o {out}/s.csv",
    "import": "{foreign}.npy -o {out}/f.h5 --paths {source}",
}
OF_IMAGES = ("extract", "predict", "finetune")
COUNTS = {
    **dict.fromkeys(
        ("train", "train-svm", "train-softmax"), ("report/n_train", "report/n_heldout")
    ),
    "benchmark": ("report/rows/0/n_train/0", "report/rows/0/n_test/0"),
    "splits": ("report/n_train/0", "report/n_test/0"),
    "finetune": ("report/n_train", "report/n_test"),
    "predict": ("", "report/n_images"),
}
# A table that needs the option: ten of the twelve images, in two classes.
TABLES = {
    "--path-column": "{by_file} --path-column file",
    "--label-column": "{kept} --label-column kind",
    "--root": "{above} --root {images}/..",
    "--sep": "{caret} --sep ^",
}


def reading(name, source, more=""):
    """Return the command's line on another source."""
    return f"={LINES[name]} {more}".replace("{source}", source)


def table_options(name):
    """Return the options of tables: their images, or their labels of features."""
    given = TABLES
    if name not in (*OF_IMAGES, "import"):
        given = {
            flag: f"{{images_features}} --labels {TABLES[flag]}" for flag in TABLES
        }
        given["--labels"] = "{images_features} --labels {plain}"
        given["--label-column"] = "{kept_features} --label-column kind"
    path, expected = ("n_images", 10) if name == "predict" else ("n_classes", 2)
    check = says(f"report/{path}", expected)
    if name == "extract":
        check = says("report/classes", {"dark": 5, "light": 5})
    return {flag: (reading(name, source), check) for flag, source in given.items()}


def row_options(name):
    """Return the options that say how rows are drawn: of three classes of four."""
    n_train, n_test = COUNTS[name]
    source, kept, rare = "{images_features}", "{kept_features}", "{images_features} "
    rare += "--labels {rare}"
    if name in OF_IMAGES:
        source, kept, rare = "{images}", "{kept}", "{rare}"
    drawn = {
        "--test-share": ("--test-share 0.5", says(n_test, 6)),
        "--train-per-class": ("--train-per-class 2", says(n_train, 6)),
        "--test-per-class": (
            "--train-per-class 2 --test-per-class 1",
            says(n_test, 3),
        ),
    }
    options = {
        flag: (reading(name, source, more), c) for flag, (more, c) in drawn.items()
    }
    # The smaller of two plates, whole; without the option one image of each class.
    options["--group"] = (
        reading(name, kept, "--label-column kind --group plate"),
        says(n_test, 4),
    )
    options["--skip-small"] = (
        reading(name, rare, "--skip-small --train-per-class 2"),
        says("report/n_classes", 2),
    )
    return options


def file_options(name):
    """Return the options of a file of two splits, of other sizes."""
    source = "{images}" if name in OF_IMAGES else "{images_features}"
    more = "--splits-file {image_splits}"
    first, second = (says(COUNTS[name][1], n) for n in (9, 6))
    return {
        "--splits-file": (reading(name, source, more), first),
        "--split-index": (reading(name, source, f"{more} --split-index 1"), second),
    }


SCORED = "={images_head} {images} --rows all"
MIT67 = "={mit67} --protocol mit67 --lists {lists}"
TALK = {
    "--json": ("", works),
    "--quiet": ("--quiet", is_silent),
    "--verbose": ("--verbose", tells(r"\d s in all")),
}
COMMON = {
    **TALK,
    "--device": ("--device cpu", works),
    "--overwrite": ("--overwrite", is_replaced),
}
HEAD_OPTIONS = {
    **COMMON,
    "--output": ("", says("info/kind", "head")),
    "--layer": ("--layer layer2", says("report/layer", "layer2")),
    "--C": ("--C 0.5", says("report/C", 0.5)),
    "--exclude": ("--exclude class0", says("report/n_classes", 3)),
    "--seed": ("--seed 3 --train-per-class 2", chose("seed", 3)),
    "--scale": ("--scale standard", chose("scale", "standard")),
    "--signed-sqrt": ("--signed-sqrt", chose("signed_sqrt", True)),
    "--power": ("--power 2", chose("power", 2.0)),
    "--pca": ("--pca 3", chose("n_components", 3)),
    "--dropout": ("--dropout 0.3", chose("dropout", 0.3)),
    "--device": ("--device cpu", chose("device", "cpu")),
    "--verbose": ("--verbose", tells("solved on the .* side in")),
}
EXTRACT_OPTIONS = {
    **COMMON,
    **table_options("extract"),
    "--output": ("", says("info/n_images", 12)),
    "--model": ("--model squeezenet1_0", says("report/model", "squeezenet1_0")),
    "--weights": ("--weights random", says("info/provenance/weights", "random")),
    "--weights-seed": ("--weights-seed 7", says("info/provenance/weights_seed", "7")),
    "--allow-missing": (
        "--weights {partial} --allow-missing features.12.*",
        says("info/provenance/weights_allow_missing", "features.12.*"),
    ),
    "--input-size": (
        "--input-size 64",
        says("info/provenance/input_size", "64"),
    ),
    "--preprocessing": (
        "--preprocessing mobilenet_v2",
        says("info/provenance/preprocessing_given", "yes"),
    ),
    "--layer": ("--layer features.0", says("report/layers/features.0", [64])),
    "--pool": ("--pool max", says("info/layers/0/pool", "max")),
    "--crops": ("--crops ten", says("info/provenance/crops", "ten")),
    "--batch-size": ("--batch-size 5", works),
    "--workers": ("--workers 1", works),
    "--engine": ("--engine eager", says("report/engine", "eager")),
    "--decoder": ("--decoder fast", says("info/provenance/decoder", "fast")),
    "--precision": ("--precision bf16", says("info/provenance/precision", "bf16")),
    "--dtype": ("--dtype float16", says("info/layers/0/dtype", "float16")),
    "--on-error": (
        reading("extract", "{broken}", "--max-failed 90% --on-error fail"),
        stops("0.png: "),
    ),
    "--max-failed": (
        reading("extract", "{broken}", "--max-failed 90%"),
        says("report/n_failed", 4),
    ),
    "--resume": ("--resume", says("report/n_resumed", 0)),
    "--shard": ("--batch-size 4 --shard 2/3", says("report/n_images", 4)),
    "--shards": ("--batch-size 4 --shards 3", has_files("f-00003-of-00003.h5")),
    "--retry-failed": ("--retry-failed", says("report/n_failed", 0)),
    "--add": ("--add", says("report/n_resumed", 12)),
    "--range": ("--range 0,200", says("info/provenance/range", "0,200")),
    "--pages": (
        reading("extract", "{stacks}", "--pages all"),
        says("report/n_images", 4),
    ),
    "--tokens": (
        "={images} -o {out}/f.h5 --model timm/vit_tiny_patch16_224 --weights random "
        "--tokens cls --workers 0 --engine eager",
        says("report/layers/norm", [192]),
    ),
}
BENCHMARK_OPTIONS = {
    **COMMON,
    **table_options("benchmark"),
    **row_options("benchmark"),
    "--overwrite": ("--report {out} --overwrite", is_replaced),
    "--folds": (
        reading("benchmark", "{features}", "--layer layer10 --folds 3"),
        says("report/rows/0/n_test", [16, 16, 16]),
    ),
    "--protocol": (f"{MIT67} --layer layer10 --C 1", says("report/protocol", "mit67")),
    "--layer": ("--layer layer2", says("report/rows/1/layer", "layer2")),
    "--head": ("--head svm,ncm", says("report/rows/1/head", "ncm")),
    "--splits": ("--splits 3", says("report/n_splits", 3)),
    "--seed": ("--seed 5", says("report/split_sets/0/splits/0/seed", 5)),
    "--lists": (
        f"{MIT67} --layer layer10 --C 1",
        says("report/rows/0/n_train", [134]),
    ),
    "--train-sizes": (
        "={features} --layer layer10 --C 1 --train-sizes 2,3",
        says("report/rows/1/train_per_class", 3),
    ),
    "--splits-file": (
        reading("benchmark", "{images_features}", "--splits-file {image_splits}"),
        says("report/rows/0/n_test", [9, 6]),
    ),
    "--C": ("--C 0.25", says("report/rows/0/C/0", 0.25)),
    "--scale": ("--scale none", says("report/settings/scale", "none")),
    "--signed-sqrt": ("--signed-sqrt", says("report/settings/signed_sqrt", True)),
    "--power": ("--power 2", says("report/settings/power", 2.0)),
    "--pca": ("--pca 3", says("report/settings/n_components", 3)),
    "--dropout": ("--dropout 0.3", says("report/settings/heads/svm/dropout", 0.3)),
    "--baseline": (
        "={images_features} --train-per-class 2 --C 1 --baseline pixels",
        says("report/rows/1/features", "raw pixels"),
    ),
    "--compare": ("--layer layer2 --compare layer2 layer10", has_asked),
    "--report": ("--report {out}", file_begins("index.html", b"<!DOCTYPE html>")),
    "--memory-mib": ("--memory-mib 1", works),
    "--verbose": ("--verbose", tells("solved on the .* side in")),
}
SPLITS_OPTIONS = {
    **table_options("splits"),
    **row_options("splits"),
    "--folds": (
        reading("splits", "{features}", "--folds 3"),
        says("report/n_test", [16, 16, 16]),
    ),
    "--protocol": (f"{MIT67} -o {{out}}/s.csv", says("report/protocol", "mit67")),
    "--output": ("", file_begins("s.csv", b"path,split")),
    "--splits": ("--splits 3", says("report/n_splits", 3)),
    "--seed": ("--seed 5", works),
    "--lists": (f"{MIT67} -o {{out}}/s.csv", says("report/n_train", [134])),
    "--overwrite": COMMON["--overwrite"],
    **TALK,
}
FINETUNE_OPTIONS = {
    **COMMON,
    **table_options("finetune"),
    **row_options("finetune"),
    **file_options("finetune"),
    "--class-weights": (
        "--class-weights balanced",
        trained("class_weights", "balanced"),
    ),
    "--output": ("", says("info/kind", "weights")),
    "--show-augment": (
        "--show-augment {out}/a.svg",
        file_begins("a.svg", b"<?xml"),
    ),
    "--model": ("--model squeezenet1_1", trained("model", "squeezenet1_1")),
    "--weights": ("--weights random", trained("weights", "random")),
    "--weights-seed": ("--weights-seed 4", trained("weights_seed", 4)),
    "--allow-missing": (
        "--allow-missing features.*",
        trained("allow_missing", ["features.*"]),
    ),
    "--preprocessing": (
        "--preprocessing mobilenet_v2",
        trained("preprocessing", "mobilenet_v2"),
    ),
    "--train": ("--train last:1", trained("train", "last:1")),
    "--init": (
        "--init {tiny_head}",
        starts_from_tiny,
    ),
    "--interpolate": (
        "--init {tiny_head} --interpolate 0.5",
        trained("interpolate", 0.5),
    ),
    "--epochs": ("--epochs 2", says("info/n_epochs", 2)),
    "--batch-size": ("--batch-size 5", trained("batch_size", 5)),
    "--lr": ("--lr 0.002", trained("lr", 0.002)),
    "--backbone-lr-scale": (
        "--backbone-lr-scale 0.5",
        trained("backbone_lr_scale", 0.5),
    ),
    "--optimizer": ("--optimizer adamw", trained("optimizer", "adamw")),
    "--weight-decay": ("--weight-decay 0.1", trained("weight_decay", 0.1)),
    "--schedule": ("--schedule plateau", trained("schedule", "plateau")),
    "--warmup-epochs": ("--warmup-epochs 0.5", trained("warmup_epochs", 0.5)),
    "--plateau-epochs": (
        "--schedule plateau --plateau-epochs 2",
        trained("plateau_epochs", 2),
    ),
    "--dropout": ("--dropout 0.2", trained("dropout", 0.2)),
    "--label-smoothing": ("--label-smoothing 0.1", trained("label_smoothing", 0.1)),
    "--clip-norm": ("--clip-norm 1", trained("clip_norm", 1.0)),
    "--batch-norm": ("--batch-norm frozen", trained("batch_norm", "frozen")),
    "--precision": ("--precision bf16", trained("precision", "bf16")),
    "--augment": ("--augment classic", trained("augment", "classic")),
    "--validation": ("--validation 0.3", trained("validation", 0.3)),
    "--patience": ("--patience 3", trained("patience", 3)),
    "--exclude": ("--exclude ant", says("report/n_classes", 2)),
    "--seed": ("--seed 9", trained("seed", 9)),
    "--workers": ("--workers 1", works),
    "--cache-mib": ("--cache-mib 0", works),
    "--checkpoint-minutes": ("--checkpoint-minutes 0", works),
    "--log-file": ("--log-file {out}/l.jsonl", file_begins("l.jsonl", b'{"epoch": 1')),
    "--curves": ("--curves {out}/c.pdf", file_begins("c.pdf", b"%PDF")),
    "--tensorboard": ("--tensorboard {out}/events", has_events),
    "--frozen": ("--frozen --train-per-class 3", compares),
    "--resume": ("--resume", works),
    "--range": ("--range full", trained("value_range", "full")),
    "--pages": ("--pages all", trained("pages", "all")),
}
OPTIONS = {
    "extract": EXTRACT_OPTIONS,
    "layers": {
        "--model": (
            "--model alexnet --all",
            says("report/layers/0/parameters", 23296),
        ),
        "--all": ("--all", says("report/layers/3/name", "features.3.squeeze")),
        "--input-size": (
            "--input-size 64",
            says("report/layers/0/shape", [64, 31, 31]),
        ),
        "--preprocessing": (
            "--preprocessing timm/vit_small_patch14_dinov2",  # 518 pixels
            says("report/layers/0/shape", [64, 258, 258]),
        ),
        **TALK,
    },
    "models": {**TALK, "--json": ("", says("report/models/0/name", "squeezenet1_0"))},
    "info": {**TALK, "--json": ("", says("report/n_images", 48))},
    **{
        name: {
            **HEAD_OPTIONS,
            **table_options(name),
            **row_options(name),
            **file_options(name),
        }
        for name in ("train-svm", "train-softmax")
    },
    "train": {
        **HEAD_OPTIONS,
        **table_options("train"),
        **row_options("train"),
        **file_options("train"),
        "--dropout": (
            "=svm {features} -o {out}/h.h5 --layer layer10 --C 1 --dropout 0.3",
            chose("dropout", 0.3),
        ),
    },
    "evaluate": {
        **table_options("evaluate"),
        "--model": (
            "={nameless} {images} --workers 0 --engine eager --model squeezenet1_1 "
            "--rows all",
            says("report/kind", "weights"),
        ),
        "--device": (f"{SCORED} --device cpu", says("report/n_images", 12)),
        "--batch-size": (f"{SCORED} --batch-size 5", says("report/n_images", 12)),
        "--workers": (f"{SCORED} --workers 1", says("report/n_images", 12)),
        "--engine": (f"{SCORED} --engine eager", says("report/n_images", 12)),
        "--pages": (
            "={images_head} {stacks} --engine eager --workers 0 --pages all",
            says("report/n_images", 4),
        ),
        "--mistakes": ("--mistakes {out}/m.pdf", file_begins("m.pdf", b"%PDF")),
        "--per-class": (
            "--per-class {out}/k.csv",
            file_begins("k.csv", b"class,n_images,accuracy\nclass0,"),
        ),
        "--rows": ("--rows all", says("report/n_images", 48)),
        "--confusion": ("--confusion {out}/c.svg", file_begins("c.svg", b"<?xml")),
        "--predictions": (
            "--predictions {out}/p.csv",
            file_begins("p.csv", b"path,label,predicted"),
        ),
        "--overwrite": ("--predictions {out}/p.csv --overwrite", is_replaced),
        **TALK,
    },
    "benchmark": BENCHMARK_OPTIONS,
    "leaks": {**LEAKS_OPTIONS, **TALK},
    "suspects": {
        **{
            flag: (f"={{images_features}} --labels {told}", says("report/n_classes", 2))
            for flag, told in TABLES.items()
        },
        **SUSPECTS_OPTIONS,
        **TALK,
    },
    "compare": {**COMPARE_OPTIONS, **TALK},
    "splits": SPLITS_OPTIONS,
    "finetune": FINETUNE_OPTIONS,
    "predict": {
        **COMMON,
        **table_options("predict"),
        **file_options("predict"),
        "--overwrite": ("-o {out}/p.csv --overwrite", is_replaced),
        "--output": ("-o {out}/p.csv", file_begins("p.csv", b"path,label")),
        "--model": (
            "={nameless} {images} --workers 0 --engine eager --model squeezenet1_1",
            says("report/kind", "weights"),
        ),
        "--pages": (
            reading("predict", "{stacks}", "--pages all"),
            says("report/n_images", 4),
        ),
        "--top": ("--top 2", two_labels),
        "--batch-size": ("--batch-size 5", works),
        "--workers": ("--workers 1", works),
        "--engine": ("--engine eager", says("report/engine", "eager")),
    },
    "merge": {
        "--output": ("", says("info/n_images", 12)),
        "--virtual": ("--virtual", stops("beside its shards or above them")),
        "--overwrite": ("--overwrite", is_replaced),
        **TALK,
    },
    "import": {
        **table_options("import"),
        "--output": ("", says("info/n_images", 10)),
        "--layer": ("--layer b", says("report/layers", {"b": [3]})),
        "--paths": (
            "={foreign}.npy -o {out}/f.h5 --paths {foreign}.txt",
            says("report/classes", {"ant": 4, "bee": 6}),
        ),
        "--model": ("--model vit", says("info/provenance/model", "vit")),
        "--overwrite": ("--overwrite", is_replaced),
        **TALK,
    },
    "export": {
        "--output": ("", file_begins("x.npz", b"PK")),
        "--layer": ("--layer layer2", says("report/layers", {"layer2": [16]})),
        "--splits-file": (
            "={images_features} -o {out}/x.npy --splits-file {image_splits}",
            has_cells("x.csv", "split", "test", 9),
        ),
        "--split-index": (
            "={images_features} -o {out}/x.npy --splits-file {image_splits} "
            "--split-index 1",
            has_cells("x.csv", "split", "test", 6),
        ),
        "--model": (
            "={nameless} -o {out}/m.pt2 --model squeezenet1_1",
            says("report/gives", "probabilities"),
        ),
        "--overwrite": ("--overwrite", is_replaced),
        **TALK,
    },
    "download": TALK,
    "weights": TALK,
}
