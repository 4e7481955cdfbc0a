"""Published weights as files: what they are called, where they come from, whose.

`cnnfeat weights` fetches them into a folder of the user's, and `--weights DIR` finds
them there by the same names.
"""

import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lazy_loader

from cnnfeat.errors import WeightsError
from cnnfeat.fetching import RemoteFile
from cnnfeat.networks._architectures import Architecture, find_architecture
from cnnfeat.networks._caches import HUB_FILES
from cnnfeat.networks._downloads import name_of_url, published_prefix
from cnnfeat.networks._weights import file_digest

huggingface_hub: Any = lazy_loader.load("huggingface_hub")


@dataclass(frozen=True)
class OfficialFile:
    """The published weights of one network.

    Attributes
    ----------
    model, name : str
        Of the network, and of the file.
    source : str
        Where it comes from.
    licence : str
        The terms of use as the library states them.
    remote : RemoteFile
        What is fetched; of packaged weights only the name.
    packaged : Path or None
        Where the weights come with a Python package: its file.
    path : str
        Where the file is; empty until it is fetched.
    n_bytes : int
    sha256 : str
    """

    model: str
    name: str
    source: str
    licence: str
    remote: RemoteFile
    packaged: Path | None = None
    path: str = ""
    n_bytes: int = 0
    sha256: str = ""

    def at(self, path: Path) -> "OfficialFile":
        """Return what is known once the file is there."""
        size = path.stat().st_size
        return replace(self, path=str(path), n_bytes=size, sha256=file_digest(path))

    def to_dict(self) -> dict[str, Any]:
        """Return what people are told, as JSON types."""
        keys = ("model", "path", "n_bytes", "sha256", "source", "licence")
        return {key: getattr(self, key) for key in keys}


def official_names(architecture: Architecture) -> tuple[str, ...]:
    """Return the names that the published weights may have in a folder."""
    if architecture.repository:
        stem = architecture.repository.partition("@")[0].replace("/", "--")
        return tuple(f"{stem}{Path(name).suffix}" for name in HUB_FILES)
    if architecture.url:
        return (name_of_url(architecture.url),)
    packaged = architecture.cached()
    return () if packaged is None else (packaged.name,)


def official_path(architecture: Architecture, folder: Path) -> Path:
    """Return the file of the published weights in a folder.

    Raises
    ------
    WeightsError
        If there is none; the command that fetches it is named.
    """
    names = official_names(architecture)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    expected = " or ".join(names) or "published weights, which it does not have"
    raise WeightsError(
        f"weights {str(folder)!r}: no file of {architecture.name!r} in this folder; "
        f"expected {expected}; "
        f"cnnfeat weights {architecture.name} DIR fetches it where there is a network"
    )


def official_file(name: str, *, timeout: float = 30.0) -> OfficialFile:
    """Return what is published of a network's weights; the hub is asked for its own.

    Parameters
    ----------
    name : str
        As for `load_network`.
    timeout : float, default=30.0
        Seconds.

    Raises
    ------
    NetworkError
        If there is no such network.
    WeightsError
        If it has no published weights, or the hub does not answer.
    """
    architecture = find_architecture(name)
    names, licence = official_names(architecture), architecture.licence
    if architecture.repository:
        remote = _on_the_hub(architecture.repository, names, name, timeout)
        return OfficialFile(name, remote.name, remote.url, licence, remote)
    if architecture.url:
        prefix = published_prefix(architecture.url)
        digest = ("sha256", prefix) if prefix else None
        remote = RemoteFile(names[0], architecture.url, digest=digest)
        return OfficialFile(name, names[0], architecture.url, licence, remote)
    packaged = architecture.fetch()  # names the package where it is not installed
    remote = RemoteFile(packaged.name, "")
    source = architecture.source
    return OfficialFile(name, packaged.name, source, licence, remote, packaged)


def _on_the_hub(
    repository: str, names: tuple[str, ...], model: str, timeout: float
) -> RemoteFile:
    """Return address, size and digest of a repository's weights, as the hub says."""
    repo_id, _, revision = repository.partition("@")
    problem: Exception = FileNotFoundError(f"none of {', '.join(HUB_FILES)}")
    for file_name, name in zip(HUB_FILES, names, strict=True):
        url = huggingface_hub.hf_hub_url(repo_id, file_name, revision=revision or None)
        try:
            told = _head(url, timeout)
        except urllib.error.HTTPError as error:
            error.close()
            problem = error
            if error.code != 404:
                break
            continue
        except (OSError, http.client.HTTPException) as error:
            problem = error
            break
        etag = told.get("X-Linked-Etag", "").strip('"')
        digest = ("sha256", etag) if re.fullmatch("[0-9a-f]{64}", etag) else None
        size = told.get("X-Linked-Size", "")
        return RemoteFile(name, url, int(size) if size.isdecimal() else None, digest)
    reason = " ".join(str(problem).split())[:100] or type(problem).__name__
    raise WeightsError(
        f"the weights of {model!r} cannot be found at {repo_id} on the hub ({reason})"
    ) from problem


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: what the hub says of a file stands in the redirect itself.

    A repository that has another name now is followed, which has no digest yet.
    """

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Return the next request, None where this answer is the last."""
        if "X-Linked-Etag" in headers:
            return None
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None:
            following.method = "HEAD"  # urllib turns it into GET
        return following


def _head(url: str, timeout: float) -> Mapping[str, str]:
    """Return the headers of what the hub answers first of its own."""
    request = urllib.request.Request(
        url, method="HEAD", headers={"User-Agent": "cnnfeat"}
    )
    try:
        with urllib.request.build_opener(_StayHere).open(request, timeout=timeout) as a:
            return dict(a.headers.items())
    except urllib.error.HTTPError as error:
        if not 300 <= error.code < 400:
            raise
        error.close()
        return dict(error.headers.items())
