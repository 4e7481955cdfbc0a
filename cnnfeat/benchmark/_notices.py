"""What was warned of, kept for the report and still told to the caller."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from cnnfeat.errors import CnnfeatWarning, ConvergenceWarning


@contextmanager
def keep_warnings(told: list[str]) -> Iterator[None]:
    """Append our warnings' texts to `told`; all warnings go on when the block ends."""
    caught: list[warnings.WarningMessage] = []
    try:
        with _catching(caught):
            yield
    finally:
        for one in caught:
            if issubclass(one.category, CnnfeatWarning):
                told.append(str(one.message))
            _pass_on(one)


@contextmanager
def convergence_of(name: str) -> Iterator[None]:
    """Turn the convergence warnings of many fits into one that names their row."""
    caught: list[warnings.WarningMessage] = []
    try:
        with _catching(caught):
            yield
    finally:
        stopped = [
            one for one in caught if issubclass(one.category, ConvergenceWarning)
        ]
        for one in caught:
            if one not in stopped:
                _pass_on(one)
    if stopped:
        warnings.warn(
            f"{name}: {len(stopped)} of its fits, those that only score a C among "
            f"them, did not converge; the first: {stopped[0].message}",
            ConvergenceWarning,
            stacklevel=3,
        )


@contextmanager
def _catching(caught: list[warnings.WarningMessage]) -> Iterator[None]:
    """Append every warning of the block to `caught`, ours each time they are given."""
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always", CnnfeatWarning)
        try:
            yield
        finally:
            caught.extend(record)


def _pass_on(one: warnings.WarningMessage) -> None:
    warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
