"""How published weights get to this machine.

The cache is looked at before anything is fetched. Progress goes to stderr only.
"""

import http.client
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlparse

import lazy_loader
import torch

from cnnfeat.errors import WeightsError
from cnnfeat.networks._caches import HUB_FILES, cached_hub_file, torch_cache_path

huggingface_hub: Any = lazy_loader.load("huggingface_hub")

_TIMEOUT_SECONDS = 30.0


def published_prefix(url: str) -> str | None:
    """Return the start of the file's sha256 that PyTorch's file names carry."""
    match = re.search(r"-([0-9a-f]{8,})\.", os.path.basename(urlparse(url).path))
    return match[1] if match else None


def fetch_url(url: str, name: str) -> Path:
    """Fetch `url` into the torch cache folder unless it is there; return its path.

    Raises
    ------
    WeightsError
        If it cannot be fetched, or its bytes do not match the digest in its name.
    """
    path = torch_cache_path(url)
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _socket_timeout(_TIMEOUT_SECONDS):
            torch.hub.download_url_to_file(url, str(path), published_prefix(url))
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        _raise_unfetched(name, error, url, f"{path.name} into {path.parent}")
    return path


def fetch_hub_file(repository: str, name: str) -> Path:
    """Fetch a Hugging Face repository's weights into its cache; return the path.

    Raises
    ------
    WeightsError
        If neither of the usual files can be fetched.
    """
    cached = cached_hub_file(repository)
    if cached is not None:
        return cached
    repo_id, _, revision = repository.partition("@")
    # Its retries are logged one by one; the one line that counts is ours.
    huggingface_hub.logging.set_verbosity_error()
    problem: Exception = FileNotFoundError(f"none of {', '.join(HUB_FILES)}")
    for file_name in HUB_FILES:
        try:
            return Path(
                huggingface_hub.hf_hub_download(
                    repo_id, file_name, revision=revision or None
                )
            )
        except huggingface_hub.utils.LocalEntryNotFoundError as error:
            problem = error
            break
        except huggingface_hub.utils.EntryNotFoundError:
            continue
        except (OSError, http.client.HTTPException, RuntimeError, ValueError) as error:
            problem = error
            break
    cache = huggingface_hub.constants.HF_HUB_CACHE
    _raise_unfetched(
        name, problem, repo_id, f"{HUB_FILES[0]} of {repo_id} into {cache}"
    )


def _raise_unfetched(name: str, error: Exception, source: str, cure: str) -> NoReturn:
    reason = " ".join(str(error).split())[:100] or type(error).__name__
    raise WeightsError(
        f"the weights of {name!r} cannot be fetched from {source} ({reason}): put "
        f"{cure}, or give `weights=PATH`, or use `model=efficientnet_lite0`"
    ) from error


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Bound every wait on the network: `torch.hub` sets no timeout of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
