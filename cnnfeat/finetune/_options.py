"""What a fine-tuning run is asked to do, and what it may not ask."""

import os
import re
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cnnfeat.errors import OptionError, OutputError
from cnnfeat.images import ManifestOptions, Sources, sources_of
from cnnfeat.outputs import check_output, check_outputs, check_suffix
from cnnfeat.splits import RowOptions
from cnnfeat.suffixes import LOGS, PICTURES, SAVED_WEIGHTS
from cnnfeat.training import TrainingSettings
from cnnfeat.value_range import AUTO

# Options that say where things go or how fast, and change no weight: a run may be
# resumed with other values of them.
_NO_EFFECT = (
    *("resume", "overwrite", "workers", "cache_mib", "checkpoint_minutes"),
    *("log_path", "curves_path", "tensorboard_dir", "frozen"),
)
_VALIDATION_SHARE = 1 / 6
_ENOUGH_TO_CHOOSE_ON = 12  # training images a class: two of them are held out


@dataclass(frozen=True)
class FinetuneOptions(RowOptions, ManifestOptions, TrainingSettings):
    """How a network is fine-tuned; the defaults are those of `cnnfeat finetune`.

    How it is trained is what `TrainingSettings` says, on which rows what `RowOptions`
    says, how a table of images is read what `ManifestOptions` says.

    Attributes
    ----------
    train : str
        `head` (the classifier alone), `last:N` (the last N stages, see
        `network_stages`) or `all`.
    init : str
        What the classifier starts from: `frozen`, a softmax trained on the frozen
        network's features of the training rows (Kumar et al. 2022, "Fine-tuning can
        distort pretrained features", section 4: LP-FT); `noise`, Gaussian of standard
        deviation 0.01 (Girshick et al. 2013, section 2.3); or a head file.
    augment : str or None
        `none`, `light`, `classic` or a file of ranges; None: `none` with
        `train="head"`, so that the frozen part runs once, else `light`.
    validation : float or None
        Share of the training rows that chooses the epoch; 0: none, the last is kept.
        None: 1/6 where classes have 12 training images on average, and with
        `schedule="plateau"`; else 0, since one or two a class choose by chance, and
        are needed to train on.
    value_range, pages : str
        See `cnnfeat.images.settle_range` and `take_pages`.
    cache_mib : int
        Memory for decoded images, or for features with `train="head"`.
    """

    model: str = "efficientnet_lite0"
    weights: str = "default"
    weights_seed: int = 0
    allow_missing: tuple[str, ...] = ()
    preprocessing: str | None = None
    train: str = "all"
    init: str = "frozen"
    augment: str | None = None
    validation: float | None = None
    value_range: str = AUTO
    pages: str = "first"
    device: str = "auto"
    workers: int | None = None
    cache_mib: int = 2048
    resume: bool = False
    overwrite: bool = False
    log_path: str | None = None
    curves_path: str | None = None
    tensorboard_dir: str | None = None
    frozen: bool = True

    @property
    def augmentation(self) -> str:
        """What `augment` stands for."""
        return self.augment or ("none" if self.train == "head" else "light")

    def validation_share(self, n_per_class: float) -> float:
        """Return what `validation` stands for where classes have so many images."""
        if self.validation is not None:
            return self.validation
        chooses = self.schedule == "plateau" or n_per_class >= _ENOUGH_TO_CHOOSE_ON
        return _VALIDATION_SHARE if chooses else 0.0

    @property
    def init_file(self) -> str | None:
        """The head file to start from; None where it is another start."""
        return None if self.init in ("frozen", "noise") else self.init

    @property
    def files_read(self) -> list[str]:
        """What is read beside the images; some names may be no file."""
        given = (self.weights, self.init_file, self.splits_file, self.augmentation)
        return [name for name in given if name]

    @property
    def logs_written(self) -> list[str]:
        """What is written beside the weights."""
        return [path for path in (self.log_path, self.curves_path) if path]

    def fingerprint(self) -> dict[str, Any]:
        """Return the options that decide the weights, as JSON types."""
        chosen = {k: v for k, v in asdict(self).items() if k not in _NO_EFFECT}
        chosen["exclude_classes"] = list(self.exclude_classes)
        # Earlier versions did not have it: what they began goes on.
        new = {
            "allow_missing": list(chosen.pop("allow_missing")),
            "preprocessing": chosen.pop("preprocessing"),
        }
        return {**chosen, **{key: value for key, value in new.items() if value}}


def check_logs(options: FinetuneOptions) -> None:
    """Refuse logs that cannot be written.

    Raises
    ------
    OptionError
        If one ends in a suffix that it is not written as, or TensorBoard is missing.
    """
    if options.log_path:
        check_suffix(options.log_path, LOGS)
    if options.curves_path:
        check_suffix(options.curves_path, PICTURES)
    if options.tensorboard_dir and find_spec("tensorboard") is None:
        raise OptionError(
            "`tensorboard_dir` needs the package tensorboard: pip install "
            "'cnnfeat[tensorboard]'"
        )


def check_options(options: FinetuneOptions, images: Sources, output_path: str) -> None:
    """Refuse what cannot work, before anything is read.

    Raises
    ------
    OptionError
        If options are out of range or contradict each other, an output ends in a suffix
        that it is not written as, or a package that they need is not installed.
    OutputError
        If an output exists unasked, is an input or another output, or cannot be
        written.
    """
    check_suffix(output_path, SAVED_WEIGHTS)
    check_logs(options)
    if not re.fullmatch(r"head|all|last:0*[1-9]\d*", options.train):
        raise OptionError(
            f"`train={options.train}`: expected head, last:N with N from 1, or all"
        )
    validation = options.validation
    if validation is not None and not 0 <= validation < 1:
        raise OptionError(f"`validation={validation:g}`: expected 0 to below 1")
    if options.schedule == "plateau" and validation == 0:
        raise OptionError(
            "`schedule=plateau` needs a validation part: `validation` above 0"
        )
    if options.batch_norm == "train" and options.batch_size < 2:
        raise OptionError(
            "`batch_norm=train` with `batch_size=1`: the statistics of one image are "
            "its own; use a larger batch or `batch_norm=frozen`"
        )
    if options.interpolate and options.init == "noise":
        raise OptionError(
            f"`interpolate={options.interpolate:g}` with `init=noise`: averaging with "
            "a random classifier would undo the training; leave `init` out"
        )
    options.check_rows()
    # A resumed run adds to its log, and replaces no weights unasked.
    check_outputs(
        [output_path, *options.logs_written],
        [*sources_of(images), *options.files_read],
        overwrite=options.overwrite or options.resume,
    )
    check_output(output_path, overwrite=options.overwrite)
    folder = Path(output_path).absolute().parent
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{output_path}: the folder {folder} cannot be written to")
