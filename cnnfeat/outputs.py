"""Where outputs may go, and how they appear: whole, or not at all."""

import contextlib
import errno
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from cnnfeat.errors import OptionError, OutputError
from cnnfeat.suffixes import suffix_of

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no flock: no protection there
    fcntl = None  # type: ignore[assignment]

MIB = 1024 * 1024


def check_folder(path: Path) -> None:
    """Raise OutputError unless a file could be written, or replaced, at `path`.

    Raises
    ------
    OutputError
        If the folder is missing, is none or is closed to us; if the name is too long;
        or what is at `path` is no regular file: a folder, a symbolic link, a device or
        a pipe.
    """
    try:
        # Names beside the output are longer than its own.
        os.lstat(_temporary(path.with_name(f"{path.name}.part")))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        raise failure(path, error) from error
    if os.path.isdir(path):
        raise OutputError(f"{path} is a folder: give the name of a file to write")
    if not os.path.isdir(path.parent):
        raise OutputError(f"{path}: there is no folder {path.parent}; create it first")
    if os.path.exists(path) and not os.path.isfile(path):
        raise OutputError(
            f"{path} is a device or a pipe: give the name of a file to write"
        )
    if os.path.islink(path):
        raise OutputError(
            f"{path} is a symbolic link to {os.path.realpath(path)}: give that path, "
            "or another"
        )


def check_suffix(path: str | Path, suffixes: Collection[str]) -> None:
    """Raise OptionError unless the name of an output ends as what is written there.

    Raises
    ------
    OptionError
        If it ends in none of `suffixes`, such as `.csv`.
    """
    if suffix_of(path) not in suffixes:
        listed = " or ".join(sorted(suffixes))
        raise OptionError(f"{path}: expected a name that ends in {listed}")


def check_output(path: str | Path, *, overwrite: bool = False) -> None:
    """Raise OutputError unless an output may be written at `path`.

    `claimed_outputs` calls it before any work, `atomic_output` again before it writes.

    Raises
    ------
    OutputError
        As `check_folder`, and if `path` exists and `overwrite` is False.
    """
    check_folder(Path(path))
    if not overwrite:
        refuse_existing(Path(path))


def check_outputs(
    outputs: Iterable[str | Path],
    inputs: Iterable[str | Path],
    *,
    overwrite: bool = False,
) -> None:
    """Raise OutputError unless a command may write all of its outputs.

    Parameters
    ----------
    outputs : iterable of path
        All that the command writes.
    inputs : iterable of path
        The files that it reads; names that are no file do no harm.
    overwrite : bool, default=False
        Files that exist may be replaced.

    Raises
    ------
    OutputError
        As `refuse_inputs`, and as `check_output` for each; if two outputs are one.
    """
    paths = [Path(path) for path in outputs]
    # First, so that --overwrite is not advised for a file that it would destroy.
    refuse_inputs(paths, inputs)
    files: dict[Any, Path] = {}
    for path in paths:
        other = files.setdefault(_inode(path) or os.path.realpath(path), path)
        if other is not path:
            raise OutputError(
                f"{other} and {path} are one file: give each output its own"
            )
    for path in paths:
        check_output(path, overwrite=overwrite)


def refuse_inputs(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """Raise OutputError if an output is one of the files that the command reads.

    Files are compared, not names: links and other spellings are seen through.
    """
    written = {_inode(path): path for path in outputs}
    written.pop(None, None)  # what does not exist yet is no input
    for path in inputs if written else ():
        output = written.get(_inode(path))
        if output is not None:
            raise OutputError(f"{output} is read by this command: give another output")


def _inode(path: str | Path) -> tuple[int, int] | None:
    """Return device and inode of what is at `path`; None where there is nothing."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def claimed_outputs(
    outputs: Iterable[str | Path],
    inputs: Iterable[str | Path],
    *,
    overwrite: bool = False,
) -> Iterator[None]:
    """Let no other process write some outputs for as long as the block runs.

    What writers that were killed have left of them is removed first.

    Raises
    ------
    OutputError
        As `check_outputs`; if another process is writing one of them.
    """
    paths = [Path(path) for path in outputs]
    check_outputs(paths, inputs, overwrite=overwrite)
    with contextlib.ExitStack() as stack:
        for path in paths:
            stack.enter_context(locked_output(path))
        for path in paths:
            check_output(path, overwrite=overwrite)  # another may just have finished
            remove_leftovers(path)
        yield


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers have left of an output that this process has locked.

    These are `atomic_output`'s temporary files, and folders named alike.
    """
    pattern = re.compile(rf"\.{re.escape(path.name)}(\.part)?\.[0-9a-f]{{16}}")
    with contextlib.suppress(OSError):
        for name in filter(pattern.fullmatch, os.listdir(path.parent)):
            left = path.with_name(name)
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """Return a name beside `path` that nobody else uses."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def refuse_existing(path: Path) -> None:
    """Raise OutputError if there is a file at `path` already."""
    if os.path.lexists(path):
        raise OutputError(f"{path} exists already: give `overwrite` to replace it")


def write_output(path: str | Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write `data` at `path`, whole or not at all.

    Raises
    ------
    OutputError
        As `atomic_output`.
    """
    with atomic_output(Path(path), overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def json_safe(value: Any) -> Any:
    """Return `value` with NaN and infinities as None: JSON has no word for them.

    Mappings become dicts with keys of text, tuples and arrays lists, NumPy's numbers
    Python's.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    return value


def check_space(folder: Path, n_bytes: int) -> None:
    """Raise OutputError if `folder` has not `n_bytes` free, naming both in MiB."""
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise OutputError(
            f"{folder}: needs about {n_bytes / MIB:,.0f} MiB and has "
            f"{free / MIB:,.0f} MiB free; try `dtype=float16`, `pool=avg`, fewer "
            "layers, or another folder"
        )


def prove_space(path: Path, n_bytes: int) -> None:
    """Write `n_bytes` of zeros at `path`, sync them, and take them away again.

    For what HDF5 must then write without failing: a full disk met while it writes
    metadata crashes the process when the library closes.

    Raises
    ------
    OSError
        If they do not fit; nothing is left.
    """
    file = open_own(path, "xb")
    try:
        with file:
            for start in range(0, n_bytes, MIB):
                file.write(bytes(min(MIB, n_bytes - start)))
            file.flush()
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)


def open_own(path: Path, mode: str, *, buffering: int = -1) -> IO[Any]:
    """Open a file of ours that stands beside an output, and nothing in its place.

    A symbolic link, which whoever made the folder may have put there, is not followed,
    and a pipe or a device is not waited for: OSError. Else as `open`, in bytes.
    """
    return open(path, mode, buffering=buffering, opener=_open_regular)


def _open_regular(path: str, flags: int) -> int:
    """Return the descriptor of a regular file, for `open`."""
    # Windows has none of these, and no pipes among its files.
    for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):
        flags |= getattr(os, flag, 0)
    name = os.path.basename(path)
    # Looked at first for the message; the flags hold where it changes in between.
    if os.path.islink(path):
        reason = f"{name} is a symbolic link, which is not followed: remove it"
        raise OSError(errno.ELOOP, reason, path)
    if os.path.isfile(path) or not os.path.exists(path):
        descriptor = os.open(path, flags, 0o666)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    raise OSError(errno.EINVAL, f"{name} is not a regular file: remove it")


def fsync_path(path: Path) -> None:
    """Force what is written at `path` (a file or a folder) onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        # Some network drives cannot sync a folder; a file's error must be seen.
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def publish(part: Path, output: Path) -> None:
    """Rename a finished, synced `part` to `output` and make the renaming last."""
    os.replace(part, output)
    fsync_path(output.parent)


def lock_file(file: IO[Any], path: Path, name: str) -> None:
    """Lock an open file, until it is closed, for the writer of the output `name`.

    Parameters
    ----------
    file : file
        Open, at `path`.

    Raises
    ------
    OutputError
        If another process holds the lock, or took the file away in between.
    """
    if fcntl is None:  # pragma: no cover
        return
    busy = OutputError(
        f"another process is writing {name} in this folder: wait for it, or give "
        "another output"
    )
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise busy from error
    except OSError:
        return  # some network drives have no locks
    # The other writer may have finished, and removed this file, in between.
    if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
        raise busy


@contextlib.contextmanager
def locked_output(path: Path) -> Iterator[None]:
    """Let no other process write `path` while the block runs, by a file beside it.

    Raises
    ------
    OutputError
        If another process does, or the folder cannot be written to.
    """
    lock = path.with_name(f"{path.name}.lock")
    try:
        file = open_own(lock, "ab")
    except OSError as error:
        raise failure(path, error) from error
    with file:
        lock_file(file, lock, path.name)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                lock.unlink()


def failure(path: Path, error: BaseException) -> OutputError:
    """Return the one-line error for writing at `path` having failed with `error`."""
    return OutputError(f"{path}: cannot be written: {system_reason(error)}")


def system_reason(error: BaseException) -> str:
    """Return the operating system's words, or else the first line of the error's."""
    # torch makes an error of its own where a write has failed.
    origin = error.__context__ if isinstance(error.__context__, OSError) else error
    reason = getattr(origin, "strerror", None) or str(origin)
    # h5py buries the system's reason in HDF5's stack: "... error message = '...'".
    _, found, rest = reason.partition("error message = '")
    if found:
        return rest.split("'", 1)[0]
    return next(iter(reason.splitlines()), type(error).__name__)


@contextlib.contextmanager
def atomic_output(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it there when all went well.

    Raises
    ------
    OutputError
        If `path` exists and `overwrite` is False, or cannot be written.
    """
    check_output(path, overwrite=overwrite)
    # Named before it is made: a signal in between finds it in the `finally`.
    temporary = _temporary(path)
    try:
        temporary.touch(exist_ok=False)
        rights = temporary.stat().st_mode
        yield temporary
        temporary.chmod(rights)  # some writers make the file anew, for its owner alone
        fsync_path(temporary)
        publish(temporary, path)
    except (OSError, RuntimeError) as error:
        raise failure(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
