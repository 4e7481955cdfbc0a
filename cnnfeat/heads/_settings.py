"""What a verb asks of a head: its kind, what is done to the features, which C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cnnfeat.errors import DataError
from cnnfeat.heads._base import LinearHead
from cnnfeat.heads._choices import HEAD_KINDS
from cnnfeat.heads._softmax import Softmax
from cnnfeat.heads._svm import LinearSVM
from cnnfeat.heads._transform import FeatureTransform, check_power
from cnnfeat.machine import resolve_device

_ESTIMATORS: tuple[type[LinearHead], ...] = (LinearSVM, Softmax)
KINDS = dict(zip(HEAD_KINDS, _ESTIMATORS, strict=True))


@dataclass(frozen=True)
class HeadSettings:
    """How heads are trained.

    Parameters
    ----------
    kind : {"svm", "softmax"}
    scale : {"mean-norm", "l2", "standard", "none"}
    signed_sqrt : bool
    power : float
    n_components : int, optional
        These four as in `FeatureTransform`.
    C : tuple of float, optional
        Values to choose from; one is taken as it is. None is the default `CGrid` of the
        training rows, once transformed, which grows where its edge is clearly the best.
    dropout : float
        Rate at which features are dropped in training.
    device : str
        As `cnnfeat.machine.resolve_device` takes it: "auto" is a GPU if there is one.
    memory_budget : int, optional
        Bytes that the solver's square matrices may take.

    Raises
    ------
    DataError
        For a kind that there is not.
    OptionError
        For a power that is not above 0, or beside `signed_sqrt`.
    """

    kind: str = "svm"
    scale: str = "l2"
    signed_sqrt: bool = False
    power: float = 1.0
    n_components: int | None = None
    C: tuple[float, ...] | None = None
    dropout: float = 0.0
    device: str = "auto"
    memory_budget: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(f"a head is one of {', '.join(KINDS)}; found {self.kind!r}")
        check_power(self.power, self.signed_sqrt)

    @property
    def chooses_C(self) -> bool:
        """Whether there is more than one C to choose from."""
        return self.C is None or len(self.C) > 1

    def with_rows(self, n: int) -> HeadSettings:
        """Return the settings for n rows, which have n − 1 components at most."""
        if self.n_components is None or self.n_components < n:
            return self
        return replace(self, n_components=max(1, n - 1))

    def transform(self, part_widths: Sequence[int] = ()) -> FeatureTransform:
        """Return the transform, not yet fitted, of layers that are so wide."""
        return FeatureTransform(
            self.scale,
            signed_sqrt=self.signed_sqrt,
            power=self.power,
            n_components=self.n_components,
            part_widths=part_widths,
        )

    def estimator(self, seed: int = 0) -> LinearHead:
        """Return the estimator, not yet fitted; `seed` draws its dropout."""
        return KINDS[self.kind](
            dropout=self.dropout,
            random_state=seed,
            device=str(resolve_device(self.device)),
            memory_budget=self.memory_budget,
        )
