"""The list of networks, from a shipped table: nothing is built and no torch is read.

`docs/generate_tables.py` writes `known.json`, a line a network; a test compares it with
the libraries. Which weights are on this machine is looked up.
"""

import difflib
import fnmatch
import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnfeat.networks import _caches as caches

TABLE = Path(__file__).with_name("known.json")
TIMM_PREFIX = "timm/"
EMBEDDED = "efficientnet_lite0"


@dataclass(frozen=True)
class NetworkEntry:
    """One line of the list of networks.

    `n_parameters` and `top_1` (a fraction) are None where they are not known; `offline`
    says that the default weights are at hand, at `weights_path`.
    """

    name: str
    source: str
    n_parameters: int | None
    top_1: float | None
    offline: bool
    weights_path: str | None


@dataclass(frozen=True)
class KnownNetwork:
    """A network of the table; its weights are a hub's repository, a file's URL or both.

    The embedded network has neither: its weights are a package.
    """

    name: str
    n_parameters: int | None
    top_1: float | None
    repository: str | None = None
    url: str | None = None

    @property
    def source(self) -> str:
        """The library that has it."""
        if self.name.startswith(TIMM_PREFIX):
            return "timm"
        return "package" if self.name == EMBEDDED else "torchvision"

    def cached(self) -> Path | None:
        """Return the default weights' file, where it is on this machine."""
        if self.name == EMBEDDED:
            return caches.packaged_file()
        return caches.cached_hub_file(self.repository) or caches.cached_url(self.url)


@functools.cache
def known_networks() -> dict[str, KnownNetwork]:
    """Return every network of the table by its name, in its order."""
    record = json.loads(TABLE.read_text(encoding="utf-8"))
    return {
        name: KnownNetwork(name, *fields) for name, fields in record["networks"].items()
    }


def search_networks(pattern: str | None = None) -> list[NetworkEntry]:
    """Return the networks of the table that match, or an empty list.

    Parameters
    ----------
    pattern : str, optional
        As for `matching_names`.
    """
    known = known_networks()
    return [_entry(known[name]) for name in matching_names(known, pattern)]


def _entry(network: KnownNetwork) -> NetworkEntry:
    path = network.cached()
    return NetworkEntry(
        name=network.name,
        source=network.source,
        n_parameters=network.n_parameters,
        top_1=network.top_1,
        offline=path is not None,
        weights_path=None if path is None else str(path),
    )


def matching_names(names: Iterable[str], pattern: str | None = None) -> list[str]:
    """Return the names that match, in their order.

    Parameters
    ----------
    names : iterable of str
    pattern : str, optional
        A part of the name; or a glob of the whole name, which may leave `timm/` out
        where no other network matches. Without one, all but timm's.
    """
    names = list(names)
    if not pattern:
        return [name for name in names if not name.startswith(TIMM_PREFIX)]
    if not any(c in pattern for c in "*?["):
        return [name for name in names if pattern in name]
    found = fnmatch.filter(names, pattern)
    return found or fnmatch.filter(names, TIMM_PREFIX + pattern)


def nearest_names(name: str, known: Sequence[str]) -> list[str]:
    """Return up to three names that are spelled much alike.

    timm's only where the name is one of theirs, or no other is near.
    """
    ours = [one for one in known if not one.startswith(TIMM_PREFIX)]
    if not name.startswith(TIMM_PREFIX):
        if near := difflib.get_close_matches(name, ours, n=3):
            return near
        name = TIMM_PREFIX + name
    theirs = [one for one in known if one.startswith(TIMM_PREFIX)]
    return difflib.get_close_matches(name, theirs, n=3)
