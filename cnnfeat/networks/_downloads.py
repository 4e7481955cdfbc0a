"""How published weights get to this machine.

The cache is looked at before anything is fetched. Progress goes to stderr only.
"""

import http.client
import os
import re
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlparse

import lazy_loader

from cnnfeat.errors import DownloadError, OutputError, WeightsError
from cnnfeat.fetching import RemoteFile, fetch_file
from cnnfeat.networks._caches import HUB_FILES, cached_hub_file, torch_cache_path
from cnnfeat.outputs import locked_output

huggingface_hub: Any = lazy_loader.load("huggingface_hub")

# Of a file that nobody asked for by name: where there is no network, say so soon.
_N_TRIES = 2


def name_of_url(url: str) -> str:
    """Return the file name at the end of an address."""
    return os.path.basename(urlparse(url).path)


def published_prefix(url: str) -> str | None:
    """Return the start of the file's sha256 that PyTorch's file names carry."""
    match = re.search(r"-([0-9a-f]{8,})\.", name_of_url(url))
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
    prefix = published_prefix(url)
    digest = ("sha256", prefix) if prefix else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked_output(path):
            remote = RemoteFile(path.name, url, digest=digest)
            fetch_file(remote, path, retries=_N_TRIES)
    except (OSError, DownloadError, OutputError) as error:
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
