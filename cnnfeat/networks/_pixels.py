"""Raw pixels as a network without parameters: the baseline that learns nothing.

Its one layer, `pixels`, is the image squashed to 32 x 32 and flattened, R plane first.
Features of a trained network that are no better than these are worth nothing.
"""

from collections import OrderedDict

import torch
from torch import nn

from cnnfeat.errors import WeightsError
from cnnfeat.images import Preprocessing
from cnnfeat.networks._network import Network, WeightsRecord
from cnnfeat.networks._weights import state_digest

PIXELS = "pixels"
_SIDE = 32  # Torralba, Fergus and Freeman 2008: enough for people to name the scene


def load_pixels(weights: str, device: torch.device) -> Network:
    """Return the network `pixels`, whose only layer hands on the normalised image.

    Parameters
    ----------
    weights : str
        `default` or `random`, which are the same: there is nothing to load.
    device : torch.device

    Raises
    ------
    WeightsError
        If `weights` is a file.
    """
    if weights not in ("default", "random"):
        raise WeightsError(f"the network {PIXELS!r} has no weights to load: {weights}")
    module = nn.Sequential(OrderedDict({PIXELS: nn.Flatten()}))
    record = WeightsRecord(
        name="none",
        source="none",
        sha256=state_digest(module.state_dict()),
        preprocessing=Preprocessing(
            resize_size=(_SIDE, _SIDE),
            crop_size=(_SIDE, _SIDE),
            interpolation="bilinear",
            mean=(0.0,) * 3,
            std=(1.0,) * 3,
        ),
    )
    return Network(PIXELS, module, record, device)
