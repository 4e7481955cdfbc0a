"""What a run tells when it has ended: its report, and what the weights file says."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from cnnfeat._version import __version__
from cnnfeat.finetune._frozen import FrozenScore
from cnnfeat.finetune._material import Material
from cnnfeat.finetune._options import FinetuneOptions
from cnnfeat.images import fingerprint_images
from cnnfeat.networks import describe_classifier
from cnnfeat.report import format_percent
from cnnfeat.seen import TRAINED_ON
from cnnfeat.training import TrainingRun, TrainingState


@dataclass(frozen=True)
class FinetuneReport:
    """What a run did; `comparison` scores the same held-out rows, frozen ones first.

    `failures` are (path, reason) pairs, `history` one record an epoch. `note` is a
    sentence where a frozen head was the better one; else empty.
    """

    output: str
    model: str
    train: str
    augment: str
    n_train: int
    n_validation: int
    n_test: int
    n_failed: int
    n_classes: int
    n_trained_parameters: int
    n_epochs: int
    best_epoch: int
    validation_accuracy: float | None
    seconds: float
    images_per_second: float
    device: str
    history: list[dict[str, Any]]
    comparison: list[dict[str, Any]]
    failures: list[tuple[str, str]]
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)


def _trained_before(metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the weights that a run started from were trained on, if anything."""
    own = {key: metadata[key] for key in TRAINED_ON if key in metadata}
    earlier: list[dict[str, Any]] = metadata.get("training_before", [])
    return [own, *earlier] if own else earlier


@dataclass(frozen=True, eq=False)
class Ended:
    """A run that has ended: from what, with what options, where, how good it is."""

    material: Material
    options: FinetuneOptions
    run: TrainingRun
    state: TrainingState
    comparison: list[FrozenScore]

    def metadata(self, command: str) -> dict[str, Any]:
        """Return what the weights file says of itself."""
        image_list, split = self.material.image_list, self.material.split
        network, classifier = self.material.network, self.material.classifier
        record, state = network.weights, self.state
        return {
            "model": network.name,
            **describe_classifier(classifier.name, classifier.module),
            "class_names": split.class_names,
            "preprocessing": record.preprocessing.to_dict(),
            "started_from": {
                "weights": record.source,
                "weights_name": record.name,
                "weights_sha256": record.sha256,
            },
            "options": self.options.fingerprint(),
            "n_epochs": len(state.history),
            "best_epoch": state.best_epoch,
            "best": state.history[state.best_epoch - 1].to_dict(),
            "comparison": [asdict(row) for row in self.comparison],
            "range": image_list.value_range,
            "root": image_list.root,
            "images_sha256": fingerprint_images(image_list),
            "training_paths": [image_list.paths[row] for row in split.training],
            "training_digests": list(image_list.digests(split.training)),
            "training_before": _trained_before(record.metadata),
            "heldout_paths": [image_list.paths[row] for row in split.test],
            "command": command,
            "created_by": f"cnnfeat {__version__}",
            "versions": {
                name: version(name) for name in ("torch", "torchvision", "timm")
            },
        }

    def report(self, output_path: str, seconds: float) -> FinetuneReport:
        """Return what the run did."""
        split, history = self.material.split, self.state.history
        spent = sum(record.seconds for record in history)
        n_images = len(split.train) * len(history)
        parameters = self.run.trained.parameters.values()
        paths = self.material.image_list.paths
        return FinetuneReport(
            output=output_path,
            model=self.material.network.name,
            train=self.options.train,
            augment=self.options.augmentation,
            n_train=len(split.train),
            n_validation=len(split.validation),
            n_test=len(split.test),
            n_failed=len(split.failures),
            n_classes=len(split.class_names),
            n_trained_parameters=sum(one.numel() for one in parameters),
            n_epochs=len(history),
            best_epoch=self.state.best_epoch,
            validation_accuracy=history[self.state.best_epoch - 1].validation_accuracy,
            seconds=round(seconds, 3),
            images_per_second=round(n_images / max(spent, 1e-9), 2),
            device=str(self.run.device),
            history=[record.to_dict() for record in history],
            comparison=[asdict(row) for row in self.comparison],
            failures=[(paths[row], why) for row, why in sorted(split.failures.items())],
            note=which_is_better(self.comparison),
        )


def which_is_better(comparison: Sequence[FrozenScore]) -> str:
    """Return a sentence where a frozen head beats what was fine-tuned, else ""."""
    if len(comparison) < 2:
        return ""
    *frozen, tuned = comparison
    best = max(frozen, key=lambda row: row.accuracy)
    if best.accuracy <= tuned.accuracy:
        return ""
    kind = best.model.removeprefix("frozen ").lower()
    found, lost = (format_percent(row.accuracy) for row in (best, tuned))
    return (
        f"The {best.model} was better than the {tuned.model} network ({found} % and "
        f"{lost} % of {tuned.n_images} held-out images): `cnnfeat extract` and "
        f"`cnnfeat train-{kind}` make it."
    )
