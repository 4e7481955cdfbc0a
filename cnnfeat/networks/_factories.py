"""Networks of the user's own, by import path: `package.module:factory`.

The path comes from the command line or from Python, never from a file: a head or a
feature file that names one does not run it.
"""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from torch import nn

from cnnfeat.errors import NetworkError

_PATH = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*")


def is_import_path(name: str) -> bool:
    """Tell `package.module:factory` from the name of a network."""
    return _PATH.fullmatch(name) is not None


def build_own(path: str, n_classes: int | None) -> nn.Module:
    """Return what the callable at an import path returns.

    Parameters
    ----------
    path : str
        `package.module:factory`, found as `python -m` finds modules: the working folder
        comes first.
    n_classes : int, optional
        Handed on as `num_classes`, which the callable then has to take.

    Raises
    ------
    NetworkError
        If it cannot be imported, fails, or returns no `torch.nn.Module`.
    """
    factory = _imported(path)
    options: dict[str, Any] = {}
    if n_classes is not None:
        if "num_classes" not in _parameters(factory):
            raise NetworkError(
                f"network {path!r}: the weights have {n_classes} classes, and the "
                "factory takes no argument num_classes"
            )
        options["num_classes"] = n_classes
    try:
        module = factory(**options)
    except Exception as error:  # code of the user's own may raise anything
        raise _failed(path, "the factory failed", error) from error
    if not isinstance(module, nn.Module):
        raise NetworkError(
            f"network {path!r}: expected a factory that returns a torch.nn.Module, "
            f"found {type(module).__name__}"
        )
    return module


def _imported(path: str) -> Callable[..., Any]:
    name, _, attributes = path.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(name)
    except Exception as error:  # as above
        raise _failed(path, f"{name} cannot be imported", error) from error
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise NetworkError(f"network {path!r}: {name} has no {attribute!r}")
        found = getattr(found, attribute)
    if not callable(found):
        raise NetworkError(
            f"network {path!r}: expected a factory, found {type(found).__name__}"
        )
    factory: Callable[..., Any] = found
    return factory


def _parameters(factory: Callable[..., Any]) -> set[str]:
    try:
        return set(inspect.signature(factory).parameters)
    except (TypeError, ValueError):  # a builtin has none to show
        return set()


def _failed(path: str, what: str, error: Exception) -> NetworkError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
    return NetworkError(f"network {path!r}: {what} ({reason})")
