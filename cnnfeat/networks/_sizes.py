"""Another size of input than a network was trained with, and other preprocessing.

A convnet slides over whatever it is given. A transformer has an embedding for each
position, which is interpolated to the larger grid (Dosovitskiy et al. 2021, arXiv
2010.11929, section 3.2), in timm's and torchvision's own arithmetic.
"""

import json
import warnings
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnfeat.errors import DataError, NetworkError
from cnnfeat.images import Preprocessing
from cnnfeat.networks._architectures import find_architecture, torchvision
from cnnfeat.networks._network import Network
from cnnfeat.readback import Malformed, parse_json, why_unreadable


@dataclass(frozen=True)
class LoadOptions:
    """How a network is loaded other than its weights record says.

    Parameters
    ----------
    allow_missing : tuple of str
        Globs of the names of tensors that a file may lack, or have too many, or with
        another shape; the network's own then stay as they were drawn.
    input_size : int, optional
        Side of the crop in pixels; resizing is scaled along with it.
    preprocessing : Preprocessing, optional
        In place of the weights' own.
    """

    allow_missing: tuple[str, ...] = ()
    input_size: int | None = None
    preprocessing: Preprocessing | None = None


def read_preprocessing(text: str) -> Preprocessing:
    """Return the preprocessing that a JSON file holds, or that a network has.

    Parameters
    ----------
    text : str
        The path of a `.json` file with the fields of `Preprocessing`, or the name of a
        network that is trained on images prepared in the same way.

    Raises
    ------
    DataError
        If the file cannot be read, or a field is missing, unknown or out of range.
    NetworkError
        If there is no network of that name.
    """
    if not text.endswith(".json"):
        return find_architecture(text).preprocessing
    where = f"`preprocessing={text}`"
    found = why_unreadable(text)
    if found is not None:
        raise DataError(f"{where}: {found}")
    try:
        return Preprocessing.from_dict(parse_json(Path(text).read_bytes(), where))
    except (Malformed, DataError) as error:
        raise DataError(f"{where}: {error}") from error


def given_preprocessing(told: str) -> Preprocessing:
    """Return the preprocessing that a provenance holds as JSON."""
    return Preprocessing.from_dict(json.loads(told))


def changed(network: Network, options: LoadOptions) -> Network:
    """Return the network with another preprocessing or size, itself where neither is.

    Raises
    ------
    NetworkError
        If the network does not run on images of that size; what it says is told.
    """
    own = options.preprocessing or network.weights.preprocessing
    if options.input_size is not None:
        own = scaled(own, options.input_size)
        _take_size(network, options.input_size)
    if own == network.weights.preprocessing:
        return network
    record = replace(
        network.weights,
        preprocessing=own,
        input_size=options.input_size,
        is_preprocessing_given=options.preprocessing is not None,
        published={},
    )
    return Network(
        network.name, network.module, record, network.device, network.n_classes
    )


def scaled(preprocessing: Preprocessing, side: int) -> Preprocessing:
    """Return preprocessing for crops of `side` pixels, the resized image in proportion.

    The share of the resized image that is cropped stays as it was.
    """
    height, width = preprocessing.crop_size
    size = preprocessing.resize_size
    resize = (
        round(size * side / min(height, width))
        if isinstance(size, int)
        else (round(size[0] * side / height), round(size[1] * side / width))
    )
    return replace(preprocessing, resize_size=resize, crop_size=(side, side))


def _take_size(network: Network, side: int) -> None:
    """Fit the network to images of `side` pixels, and see it run on one."""
    module: Any = network.module
    try:
        if hasattr(module, "set_input_size"):  # timm's transformers
            _check_patches(side, max(module.patch_embed.patch_size))
            with warnings.catch_warnings():  # of timm's tensors to torch
                warnings.simplefilter("ignore", UserWarning)
                module.set_input_size(img_size=(side, side))
        elif isinstance(module, torchvision.models.VisionTransformer):
            _interpolate_torchvision(module, side)
        image = torch.zeros((1, 3, side, side), device=network.device)
        with torch.inference_mode():
            module(image)
    except (RuntimeError, AssertionError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise NetworkError(
            f"`input_size={side}`: {network.name!r} does not take images of that size "
            f"({reason}); its own is {network.weights.preprocessing.crop_size[0]}"
        ) from error
    module.requires_grad_(False)


def _check_patches(side: int, patch: int) -> None:
    if side % patch:  # the rest of the image would be cut off without a word
        raise ValueError(f"not a multiple of its patches, {patch}")


def _interpolate_torchvision(module: Any, side: int) -> None:
    """Give torchvision's transformer the embeddings of a larger or smaller grid."""
    _check_patches(side, module.patch_size)
    interpolate = torchvision.models.vision_transformer.interpolate_embeddings
    state = interpolate(side, module.patch_size, OrderedDict(module.state_dict()))
    embedding = state["encoder.pos_embedding"].detach()
    module.encoder.pos_embedding = nn.Parameter(embedding, requires_grad=False)
    module.image_size = side
    module.seq_length = embedding.shape[1]
