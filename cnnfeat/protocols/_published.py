"""Numbers that the papers printed, to stand beside ours.

DeCAF is Donahue et al. 2013 (arXiv 1310.1531), ZF is Zeiler and Fergus 2013 (arXiv
1311.2901), Razavian is Sharif Razavian et al. 2014 (arXiv 1403.6382). Layers carry
the papers' numbers, of networks much like AlexNet: 5 is the last convolution, 6 and 7
the two fully connected layers before the classifier.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedResult:
    """One number of a paper.

    Parameters
    ----------
    source : str
        Paper, and where in it.
    layer : str
        The paper's number or name of the layer.
    head : str
        `svm` or `softmax`, and "with dropout" where the features had it.
    train_per_class : int or None
        None where a published list decides.
    percent : str
        As printed, in per cent: `86.91 ± 0.7`.
    """

    source: str
    layer: str
    head: str
    train_per_class: int | None
    percent: str

    @property
    def accuracy(self) -> float:
        """The mean, as a fraction."""
        return float(self.percent.split("±")[0]) / 100

    @property
    def std(self) -> float | None:
        """The deviation over splits, as a fraction; None where the paper has none."""
        _, _, std = self.percent.partition("±")
        return float(std) / 100 if std else None


def _by_layer(
    source: str, head: str, train_per_class: int | None, percents: dict[str, str]
) -> tuple[PublishedResult, ...]:
    return tuple(
        PublishedResult(source, layer, head, train_per_class, percent)
        for layer, percent in percents.items()
    )


def _by_size(
    row: tuple[str, str, str], percents: dict[int, str]
) -> tuple[PublishedResult, ...]:
    """Return the numbers of one row: source, layer and head."""
    return tuple(
        PublishedResult(*row, size, percent) for size, percent in percents.items()
    )


_ZF = "ZF, table 7"
_WHOLE = "whole network"
_UNTRAINED = "whole network, not pretrained"
ZF_CALTECH101 = (
    *_by_layer(
        _ZF,
        "svm",
        30,
        {
            "1": "44.8 ± 0.7",
            "2": "66.2 ± 0.5",
            "3": "72.3 ± 0.4",
            "4": "76.6 ± 0.4",
            "5": "86.2 ± 0.8",
            "7": "85.5 ± 0.4",
        },
    ),
    *_by_layer(_ZF, "softmax", 30, {"5": "82.9 ± 0.4", "7": "85.4 ± 0.4"}),
    *_by_size(("ZF, table 4", _WHOLE, "softmax"), {15: "83.8 ± 0.5", 30: "86.5 ± 0.5"}),
    *_by_size(
        ("ZF, table 4", _UNTRAINED, "softmax"), {15: "22.8 ± 1.5", 30: "46.5 ± 1.7"}
    ),
)

ZF_CALTECH256 = (
    *_by_layer(
        _ZF,
        "svm",
        60,
        {
            "1": "24.6 ± 0.4",
            "2": "39.6 ± 0.3",
            "3": "46.0 ± 0.3",
            "4": "51.3 ± 0.1",
            "5": "65.6 ± 0.3",
            "7": "71.7 ± 0.2",
        },
    ),
    *_by_layer(_ZF, "softmax", 60, {"5": "65.7 ± 0.5", "7": "72.6 ± 0.1"}),
    *_by_size(
        ("ZF, table 5", _WHOLE, "softmax"),
        {15: "65.7 ± 0.2", 30: "70.6 ± 0.2", 45: "72.7 ± 0.4", 60: "74.2 ± 0.3"},
    ),
    *_by_size(
        ("ZF, table 5", _UNTRAINED, "softmax"),
        {15: "9.0", 30: "22.5", 45: "31.2", 60: "38.8"},
    ),
)

_DECAF_OBJECTS = "DeCAF, section 4.1"
DECAF_CALTECH101 = (
    *_by_layer(
        _DECAF_OBJECTS,
        "svm",
        30,
        {"5": "77.12 ± 1.1", "6": "84.77 ± 1.2", "7": "83.24 ± 1.2"},
    ),
    *_by_layer(
        _DECAF_OBJECTS,
        "svm with dropout",
        30,
        {"6": "86.91 ± 0.7", "7": "85.51 ± 0.9"},
    ),
    *_by_layer(
        _DECAF_OBJECTS,
        "softmax",
        30,
        {"5": "63.29 ± 6.6", "6": "84.30 ± 1.6", "7": "84.87 ± 0.6"},
    ),
    *_by_layer(
        _DECAF_OBJECTS,
        "softmax with dropout",
        30,
        {"6": "86.08 ± 0.8", "7": "85.68 ± 0.6"},
    ),
)

_DECAF_SCENES = "DeCAF, section 4.4"
DECAF_SUN397 = (
    *_by_layer(_DECAF_SCENES, "softmax", 50, {"6": "40.94 ± 0.3", "7": "40.84 ± 0.3"}),
    *_by_layer(_DECAF_SCENES, "svm", 50, {"6": "39.36 ± 0.3", "7": "40.66 ± 0.3"}),
)

DECAF_CUB200 = (
    PublishedResult("DeCAF, section 4.3", "6", "softmax", None, "58.75"),
    PublishedResult("DeCAF, section 4.3", "6 with DPD", "softmax", None, "64.96"),
)
_RAZAVIAN_BIRDS = "Razavian, table 3"
RAZAVIAN_CUB200 = (
    *_by_layer(_RAZAVIAN_BIRDS, "svm", None, {"first fully connected": "53.3"}),
    *_by_layer(
        _RAZAVIAN_BIRDS, "svm", None, {"first fully connected, augmented": "61.8"}
    ),
)
_RAZAVIAN_FLOWERS = "Razavian, table 4"
RAZAVIAN_FLOWERS102 = (
    *_by_layer(_RAZAVIAN_FLOWERS, "svm", None, {"first fully connected": "74.7"}),
    *_by_layer(
        _RAZAVIAN_FLOWERS, "svm", None, {"first fully connected, augmented": "86.8"}
    ),
)
_DECAF_OFFICE = "DeCAF, table 1"
DECAF_AMAZON_WEBCAM = (
    *_by_layer(_DECAF_OFFICE, "svm", None, {"6": "80.66 ± 2.3", "7": "79.12 ± 2.1"}),
    *_by_layer(
        _DECAF_OFFICE, "softmax", None, {"6": "75.30 ± 2.0", "7": "76.32 ± 2.0"}
    ),
)
DECAF_DSLR_WEBCAM = (
    *_by_layer(_DECAF_OFFICE, "svm", None, {"6": "94.79 ± 1.2", "7": "92.96 ± 2.0"}),
    *_by_layer(
        _DECAF_OFFICE, "softmax", None, {"6": "92.88 ± 0.6", "7": "91.91 ± 2.0"}
    ),
)
_RAZAVIAN_SCENES = "Razavian, MIT-67 indoor scenes"
RAZAVIAN_MIT67 = (
    *_by_layer(_RAZAVIAN_SCENES, "svm", None, {"first fully connected": "58.44"}),
    *_by_layer(
        _RAZAVIAN_SCENES, "svm", None, {"first fully connected, augmented": "69.0"}
    ),
)

# What a reader of our numbers beside theirs should know.
ZF_OVERLAP = (
    "ZF found {n} of these images in ImageNet and removed them from the images that "
    "their network was trained on; networks with public weights have seen them"
)
CUB_BOXES = (
    "DeCAF crops 1.5 times the given bounding box, as does Razavian (section 3.6); "
    "here the whole image is used"
)
FLOWERS_LISTS = (
    "trained on the published training and validation lists together, 20 images a "
    "class: our reading; Razavian does not say"
)
OFFICE_SIZES = (
    "{n_source} images a class of {source} and 3 of webcam are trained on, the rest of "
    "webcam is tested (the sizes of Saenko et al. 2010; 5 random splits are our "
    "reading); with {source} alone DeCAF prints {alone} for an SVM on layer 6"
)
MIT67_HEAD = (
    "Razavian's head is libsvm's: hinge loss, one-vs-one, C = 2; ours has squared "
    "hinge loss, one-vs-rest, with C chosen"
)
DECAF_ONE_SHOT = "with one training image a class DeCAF prints 33.0 for an SVM"
