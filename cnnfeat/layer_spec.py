"""What a stored layer is: its name, where it was tapped, and its shape."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnfeat.errors import LayerError

DTYPES = ("float32", "float16")


@dataclass(frozen=True)
class LayerSpec:
    """One dataset under `/features`.

    Parameters
    ----------
    name : str
        Name of the dataset: the layer as the user asked for it (`fc7`, `features.3`).
    layer : str
        Where it was tapped, as a dotted module name (`classifier.5`).
    shape : tuple of int
        Shape of one image's features, after pooling.
    pool : str
        `none`, `avg`, `max` or `pyramid`; of tokens also `cls`, `cls+mean`, `patches`
        or `registers`.
    before_nonlinearity : bool
        True where the tap stands before the non-linearity (`fc7:pre`).
    dtype : str
        `float32` or `float16`.
    token_grid : tuple of int or None
        (h, w) of the patches that tokens stand for; None where the layer has no tokens,
        nothing is known of them, or an earlier version wrote the file.
    n_prefix_tokens : int or None
        Tokens before the patches, likewise. Averages leave them out.

    Raises
    ------
    LayerError
        If the name cannot name a dataset, the shape is empty, or the dtype unknown.
    """

    name: str
    layer: str
    shape: tuple[int, ...]
    pool: str = "none"
    before_nonlinearity: bool = False
    dtype: str = "float32"
    token_grid: tuple[int, int] | None = None
    n_prefix_tokens: int | None = None

    def __post_init__(self) -> None:
        # HDF5 reads "/" as a path and "." as this group.
        if not self.name or "/" in self.name or self.name.strip(".") == "":
            raise LayerError(f"{self.name!r} cannot name a stored layer")
        if not self.shape or min(self.shape) < 1:
            raise LayerError(f"layer {self.name!r} has nothing to store: {self.shape}")
        if self.dtype not in DTYPES:
            raise LayerError(
                f"layer {self.name!r}: dtype {self.dtype!r} is not one of "
                f"{', '.join(DTYPES)}"
            )

    @property
    def n_features(self) -> int:
        """Length of one image's features, flattened in C order."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def row_bytes(self) -> int:
        """Bytes that one image's features take."""
        return self.n_features * np.dtype(self.dtype).itemsize

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict that JSON can hold."""
        return {
            "name": self.name,
            "layer": self.layer,
            "shape": list(self.shape),
            "pool": self.pool,
            "before_nonlinearity": self.before_nonlinearity,
            "dtype": self.dtype,
            **(
                {}
                if self.token_grid is None
                else {
                    "token_grid": list(self.token_grid),
                    "n_prefix_tokens": self.n_prefix_tokens,
                }
            ),
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "LayerSpec":
        """Return the spec that `to_dict` wrote down."""
        grid = fields.get("token_grid")
        return cls(
            **{
                **fields,
                "shape": tuple(fields["shape"]),
                "token_grid": None if grid is None else tuple(grid),
            }
        )


def mark_non_finite(
    name: str, rows: np.ndarray, ok: np.ndarray, errors: list[str]
) -> None:
    """Mark the rows of a layer that hold a NaN or an infinity as failed, in place.

    Parameters
    ----------
    name : str
        The layer, for the reason.
    rows : ndarray of shape (m, ...), floating
    ok : ndarray of shape (m,), dtype=bool
        Set to False.
    errors : list of m str
        Set to the reason.
    """
    finite = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
    for row in np.flatnonzero(ok & ~finite).tolist():
        ok[row] = False
        errors[row] = f"non-finite activation in {name}"
