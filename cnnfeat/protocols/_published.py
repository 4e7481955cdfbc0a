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


_ZF = "ZF, table 7"
ZF_CALTECH101 = _by_layer(
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
) + _by_layer(_ZF, "softmax", 30, {"5": "82.9 ± 0.4", "7": "85.4 ± 0.4"})

ZF_CALTECH256 = _by_layer(
    _ZF,
    "svm",
    60,
    {"1": "24.6", "2": "39.6", "3": "46.0", "4": "51.3", "5": "65.6", "7": "71.7"},
) + _by_layer(_ZF, "softmax", 60, {"5": "65.7", "7": "72.6"})

_DECAF_OBJECTS = "DeCAF, section 4.1"
DECAF_CALTECH101 = (
    *_by_layer(
        _DECAF_OBJECTS, "svm", 30, {"5": "77.12 ± 1.1", "6": "84.77", "7": "83.24"}
    ),
    *_by_layer(
        _DECAF_OBJECTS, "svm with dropout", 30, {"6": "86.91 ± 0.7", "7": "85.51"}
    ),
    *_by_layer(_DECAF_OBJECTS, "softmax", 30, {"6": "84.30", "7": "84.87"}),
    *_by_layer(
        _DECAF_OBJECTS, "softmax with dropout", 30, {"6": "86.08", "7": "85.68"}
    ),
)

_DECAF_SCENES = "DeCAF, section 4.4"
DECAF_SUN397 = _by_layer(
    _DECAF_SCENES, "softmax", 50, {"6": "40.94", "7": "40.84"}
) + _by_layer(_DECAF_SCENES, "svm", 50, {"6": "39.36", "7": "40.66"})

DECAF_CUB200 = (PublishedResult("DeCAF, section 4.3", "6", "softmax", None, "58.75"),)
RAZAVIAN_MIT67 = (
    PublishedResult(
        "Razavian, MIT-67 indoor scenes", "first fully connected", "svm", None, "58.44"
    ),
)

# Public weights were trained on all of ImageNet; the numbers are not quite comparable.
ZF_OVERLAP = (
    "ZF removed {n} images that also stand in ImageNet; networks with public weights "
    "have seen them"
)
