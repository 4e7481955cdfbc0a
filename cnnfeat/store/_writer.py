"""Writing a feature file so that nothing committed is lost, whatever happens.

Rows go into `<output>.part`, made whole at the start (see `skeleton`); its journal says
which rows are on the disk. `finish` renames it. A run that was killed, or met a full
disk, leaves the .part and its journal, and a writer with `resume=True` goes on from the
last commit: rows after it are written again, so that the finished file's datasets equal
those of a run that was never interrupted.
"""

import contextlib
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from cnnfeat.errors import CnnfeatWarning, OutputError, ShapeError
from cnnfeat.layer_spec import mark_non_finite
from cnnfeat.outputs import (
    check_folder,
    check_space,
    failure,
    publish,
    refuse_existing,
)
from cnnfeat.store._journal import (
    Journal,
    JournalState,
    check_same_job,
    journal_path,
    read_journal,
)
from cnnfeat.store._rows import (
    as_stored,
    check_layers,
    cut_reason,
    underflow_share,
)
from cnnfeat.store._skeleton import (
    Contents,
    create_skeleton,
    fsync_rows,
    mark_complete,
    open_for_rows,
)
from cnnfeat.store._unfinished import check_unfinished

# Of a batch's values that are not zero: more of them stored as zero is told.
_UNDERFLOW_TOLD = 0.01


class FeatureWriter:
    """Writes the rows of one feature file, in order.

    Parameters
    ----------
    path : Path
        The finished file's name.
    contents : Contents
        Everything but the rows.
    fingerprint : dict of str
        What must be the same for a run to be resumed, field by field, besides the
        images and the layers, which are always compared.
    overwrite : bool, default=False
        Replace a file at `path`, once this one is finished and not before, and
        start anew where a .part was left.
    resume : bool, default=False
        Go on from the last commit of a .part, or start where there is none.

    Attributes
    ----------
    rows_done : int
        Rows [0, rows_done) are written; after opening, those committed earlier.
    failures : dict of int to str
        The reason of each row so far that is not ok.
    digests : list of str
        Of each row so far; empty where not known.

    Raises
    ------
    OutputError
        If the output exists already, an unfinished one is there and neither flag is
        given, another process writes it, the folder is missing or read-only, or the
        disk has too little space. Nothing is left behind.
    ProvenanceError
        If the .part to resume comes from another job; names the first such field.
    """

    def __init__(
        self,
        path: str | Path,
        contents: Contents,
        *,
        fingerprint: Mapping[str, str],
        overwrite: bool = False,
        resume: bool = False,
    ) -> None:
        self.path = Path(path)
        self.contents = contents
        self.rows_done = 0
        self.failures: dict[int, str] = {}
        self.digests: list[str] = []
        self._committed = 0
        self._closed = False
        self._told_underflow = False
        self._overwrite = overwrite
        self._part = self.path.with_name(self.path.name + ".part")
        self._new = self.path.with_name(self.path.name + ".part.new")
        self._layers = {spec.name: spec for spec in contents.layers}
        self._file: h5py.File | None = None
        check_folder(self.path)
        self._refuse_unasked(overwrite, resume)
        journal = journal_path(self.path)
        had_journal = os.path.lexists(journal)
        self._journal = Journal(journal)
        try:
            job = {**fingerprint, **contents.fingerprint()}
            self._start(job, resume and not overwrite)
        except (OSError, RuntimeError) as error:
            self._give_up(remove=not self._committed)
            raise failure(self._part, error) from error
        except BaseException:
            self._give_up(remove=not had_journal)
            raise

    def _refuse_unasked(self, overwrite: bool, resume: bool) -> None:
        if overwrite:
            return
        state = read_journal(journal_path(self.path))
        left = os.path.lexists(self._part)
        # A run with --overwrite that was killed is resumed under the same permission.
        if not (resume and left and state is not None and state.overwrite):
            if not left and os.path.lexists(self.path):
                self._remove_finished_journal()
            refuse_existing(self.path)
        if resume or not left:
            return
        if state is None:
            raise OutputError(
                f"{self._part} is there without a usable journal, so no row of it is "
                "safe: give `overwrite` to start anew"
            )
        if state.rows_done:
            raise OutputError(
                f"{self._part} holds {state.rows_done} of {self.contents.n_images} "
                "rows of an earlier run: give `resume` to go on from there, or "
                "`overwrite` to start anew"
            )

    def _remove_finished_journal(self) -> None:
        """Sweep what a run leaves that is killed just after its file got its name."""
        path = journal_path(self.path)
        if path.exists():
            with contextlib.suppress(OutputError):  # another run has just begun
                Journal(path).close(remove=True)

    def _start(self, fingerprint: dict[str, str], resume: bool) -> None:
        if not self._overwrite and not resume:
            refuse_existing(self.path)  # another writer may just have finished
        state = read_journal(self._journal.path) if resume else None
        if state is not None and os.path.lexists(self._part):
            self._overwrite = state.overwrite
            if state.rows_done:
                self._resume(state, fingerprint)
                return
        self._check_space()
        stamps = self.contents.stamp_array()
        self._journal.start(fingerprint, self._overwrite, stamps)
        self._create()

    def _check_space(self) -> None:
        """Refuse a disk too small, less what an earlier .part already takes of it.

        Promised space that no row has filled yet counts as free on the disk.
        """
        is_there = os.path.lexists(self._part)
        taken = self._part.lstat().st_blocks * 512 if is_there else 0
        check_space(self.path.parent, self.contents.n_bytes() - taken)

    def _create(self) -> None:
        """Make the .part: under a third name first, so that it is never half made."""
        create_skeleton(self._new, self.contents)
        publish(self._new, self._part)
        self._file = open_for_rows(self._part)

    def _resume(self, state: JournalState, fingerprint: dict[str, str]) -> None:
        check_same_job(self._part, state, fingerprint, self.contents)
        self._committed = state.rows_done
        self._journal.resume(state)
        self._check_space()
        self._file = open_for_rows(self._part)
        check_unfinished(self._file, self._part, self.contents)
        self.rows_done = state.rows_done
        ok = self._file["/images/ok"][: self.rows_done]
        for row in np.flatnonzero(~ok).tolist():
            reason = self._file["/images/error"][row]
            self.failures[row] = reason.decode("utf-8", "replace")
        digests = self._file["/images/digest"].asstr("utf-8", "replace")
        self.digests = digests[: self.rows_done].tolist()

    def write(
        self,
        start: int,
        features: Mapping[str, np.ndarray],
        ok: np.ndarray,
        errors: Sequence[str],
        digests: Sequence[str] = (),
    ) -> None:
        """Write rows [start, start + m).

        A row with a NaN or an infinity in any layer becomes not ok, with the reason
        "non-finite activation in LAYER". Rows that are not ok are stored as zeros.

        Parameters
        ----------
        start : int
            Must equal `rows_done`: rows are written in order.
        features : mapping of str to ndarray of shape (m, *shape), floating
            One array for each layer; converted to the layer's dtype.
        ok : ndarray of shape (m,), dtype=bool
            False where the image could not be read.
        errors : sequence of m str
            Why a row is not ok; empty where it is. Cut to 200 bytes of UTF-8.
        digests : sequence of m str, optional
            Of the images' bytes; empty where not known.

        Raises
        ------
        ShapeError
            If rows are out of order, layers are missing, or an array does not fit.
        DataError
            If a value is too large for float16; names the layer and the image.
        OutputError
            If the disk is full or gone; rows committed so far stay for `resume`.

        Warns
        -----
        CnnfeatWarning
            Once, if float16 turns many values into zero.
        """
        ok, errors = np.array(ok, dtype=bool), list(errors)
        digests = list(digests) or [""] * len(ok)
        stop = self._check_rows(start, ok, errors)
        check_layers(self._layers, features, len(ok))
        if not len(ok):
            return
        for name in self._layers:
            mark_non_finite(name, features[name], ok, errors)
        paths = self.contents.table.paths[start:stop]
        stored = {
            name: as_stored(spec, features[name], ok, paths)
            for name, spec in self._layers.items()
        }
        self._warn_of_underflow(features, stored, ok)
        assert self._file is not None
        try:
            for name, rows in stored.items():
                self._file[f"/features/{name}"][start:stop] = rows
            self._file["/images/ok"][start:stop] = ok
            self._file["/images/error"][start:stop] = [
                cut_reason(text) for text in errors
            ]
            self._file["/images/digest"][start:stop] = digests
        except (OSError, RuntimeError) as error:
            raise self._broken(error) from error
        self.failures.update(
            {start + int(k): errors[k] for k in np.flatnonzero(~ok).tolist()}
        )
        self.digests += digests
        self.rows_done = stop

    def _warn_of_underflow(
        self,
        features: Mapping[str, np.ndarray],
        stored: Mapping[str, np.ndarray],
        ok: np.ndarray,
    ) -> None:
        for name, rows in stored.items():
            if self._told_underflow or rows.dtype != np.float16:
                continue
            share = underflow_share(features[name], rows, ok)
            if share > _UNDERFLOW_TOLD:
                self._told_underflow = True
                warnings.warn(
                    f"layer {name!r}: {100 * share:.3g} % of a batch's values that are "
                    "not zero are too small for float16 and are stored as zero; give "
                    "`dtype=float32`",
                    CnnfeatWarning,
                    stacklevel=3,
                )

    def _check_rows(self, start: int, ok: np.ndarray, errors: Sequence[str]) -> int:
        stop = start + len(ok)
        if self._file is None:
            raise ShapeError(f"{self.path}: the writer is closed")
        if start != self.rows_done or stop > self.contents.n_images:
            raise ShapeError(
                f"rows {start} to {stop} do not follow row {self.rows_done} of "
                f"{self.contents.n_images}"
            )
        if ok.ndim != 1 or len(errors) != len(ok):
            raise ShapeError(f"{len(errors)} errors for ok of shape {ok.shape}")
        return stop

    def commit(self) -> None:
        """Make the rows written so far safe: on the disk, then in the journal.

        Raises
        ------
        OutputError
            If the disk is full or gone.
        """
        if self._file is None:
            raise ShapeError(f"{self.path}: the writer is closed")
        if self.rows_done == self._committed:
            return
        try:
            fsync_rows(self._file)
            self._journal.commit(self.rows_done)
        except (OSError, RuntimeError) as error:
            raise self._broken(error) from error
        self._committed = self.rows_done

    def finish(self, tuned_on: Sequence[int] | np.ndarray = ()) -> None:
        """Commit, set `complete`, and rename the .part to the output.

        Parameters
        ----------
        tuned_on : sequence of int, optional
            Rows of images that the network was fine-tuned on, if `contents.is_tuned`.

        Raises
        ------
        ShapeError
            If rows are missing.
        OutputError
            If the disk is full or gone, or the output has appeared in the meantime.
        """
        if self.rows_done != self.contents.n_images:
            raise ShapeError(
                f"{self.rows_done} of {self.contents.n_images} rows written"
            )
        self.commit()
        if not self._overwrite:
            refuse_existing(self.path)
        assert self._file is not None
        try:
            if self.contents.is_tuned:
                rows = np.arange(self.contents.n_images)
                self._file["/images/tuned_on"][:] = np.isin(rows, tuned_on)
            mark_complete(self._file)
            self._file.close()
            self._file = None
            publish(self._part, self.path)
        except (OSError, RuntimeError) as error:
            raise self._broken(error) from error
        self._journal.close(remove=True)
        self._closed = True

    def discard(self) -> None:
        """Stop, and keep no row."""
        self._give_up(remove=True)

    def close(self) -> None:
        """Stop; what is committed stays for `resume`, and nothing where nothing is."""
        if not self._closed:
            self._give_up(remove=not self._committed)

    def _give_up(self, remove: bool) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self._file.close()
            self._file = None
        if remove:
            for leftover in (self._part, self._new):
                with contextlib.suppress(OSError):
                    leftover.unlink(missing_ok=True)
        self._journal.close(remove=remove)
        self._closed = True

    def _broken(self, error: BaseException) -> OutputError:
        text = str(failure(self._part, error))
        if self._committed:
            text += f"; {self._committed} rows are kept for `resume`"
        return OutputError(text)

    def __enter__(self) -> "FeatureWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
