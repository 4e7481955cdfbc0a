"""What a verb asks of a head: its kind, what is done to the features, which C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cnnfeat.errors import DataError
from cnnfeat.heads._base import LinearHead
from cnnfeat.heads._choices import HEAD_KINDS, HeadKind
from cnnfeat.heads._formulation import Formulation
from cnnfeat.heads._softmax import Softmax
from cnnfeat.heads._svm import LinearSVM
from cnnfeat.heads._transform import FeatureTransform, check_power
from cnnfeat.machine import resolve_device

# The kinds that Newton's method solves.
_ESTIMATORS: dict[str, type[LinearHead]] = {"svm": LinearSVM, "softmax": Softmax}


@dataclass(frozen=True)
class HeadSettings:
    """How heads are trained.

    Parameters
    ----------
    kind : str
        One of `HEAD_KINDS`.
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
        For a kind that there is not, or dropout of one that has none.
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
        if self.kind not in HEAD_KINDS:
            kinds = ", ".join(HEAD_KINDS)
            raise DataError(f"a head is one of {kinds}; found {self.kind!r}")
        if self.dropout and not self.told.has_dropout:
            raise DataError(f"a {self.kind} head has no `dropout`")
        check_power(self.power, self.signed_sqrt)

    @property
    def told(self) -> HeadKind:
        """What is known of the kind."""
        return HEAD_KINDS[self.kind]

    @property
    def chooses_C(self) -> bool:
        """Whether there is more than one C to choose from."""
        return self.told.has_C and (self.C is None or len(self.C) > 1)

    @property
    def needs_folds(self) -> bool:
        """Whether something is chosen on rows held out of the training rows."""
        return self.told.needs_folds and (self.chooses_C or not self.told.has_C)

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
            centre=self.told.centres,
        )

    def formulation(self, seed: int = 0) -> Formulation:
        """Return what Newton's method solves; `seed` draws its dropout."""
        return self._estimator(seed).formulation()

    def to_dict(self) -> dict[str, Any]:
        """Return what decides a fit beside rows, transform, C and seed: JSON types."""
        if self.kind not in _ESTIMATORS:
            return {}
        params = self._estimator().get_params()
        return {k: v for k, v in params.items() if k not in ("C", "random_state")}

    def _estimator(self, seed: int = 0) -> LinearHead:
        return _ESTIMATORS[self.kind](
            dropout=self.dropout,
            random_state=seed,
            device=str(resolve_device(self.device)),
            memory_budget=self.memory_budget,
        )
