"""Transforms of features, fitted on the training rows and stored with the head.

Order, always: signed power, then PCA, then one scale. Scales:

- `mean-norm`: one factor that makes the mean row norm 20 (Girshick et al. 2013, R-CNN,
  appendix on training; one C then serves every layer). The intercept's constant feature
  is not scaled.
- `l2`: every row to unit norm; a row of zeros stays zero.
- `standard`: zero mean and unit standard deviation; a constant feature keeps factor 1.
- `none`.

For concatenated layers `mean-norm` and `l2` apply to each layer's part of the row, so
no layer drowns another; after a PCA there are no parts any more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnfeat.errors import DataError, OptionError, ShapeError
from cnnfeat.heads._choices import SCALES
from cnnfeat.heads._rows import BLOCK_BYTES, RowSource

MEAN_NORM = 20.0  # R-CNN's target
_STORED = {"scale", "signed_sqrt", "part_widths", "shift", "factor", "n_features_in"}


def check_power(power: float, signed_sqrt: bool) -> None:
    """Raise OptionError unless the power is a finite number above 0, given once."""
    if not 0 < power < math.inf:
        raise OptionError(f"`power` must be a finite number above 0, not {power:g}")
    if signed_sqrt and power != 1:
        raise OptionError(
            f"`signed_sqrt` is `power=0.5`, and `power={power:g}` was given: give one"
        )


def row_blocks(X: Any) -> Iterator[tuple[slice, Tensor]]:
    """Yield (rows, block (m, d)) of features (n, d) in order, blocks as tensors."""
    n, d = (int(m) for m in X.shape)
    step = max(1, BLOCK_BYTES // (8 * max(1, d)))
    if isinstance(X, RowSource):
        for rows, block in X.blocks(step):
            yield rows, torch.as_tensor(block)
        return
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        yield rows, torch.as_tensor(X[rows])


class FeatureTransform:
    """Signed power, PCA and scale of features (n, d), in this order.

    A head file holds what `to_arrays` returns.

    Parameters
    ----------
    scale : {"none", "mean-norm", "l2", "standard"}
    signed_sqrt : bool, default False
        sign(x) √|x| (Perronnin et al., ECCV 2010, section 3.2).
    power : float, default 1
        P in sign(x) |x|ᴾ; 2 in Razavian et al. 2014, section 3.6. `signed_sqrt` is 0.5
        and excludes it.
    n_components : int, optional
        Keep so many principal components, without whitening. PCA needs the features
        in memory.
    part_widths : sequence of int, optional
        Widths of the concatenated layers; their sum is d.
    centre : bool, default False
        Take the mean of the training rows off before the scale, as SimpleShot does.

    Attributes
    ----------
    n_features_in_ : int
        d.
    mean_ : ndarray of shape (d,), dtype=float32, or None
    components_ : ndarray of shape (n_components, d), dtype=float32, or None
        Of the PCA, orthonormal rows.
    shift_, factor_ : ndarray of shape (width,), dtype=float32
        Transformed features are (before − shift) · factor; width is d, or n_components.
    """

    def __init__(
        self,
        scale: str = "none",
        *,
        signed_sqrt: bool = False,
        power: float = 1.0,
        n_components: int | None = None,
        part_widths: Sequence[int] | None = None,
        centre: bool = False,
    ):
        if scale not in SCALES:
            raise DataError(
                f"scale must be one of {', '.join(SCALES)}; found {scale!r}"
            )
        if n_components is not None and n_components < 1:
            raise DataError(f"PCA needs at least one component, found {n_components}")
        check_power(power, signed_sqrt)
        self.scale = scale
        self.signed_sqrt = signed_sqrt
        self.power = power
        self.n_components = n_components
        self.part_widths = tuple(int(w) for w in part_widths or ())
        self.centre = centre

    @property
    def is_rowwise(self) -> bool:
        """Whether each row is transformed by itself, so that nothing is fitted."""
        is_scaled_by_itself = self.scale in ("none", "l2") and not self.centre
        return self.n_components is None and is_scaled_by_itself

    def fit(self, X: Any) -> Self:
        """Learn from the training rows and return self.

        Parameters
        ----------
        X : ndarray, Tensor or RowSource of shape (n, d), floating

        Raises
        ------
        DataError
            If X has no rows, or fewer rows or features than components.
        ShapeError
            If the parts do not add up to d.
        """
        n, d = (int(m) for m in X.shape)
        if n == 0:
            raise DataError("a transform needs at least one training row, found none")
        if self.part_widths and sum(self.part_widths) != d:
            raise ShapeError(
                f"the parts are {list(self.part_widths)} wide, {sum(self.part_widths)} "
                f"in all, but the features are {d} wide"
            )
        self.n_features_in_ = d
        self.mean_: NDArray[np.float32] | None = None
        self.components_: NDArray[np.float32] | None = None
        if self.n_components is not None:
            self._fit_pca(X)
        width = d if self.n_components is None else self.n_components
        self.shift_ = np.zeros(width, np.float32)
        self.factor_ = np.ones(width, np.float32)
        if self.scale == "mean-norm":
            self._fit_mean_norm(X, n)
        elif self.scale == "standard":
            self._fit_standard(X, n)
        if self.centre:
            self.shift_ = self._mean(X, n).float().numpy()
        return self

    def _parts(self, width: int) -> Iterator[slice]:
        start = 0
        parts = self.part_widths if self.n_components is None else ()
        for part in parts or (width,):
            yield slice(start, start + part)
            start += part

    def _fit_mean_norm(self, X: Any, n: int) -> None:
        parts = list(self._parts(len(self.factor_)))
        totals = np.zeros(len(parts))
        for _, block in row_blocks(X):
            values = self._before_scale(block).double()
            totals += [float(values[:, part].norm(dim=1).sum()) for part in parts]
        for part, total in zip(parts, totals, strict=True):
            if total > 0:
                self.factor_[part] = MEAN_NORM * n / total

    def _mean(self, X: Any, n: int) -> Tensor:
        total = torch.zeros(len(self.factor_), dtype=torch.float64)
        for _, block in row_blocks(X):
            total += self._before_scale(block).double().sum(0).cpu()
        return total / n

    def _fit_standard(self, X: Any, n: int) -> None:
        mean = self._mean(X, n)
        square = torch.zeros_like(mean)
        for _, block in row_blocks(X):
            values = self._before_scale(block).double().cpu()
            square += (values - mean).square_().sum(0)
        deviation = (square / n).sqrt()
        constant = deviation <= 1e-7 * mean.abs()
        self.shift_ = mean.float().numpy()
        self.factor_ = torch.where(constant, 1.0, 1 / deviation).float().numpy()

    def _fit_pca(self, X: Any) -> None:
        """Take the leading eigenvectors of the smaller of XᵀX and XXᵀ, centred."""
        n, d = (int(m) for m in X.shape)
        k = int(self.n_components or 0)
        if k > min(n - 1, d):
            raise DataError(
                f"PCA with {k} components needs more than {k} training rows and at "
                f"least {k} features; found {n} rows x {d} features"
            )
        A = torch.cat([self._raised(block).cpu() for _, block in row_blocks(X)])
        mean = A.mean(0, dtype=torch.float64)
        A -= mean.to(A.dtype)
        # The smaller of the two has the same leading eigenvalues; float64, as squares
        # of float32 features would lose half the digits.
        if d <= n:
            covariance = sum(b.double().T @ b.double() for b in A.split(4096))
            V = torch.linalg.eigh(covariance)[1].flip(1)[:, :k].T
        else:
            gram = sum(b.double() @ b.double().T for b in A.split(8192, dim=1))
            U = torch.linalg.eigh(gram)[1].flip(1)[:, :k]
            V = U.T.to(A.dtype) @ A
            V = torch.linalg.qr(V.double().T)[0].T
        largest = V.gather(1, V.abs().argmax(1, keepdim=True))
        V = V * torch.where(largest < 0, -1.0, 1.0)  # a sign that does not depend on n
        self.mean_, self.components_ = mean.float().numpy(), V.float().numpy()

    def _raised(self, block: Tensor) -> Tensor:
        values = block.float()
        if self.signed_sqrt:
            return values.sign() * values.abs().sqrt()
        if self.power == 1:
            return values * 1
        return values.sign() * values.abs().pow(self.power)

    def _before_scale(self, block: Tensor) -> Tensor:
        values = self._raised(block)
        if self.components_ is None or self.mean_ is None:
            return values
        device = values.device
        values -= torch.as_tensor(self.mean_, device=device)
        return values @ torch.as_tensor(self.components_, device=device).T

    def of_block(self, block: Tensor) -> Tensor:
        """Return rows (m, width), float32, of features (m, d); `block` is kept."""
        values = self._before_scale(block)
        if self.shift_.any():
            values -= torch.as_tensor(self.shift_, device=values.device)
        if self.scale == "l2":
            for part in self._parts(values.shape[1]):
                norms = values[:, part].double().norm(dim=1, keepdim=True)
                values[:, part] /= torch.where(norms > 0, norms, 1.0).float()
            return values
        if self.scale == "none":
            return values
        return values.mul_(torch.as_tensor(self.factor_, device=values.device))

    def transform(self, X: Any) -> Any:
        """Return transformed features, of the kind of X.

        Parameters
        ----------
        X : ndarray, Tensor or RowSource of shape (n, d), floating

        Returns
        -------
        ndarray, Tensor or TransformedRows of shape (n, width), dtype=float32
            A source is transformed as it is read.

        Raises
        ------
        ShapeError
            If X is not as wide as the features fitted to.
        """
        if X.shape[1] != self.n_features_in_:
            raise ShapeError(
                f"the transform was fitted to {self.n_features_in_} features, found "
                f"{X.shape[1]}"
            )
        if isinstance(X, RowSource):
            return TransformedRows(X, self)
        device = X.device if isinstance(X, Tensor) else None
        out = torch.empty(len(X), len(self.factor_), device=device)
        for rows, block in row_blocks(X):
            out[rows] = self.of_block(block)
        return out if isinstance(X, Tensor) else out.numpy()

    def to_arrays(self) -> dict[str, Any]:
        """Return settings and learned arrays; `from_arrays` turns them back.

        Returns
        -------
        dict
            `shift` and `factor` of shape (width,), with a PCA `mean` (d,) and
            `components` (n_components, d), all float32; `part_widths` (n_layers,),
            int64; the rest are scalars.
        """
        learned = {
            "scale": self.scale,
            "signed_sqrt": self.signed_sqrt,
            "power": self.power,
            "part_widths": np.array(self.part_widths, np.int64),
            "shift": self.shift_,
            "factor": self.factor_,
            "n_features_in": self.n_features_in_,
        }
        if self.components_ is not None:
            learned |= {"mean": self.mean_, "components": self.components_}
        return learned

    @classmethod
    def from_arrays(cls, arrays: dict[str, Any]) -> Self:
        """Return the transform that `to_arrays` described.

        Parameters
        ----------
        arrays : dict
            Shapes and dtypes as `to_arrays` gives them.

        Raises
        ------
        DataError
            If a setting or an array is missing.
        """
        missing = sorted(_STORED - arrays.keys())
        if missing:
            raise DataError(
                f"the stored scaler lacks {', '.join(missing)}: the head file is "
                "damaged or of another version; train the head again"
            )
        components = arrays.get("components")
        scale = arrays["scale"]
        transform = cls(
            scale.decode() if isinstance(scale, bytes) else str(scale),
            signed_sqrt=bool(arrays["signed_sqrt"]),
            power=float(arrays.get("power", 1.0)),  # earlier heads have none
            n_components=None if components is None else len(components),
            part_widths=[int(w) for w in arrays["part_widths"]],
        )
        transform.components_ = components
        transform.mean_ = arrays.get("mean")
        transform.shift_, transform.factor_ = arrays["shift"], arrays["factor"]
        transform.n_features_in_ = int(arrays["n_features_in"])
        return transform


class TransformedRows:
    """Rows (n, width), float32, that pass through a fitted transform as they are read.

    Parameters
    ----------
    source : RowSource of shape (n, d)
    transform : FeatureTransform
        Fitted to features of that width.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, source: RowSource, transform: FeatureTransform):
        self._source, self._transform = source, transform
        self.shape = (int(source.shape[0]), len(transform.factor_))

    def blocks(self, n_rows: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield (rows, block (m, width)) in order, at most `n_rows` at a time."""
        for rows, block in self._source.blocks(n_rows):
            yield rows, self._transform.of_block(torch.as_tensor(block))

    def __getitem__(self, rows: Any) -> TransformedRows:
        """Return the source of some rows (m,); the one below has to allow it."""
        source: Any = self._source
        return TransformedRows(source[rows], self._transform)
