"""Reading a finished feature file, whole layers or block by block."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from cnnfeat.errors import DataError, LayerError, ProvenanceError, ShapeError
from cnnfeat.image_table import ImageTable
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.outputs import MIB
from cnnfeat.readback import Record, Text
from cnnfeat.store._columns import read_columns
from cnnfeat.store._layers import no_layer, read_layers, resolve_layer
from cnnfeat.store._opening import damage, open_format
from cnnfeat.store._parts import checked_parts
from cnnfeat.store._schema import PROVENANCE, TEXT, Array, Schema
from cnnfeat.store._skeleton import FEATURES_FORMAT
from cnnfeat.value_range import FULL

# A gap between two wanted rows that is shorter than this is read and thrown away.
_GAP_BYTES = MIB // 16
_RUN_BYTES = 8 * MIB

# Everything but the layers, which name themselves: see `read_layers`.
SCHEMA = Schema(
    attributes={
        "/": Record({"command": Text(), "created_by": Text(), "root": Text()}),
        "/provenance": PROVENANCE,
    },
    arrays={
        "/classes": Array(TEXT, ("n_classes",), unique=True),
        "/images/path": Array(TEXT, ("n_images",)),
        "/images/label": Array("iu", ("n_images",), lowest=-1, below="n_classes"),
        "/images/ok": Array("biu", ("n_images",)),
        "/images/error": Array(TEXT, ("n_images",)),
        "/images/digest": Array(TEXT, ("n_images",), optional=True),
        "/images/tuned_on": Array("biu", ("n_images",), optional=True),
    },
)


class FeatureFile:
    """A finished feature file; a context manager, made by `open_features`.

    Parameters
    ----------
    path : Path
    joined : h5py.File, optional
        Virtual datasets of the shards in the folder `path`; by default the file there.

    Attributes
    ----------
    path : Path
    table : ImageTable
        One image a row; where it is not `ok` it could not be read, and its features
        are zeros. A caller may give it other labels and groups.
    stored_table : ImageTable
        The table as it is in the file.
    errors : tuple of str
        Why not; empty where ok.
    layers : dict of str to LayerSpec
        In the order in which they were asked for.
    provenance : dict of str
    command, created_by : str
    """

    def __init__(self, path: Path, joined: h5py.File | None = None) -> None:
        self.path = path
        self._file: h5py.File = joined or open_format(path, FEATURES_FORMAT)
        try:
            with damage(path):
                folder = path.parent if joined is None else path
                virtual = checked_parts(self._file, folder)
                self._read_tables(virtual)
        except BaseException:
            self._file.close()
            raise

    def _read_tables(self, virtual: frozenset[str]) -> None:
        found = SCHEMA.read(self._file, virtual)
        told = found["/"]
        self.command, self.created_by = told["command"], told["created_by"]
        self.errors: tuple[str, ...] = found["/images/error"]
        self.provenance: dict[str, str] = found["/provenance"]
        self.layers = read_layers(self._file, len(found["/images/path"]))
        self.table = ImageTable(
            root=told["root"],
            paths=found["/images/path"],
            labels=found["/images/label"],
            class_names=found["/classes"],
            ok=found["/images/ok"],
            # Files of earlier versions have the one range that there was.
            value_range=self.provenance.get("range", FULL),
            columns=read_columns(self._file, len(found["/images/path"])),
        )
        if "/images/digest" in found:
            self.table = self.table.with_digests(found["/images/digest"])
        if "/images/tuned_on" in found:
            tuned_on = np.flatnonzero(found["/images/tuned_on"])
            self.table = self.table.with_tuned_on(tuned_on)
        self.stored_table = self.table

    @property
    def n_images(self) -> int:
        """Number of rows."""
        return len(self.table)

    @property
    def paths(self) -> tuple[str, ...]:
        """The table's paths."""
        return self.table.paths

    @property
    def labels(self) -> np.ndarray:
        """The table's labels: int32 (n_images,), -1 where there is none."""
        return self.table.labels

    @property
    def class_names(self) -> tuple[str, ...]:
        """The table's class names."""
        return self.table.class_names

    @property
    def ok(self) -> np.ndarray:
        """The table's `ok`: bool (n_images,), False where there are no features."""
        return self.table.ok

    def resolve(self, layer: str | None) -> tuple[str, ...]:
        """Return the datasets that a user's `layer` stands for, for `read`.

        Parameters
        ----------
        layer : str or None
            A dataset's name, the module it was tapped at, or several joined by "+"
            (concatenated in that order); None for the only one.

        Raises
        ------
        LayerError
            If there is none of that name (the nearest are offered), or several.
        """
        try:
            return resolve_layer(self.layers, layer)
        except LayerError as error:
            raise LayerError(f"{self.path} {error}") from error

    def n_features(self, layers: str | Sequence[str]) -> int:
        """Return the length of one row of `read(layers)`."""
        return sum(spec.n_features for spec in self._specs(layers))

    def told(self, field: str) -> str:
        """Return an entry of the provenance that the caller cannot do without.

        Raises
        ------
        ProvenanceError
            If the file does not record it.
        """
        if field not in self.provenance:
            raise ProvenanceError(
                f"{self.path} does not record the {field} of its features: extract "
                "them again"
            )
        return self.provenance[field]

    def _specs(self, layers: str | Sequence[str]) -> list[LayerSpec]:
        names = [layers] if isinstance(layers, str) else layers
        for name in names:
            if name not in self.layers:
                raise LayerError(f"{self.path} {no_layer(self.layers, name)}")
        return [self.layers[name] for name in names]

    def read(
        self, layers: str | Sequence[str], rows: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the features of some rows, in the order of `rows`.

        Parameters
        ----------
        layers : str or sequence of str
            A dataset's name, or several, whose features are joined in that order.
        rows : ndarray of shape (m,), dtype=int, optional
            Any order, repeats allowed; all rows by default.

        Returns
        -------
        ndarray of shape (m, n_features), dtype=float32
            Each image's features flattened in C order.

        Raises
        ------
        LayerError
            If there is no such layer.
        ShapeError
            If a row is outside the file.
        StoreError
            If the file is damaged.
        """
        specs = self._specs(layers)
        rows = self._check_rows(rows)
        X = np.empty((len(rows), sum(spec.n_features for spec in specs)), np.float32)
        ordered, where = np.unique(rows, return_inverse=True)
        as_asked = len(ordered) == len(rows) and bool(np.all(ordered == rows))
        column = 0
        for spec in specs:
            columns = X[:, column : column + spec.n_features]
            column += columns.shape[1]
            for start, block in self._runs(spec, ordered):
                if as_asked:
                    columns[start : start + len(block)] = block
                else:
                    inside = (where >= start) & (where < start + len(block))
                    columns[inside] = block[where[inside] - start]
        return X

    def stored_rows(
        self, rows: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, list[str], tuple[str, ...]]:
        """Return rows as a `FeatureWriter` takes them.

        Parameters
        ----------
        rows : ndarray of shape (m,), dtype=int64

        Returns
        -------
        features : dict of str to ndarray of shape (m, *shape), dtype=float32
        ok : ndarray of shape (m,), dtype=bool
        errors : list of m str
        digests : tuple of m str
        """
        features = {
            name: self.read(name, rows).reshape(len(rows), *spec.shape)
            for name, spec in self.layers.items()
        }
        errors = [self.errors[row] for row in rows]
        table = self.stored_table
        return features, table.ok[rows], errors, table.digests(rows)

    def refuse_non_finite(self, X: np.ndarray, rows: np.ndarray) -> None:
        """Raise DataError if a row of X, read as `rows`, holds NaN or infinity.

        `cnnfeat extract` never writes such rows as ok; other programs may.

        Raises
        ------
        DataError
            Names the first image.
        """
        finite = np.isfinite(X).all(axis=1)
        if not finite.all():
            row = int(np.asarray(rows)[np.flatnonzero(~finite)[0]])
            raise DataError(
                f"{self.path}: the features of {self.paths[row]} (row {row}) are not "
                f"finite, and {int((~finite).sum())} rows are so: extract them again"
            )

    def blocks(
        self, layers: str | Sequence[str], rows: np.ndarray | None, n_rows: int
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield `read(layers, rows)` in blocks of at most `n_rows` rows.

        Yields
        ------
        slice
            Where the block stands in `rows`.
        ndarray of shape (m, n_features), dtype=float32
        """
        rows = self._check_rows(rows)
        for start in range(0, len(rows), n_rows):
            part = slice(start, min(start + n_rows, len(rows)))
            yield part, self.read(layers, rows[part])

    def _check_rows(self, rows: np.ndarray | None) -> np.ndarray:
        if rows is None:
            return np.arange(self.n_images)
        rows = np.asarray(rows)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise ShapeError(f"rows must be integers in one dimension, not {rows!r}")
        if rows.size and (rows.min() < 0 or rows.max() >= self.n_images):
            raise ShapeError(
                f"rows go from {rows.min()} to {rows.max()}; "
                f"{self.path} has {self.n_images}"
            )
        return rows.astype(np.int64)

    def _runs(
        self, spec: LayerSpec, ordered: np.ndarray
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the sorted rows in contiguous reads: position in `ordered`, rows."""
        dataset = self._file[f"/features/{spec.name}"]
        longest = max(1, _RUN_BYTES // spec.row_bytes)
        gaps = np.flatnonzero(np.diff(ordered) > 1 + _GAP_BYTES // spec.row_bytes) + 1
        for run in np.split(np.arange(len(ordered)), gaps):
            while len(run):
                wanted = ordered[run]
                n = int(np.searchsorted(wanted, wanted[0] + longest))
                low, high = int(wanted[0]), int(wanted[n - 1]) + 1
                with damage(self.path):
                    block = dataset[low:high].reshape(high - low, -1)
                if n != high - low:
                    block = block[wanted[:n] - low]
                yield int(run[0]), block
                run = run[n:]

    def __repr__(self) -> str:
        layers = ", ".join(
            f"{name} {'×'.join(map(str, spec.shape))}"
            for name, spec in self.layers.items()
        )
        return (
            f"FeatureFile({str(self.path)!r}: {self.n_images:,} images, "
            f"{len(self.class_names):,} classes, {layers})"
        )

    def close(self) -> None:
        """Close the file; what was read from it stays."""
        self._file.close()

    def __enter__(self) -> "FeatureFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
