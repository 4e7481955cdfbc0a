"""The protocols: how each paper chose classes, rows and C, and what it reported."""

import difflib
from dataclasses import dataclass
from pathlib import Path

from cnnfeat.errors import OptionError
from cnnfeat.protocols._published import (
    CUB_BOXES,
    DECAF_AMAZON_WEBCAM,
    DECAF_CALTECH101,
    DECAF_CUB200,
    DECAF_DSLR_WEBCAM,
    DECAF_ONE_SHOT,
    DECAF_SUN397,
    FLOWERS_LISTS,
    MIT67_HEAD,
    OFFICE_SIZES,
    RAZAVIAN_CUB200,
    RAZAVIAN_FLOWERS102,
    RAZAVIAN_MIT67,
    ZF_CALTECH101,
    ZF_CALTECH256,
    ZF_OVERLAP,
    PublishedResult,
)


@dataclass(frozen=True)
class Domains:
    """Two sources of images, each a folder of that name in the images' paths.

    Parameters
    ----------
    source, target : str
        What is learned from, and what is tested on.
    n_source, n_target : int
        Training images a class: at most so many of the source, and so many of the
        target. The rest of the target is tested.
    """

    source: str
    target: str
    n_source: int
    n_target: int


@dataclass(frozen=True)
class Protocol:
    """How one experiment is done.

    Parameters
    ----------
    name, title : str
    n_classes : int or None
        Classes that take part; None for any number.
    n_images : int or None
        Images of the official data set in those classes.
    background : str or None
        Name of the data set's class of clutter.
    with_background : bool
        Whether that class takes part.
    train_sizes : tuple of int
        Training images a class that the papers report; the last is the default. Empty
        where the user or a published list decides.
    test_per_class : int or None
        At most so many; None for all the rest.
    n_splits : int or None
        None where the user decides.
    lists : str or None
        Whose published lists decide the rows: `sun397`, `mit67`, `cub200` or
        `flowers102`.
    domains : Domains, optional
        Where training and test images come from different sources.
    inner : tuple of int and int, or None
        The paper's own division of a class's training rows, to fit to and to choose C
        on, where it says one; it holds where there are so many.
    metric : str
        The headline number: `mean_per_class_accuracy` or `accuracy`.
    published : tuple of PublishedResult
    notes : tuple of str
        What a reader of our numbers beside theirs should know.
    """

    name: str
    title: str
    n_classes: int | None = None
    n_images: int | None = None
    background: str | None = None
    with_background: bool = False
    train_sizes: tuple[int, ...] = ()
    test_per_class: int | None = None
    n_splits: int | None = None
    lists: str | None = None
    domains: Domains | None = None
    inner: tuple[int, int] | None = None
    metric: str = "mean_per_class_accuracy"
    published: tuple[PublishedResult, ...] = ()
    notes: tuple[str, ...] = ()

    def inner_held_out(self, train_per_class: int | None) -> int | None:
        """Return how many of a class C is chosen on; None where no paper says so."""
        if self.inner is None or sum(self.inner) != train_per_class:
            return None
        return self.inner[1]

    @property
    def is_free(self) -> bool:
        """Whether the user decides how many rows are drawn."""
        return not (self.train_sizes or self.lists or self.domains)

    @property
    def default_train_per_class(self) -> int | None:
        """The largest of the papers' sizes."""
        return self.train_sizes[-1] if self.train_sizes else None


@dataclass(frozen=True)
class Draw:
    """How many rows, of which seed; None leaves a choice to the protocol.

    Split i is drawn with `split_seed(seed, i)`. `test_share` and `n_folds` are for data
    sets that prescribe no sizes: a share of each class, or a cross validation.
    `lists_dir` is the folder of the data set's published lists, which depend on no
    seed.
    """

    n_splits: int | None = None
    train_per_class: int | None = None
    test_per_class: int | None = None
    test_share: float | None = None
    n_folds: int | None = None
    skip_small: bool = False
    seed: int = 0
    lists_dir: str | Path | None = None


_CALTECH101_BACKGROUND = "BACKGROUND_Google"

_TABLE = (
    Protocol(
        "caltech101-decaf",
        "Caltech-101 as in DeCAF: 102 classes, 30 to train on, all the rest to test",
        n_classes=102,
        n_images=9144,
        background=_CALTECH101_BACKGROUND,
        with_background=True,
        train_sizes=(30,),
        n_splits=5,
        inner=(25, 5),
        published=DECAF_CALTECH101,
        notes=(DECAF_ONE_SHOT,),
    ),
    Protocol(
        "caltech101-zf",
        "Caltech-101 as in ZF: 102 classes, 15 or 30 to train on, at most 50 to test",
        n_classes=102,
        n_images=9144,
        background=_CALTECH101_BACKGROUND,
        with_background=True,
        train_sizes=(15, 30),
        test_per_class=50,
        n_splits=5,
        published=ZF_CALTECH101,
        notes=(
            "102 classes are our reading; the paper does not say",
            ZF_OVERLAP.format(n=44),
        ),
    ),
    Protocol(
        "caltech101",
        "Caltech-101 without background: 30 to train on, at most 50 to test",
        n_classes=101,
        n_images=8677,
        background=_CALTECH101_BACKGROUND,
        train_sizes=(30,),
        test_per_class=50,
        n_splits=5,
    ),
    Protocol(
        "caltech256-zf",
        "Caltech-256 as in ZF: 15, 30, 45 or 60 to train on, at most 50 to test",
        n_classes=256,
        n_images=29780,
        background="257.clutter",
        train_sizes=(15, 30, 45, 60),
        test_per_class=50,
        n_splits=5,
        published=ZF_CALTECH256,
        notes=(
            "at most 50 test images a class are our reading; the paper does not say",
            ZF_OVERLAP.format(n=243),
        ),
    ),
    Protocol(
        "sun397",
        "SUN397: 50 to train on and 50 to test, the 10 published partitions",
        n_classes=397,
        n_images=108754,
        train_sizes=(50,),
        test_per_class=50,
        n_splits=10,
        lists="sun397",
        inner=(42, 8),
        published=DECAF_SUN397,
        notes=("DeCAF drew 5 random splits; without the published lists so do we",),
    ),
    Protocol(
        "mit67",
        "MIT-67 indoor scenes: the published lists, about 80 and 20 images a class",
        n_classes=67,
        n_images=15620,
        n_splits=1,
        lists="mit67",
        published=RAZAVIAN_MIT67,
        notes=(MIT67_HEAD,),
    ),
    Protocol(
        "cub200",
        "CUB-200-2011 birds: the published list, 5,994 to train on and 5,794 to test",
        n_classes=200,
        n_images=11788,
        n_splits=1,
        lists="cub200",
        metric="accuracy",
        published=DECAF_CUB200 + RAZAVIAN_CUB200,
        notes=(CUB_BOXES,),
    ),
    Protocol(
        "flowers102",
        "Oxford flowers: the published lists, 20 to train on and at least 20 to test",
        n_classes=102,
        n_images=8189,
        n_splits=1,
        lists="flowers102",
        published=RAZAVIAN_FLOWERS102,
        notes=(FLOWERS_LISTS,),
    ),
    Protocol(
        "office31",
        "Office: 20 of Amazon and 3 of webcam to train on, the rest of webcam to test",
        n_classes=31,
        n_images=4110,
        n_splits=5,
        domains=Domains("amazon", "webcam", 20, 3),
        metric="accuracy",
        published=DECAF_AMAZON_WEBCAM,
        notes=(OFFICE_SIZES.format(n_source=20, source="amazon", alone="52.22 ± 1.7"),),
    ),
    Protocol(
        "office31-dslr",
        "Office: 8 of DSLR and 3 of webcam to train on, the rest of webcam to test",
        n_classes=31,
        n_images=4110,
        n_splits=5,
        domains=Domains("dslr", "webcam", 8, 3),
        metric="accuracy",
        published=DECAF_DSLR_WEBCAM,
        notes=(OFFICE_SIZES.format(n_source=8, source="dslr", alone="91.48 ± 1.5"),),
    ),
    Protocol(
        "scene15",
        "Scene-15: 100 to train on, all the rest to test",
        n_classes=15,
        n_images=4485,
        train_sizes=(100,),
        n_splits=10,
    ),
    Protocol("folder", "Any folder of class folders, with the sizes that you give"),
)

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _TABLE}


def get_protocol(name: str) -> Protocol:
    """Return the protocol of that name.

    Raises
    ------
    OptionError
        If there is none; the nearest names, or all, are offered.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    near = difflib.get_close_matches(name, PROTOCOLS, 3, 0.5) or list(PROTOCOLS)
    raise OptionError(f"there is no protocol {name!r}; nearest: {', '.join(near)}")
