"""One layer's features of images, by the network as it stands."""

from collections.abc import Iterable

import numpy as np
import torch

from cnnfeat.layers import Tapper, pool_activation, resolve_layers
from cnnfeat.networks import Network

Features = dict[int, torch.Tensor]  # by row of the image list, float32 on the CPU


def layer_features(
    network: Network, layer: str, pixels: Iterable[np.ndarray], *, pool: str = "none"
) -> torch.Tensor:
    """Return a layer's features of images, in their order.

    Parameters
    ----------
    network : Network
    layer : str
        As `resolve_layers` takes it.
    pixels : iterable of ndarray of shape (m, 1, h, w, 3), dtype=uint8
        Batches of images, resized and cropped.
    pool : str, default="none"
        See `pool_activation`.

    Returns
    -------
    tensor of shape (n_images, ...), dtype=float32
        On the CPU.
    """
    (tap,) = resolve_layers(network, [layer])
    parts = []
    with Tapper(network, [tap]) as tapper:
        for batch in pixels:
            activation = tapper(normalized(network, batch))[tap.name]
            pooled = pool_activation(activation, pool, tap.channels_last)
            parts.append(pooled.float().cpu().numpy().copy())
    # Tensors made in inference mode cannot take part in training; copies can.
    return torch.from_numpy(np.concatenate(parts))


def normalized(network: Network, pixels: np.ndarray) -> torch.Tensor:
    """Return uint8 pixels (m, 1, h, w, 3) as the network takes them.

    Returns
    -------
    tensor of shape (m, 3, h, w), dtype=float32
        On the network's device, channels last in memory.
    """
    images = torch.from_numpy(pixels[:, 0]).to(network.device)
    return network.weights.preprocessing.normalize(images)
