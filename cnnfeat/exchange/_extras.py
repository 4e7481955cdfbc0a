"""Packages that not everybody has."""

from importlib import import_module
from typing import Any

from cnnfeat.errors import ExtraError


def require(module: str, extra: str) -> Any:
    """Return an optional module.

    Parameters
    ----------
    module : str
        Its dotted name.
    extra : str
        The extra of cnnfeat that installs it.

    Raises
    ------
    ExtraError
        If it is not installed, or cannot be read.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ExtraError(
            f"{package} is not installed, or not whole: pip install 'cnnfeat[{extra}]'"
        ) from error
