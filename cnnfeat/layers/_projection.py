"""Activations taken back to pixels: the deconvnet, gradients, class activation maps.

Written once for all networks: autograd holds the switches of max pooling and the
transposed filters, and `BackwardRule` says what a ReLU does. Where pooling windows
overlap, autograd adds what they send back to one pixel; Zeiler and Fergus do not say,
and unpooling by switches lets the last one win.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from cnnfeat.errors import LayerError
from cnnfeat.layers._backward_rules import RULES, BackwardRule
from cnnfeat.layers._names import Tap, resolve_layers
from cnnfeat.layers._pooling import as_maps, pool_activation
from cnnfeat.layers._taps import Tapper
from cnnfeat.layers._tracing import ROOT
from cnnfeat.networks import Network

CAMS = ("grad-cam", "layer-cam")
METHODS = ("deconvnet", "guided", "gradient", "gradient-x-input", "integrated", *CAMS)
_AT_ONCE = 16  # images in one pass
# Midpoints of the path from the mean image; doubled until the sum is within 1 %.
_FIRST_STEPS, _MOST_STEPS, _COMPLETE = 32, 1024, 0.01


@dataclass(frozen=True)
class Aim:
    """Which part of an activation is taken back, for each image of a batch.

    Attributes
    ----------
    units : sequence of int
        A map of the layer, or an element of a layer without maps, for each image.
    positions : sequence of (int, int), optional
        Row and column in the map; by default where it is strongest.
    whole : bool
        All of the map in place of one position.
    """

    units: Sequence[int]
    positions: Sequence[tuple[int, int]] | None = None
    whole: bool = False


@dataclass(frozen=True, eq=False)
class Projection:
    """What came back to the pixels.

    Attributes
    ----------
    signal : ndarray of shape (n, 3, h, w), dtype=float32
        For each value of the normalised pixels.
    activations : ndarray of shape (n,), dtype=float32
        At the position; summed over a whole map.
    positions : tuple of (int, int)
        Where the map was strongest, or as asked.
    completeness : float or None
        Of `integrated`: how far the signal's sum is from what the activation changes
        between the mean image and this one, as a share of that change (Sundararajan
        et al. 2017, arXiv 1703.01365, proposition 1).
    n_steps : int
        Of `integrated`.
    """

    signal: np.ndarray
    activations: np.ndarray
    positions: tuple[tuple[int, int], ...]
    completeness: float | None = None
    n_steps: int = 0


def project(
    network: Network, tap: Tap, images: torch.Tensor, aim: Aim, method: str
) -> Projection:
    """Return what part of the pixels an activation is made of.

    Parameters
    ----------
    network : Network
    tap : Tap
    images : tensor of shape (n, 3, h, w), floating, normalised
        On the network's device.
    aim : Aim
        Of n images.
    method : {"deconvnet", "guided", "gradient", "gradient-x-input", "integrated"}
        The deconvnet starts from the activation, as in the paper, the others from 1.

    Raises
    ------
    LayerError
        If the layer has no such unit or position, or the method no meaning for the
        network's non-linearities.
    """
    if method == "integrated":
        parts = [_integrate(network, tap, images[k : k + 1], aim, k) for k in _all(aim)]
        return _joined(parts)
    with Tapper(network, [tap], grad=True) as tapper:
        parts = [
            _go_back(tapper, images[rows], _part(aim, rows), method)
            for rows in _slices(len(images))
        ]
    return _joined(parts)


def class_maps(
    network: Network, tap: Tap, images: torch.Tensor, units: Sequence[int], method: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return where a layer's maps speak for a class, and the class's score.

    Parameters
    ----------
    network : Network
    tap : Tap
        A layer of maps, or of tokens whose patches are known.
    images : tensor of shape (n, 3, h, w), floating, normalised
    units : sequence of n int
        Classes, as indices of the network's scores.
    method : {"grad-cam", "layer-cam"}
        Selvaraju et al. 2017, arXiv 1610.02391, equations 1 and 2; Jiang et al. 2021,
        "LayerCAM", equations 4 and 5.

    Returns
    -------
    maps : ndarray of shape (n, h', w'), dtype=float32
        Of the layer's size, not negative.
    scores : ndarray of shape (n,), dtype=float32
    """
    found = [
        _class_map(network, tap, images[rows], units[rows], method)
        for rows in _slices(len(images))
    ]
    maps, scores = zip(*found, strict=True)
    return np.concatenate(maps), np.concatenate(scores)


def score_gradients(
    network: Network,
    taps: Sequence[Tap],
    pool: str,
    images: torch.Tensor,
    score: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient of any score of features with respect to the pixels.

    Parameters
    ----------
    network : Network
    taps : sequence of Tap
        Pooled by `pool`, flattened and joined in this order: the features.
    pool : str
        As for `pool_activation`.
    images : tensor of shape (n, 3, h, w), floating, normalised
    score : callable (Tensor of shape (n, d)) -> Tensor of shape (n,)

    Returns
    -------
    gradients : ndarray of shape (n, 3, h, w), dtype=float32
    scores : ndarray of shape (n,), dtype=float32
    """

    def pooled(tap: Tap, activation: torch.Tensor) -> torch.Tensor:
        return pool_activation(activation, pool, tap)

    pixels = images.detach().clone().requires_grad_(True)
    with torch.enable_grad(), Tapper(network, taps, pooled, grad=True) as tapper:
        found = tapper(pixels)
        X = torch.cat([found[tap.name].flatten(1) for tap in taps], 1)
        scores = score(X)
        (of_features,) = torch.autograd.grad(scores.sum(), X, retain_graph=True)
        # The root of a feature that is 0 has no slope; such a feature says nothing.
        of_features = torch.nan_to_num(of_features, posinf=0.0, neginf=0.0)
        (gradients,) = torch.autograd.grad(X, pixels, of_features)
    return gradients.cpu().numpy(), scores.detach().cpu().numpy()


def strongest_units(
    network: Network, tap: Tap, images: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest activation of each unit over its positions, and the sums.

    Returns
    -------
    largest, total : ndarray of shape (n, c), dtype=float32
    """
    with Tapper(network, [tap]) as tapper:
        maps = as_maps(tapper(images)[tap.name], tap)
    return maps.amax((2, 3)).cpu().numpy(), maps.sum((2, 3)).cpu().numpy()


def is_rectified(network: Network, tap: Tap) -> bool:
    """Tell whether all non-linearities up to a tap are ReLUs, as deconvnets need."""
    height, width = network.weights.preprocessing.crop_size
    image = torch.zeros((1, 3, height, width), device=network.device)
    try:
        with (
            torch.no_grad(),
            Tapper(network, [tap], grad=True) as tapper,
            BackwardRule("deconvnet"),
        ):
            tapper(image)
    except LayerError:
        return False
    return True


def _go_back(tapper: Tapper, images: torch.Tensor, aim: Aim, method: str) -> Projection:
    """Return the projection of one batch, by one pass up and one back."""
    (tap,) = tapper.taps
    pixels = images.detach().clone().requires_grad_(True)
    rule = method if method in RULES else "gradient"
    with torch.enable_grad(), BackwardRule(rule):
        maps = as_maps(tapper(pixels)[tap.name], tap)
        chosen, positions = _chosen(maps, aim, tap)
        values = maps.detach() if rule != "gradient" and maps[0, 0].numel() > 1 else 1
        (signal,) = torch.autograd.grad(maps, pixels, chosen * values)
    if method == "gradient-x-input":
        signal = signal * images
    activations = (maps.detach() * chosen).sum((1, 2, 3))
    return Projection(signal.cpu().numpy(), activations.cpu().numpy(), positions)


def _chosen(
    maps: torch.Tensor, aim: Aim, tap: Tap
) -> tuple[torch.Tensor, tuple[tuple[int, int], ...]]:
    """Return ones at what is aimed at and zeros elsewhere, and the positions."""
    n, c, height, width = maps.shape
    units = torch.as_tensor(aim.units, device=maps.device)
    check_unit(tap, c, max(aim.units, default=0))
    rows = torch.arange(n, device=maps.device)
    if aim.positions is None:
        flat = maps.detach()[rows, units].flatten(1).argmax(1)
        positions = tuple((int(k) // width, int(k) % width) for k in flat)
    else:
        positions = tuple(aim.positions)
    for i, j in positions:
        if not (0 <= i < height and 0 <= j < width):
            raise LayerError(
                f"{tap.name} has {height} x {width} positions, from 0,0; found {i},{j}"
            )
    chosen = torch.zeros_like(maps, requires_grad=False)
    if aim.whole:
        chosen[rows, units] = 1
    else:
        at = torch.as_tensor(positions, device=maps.device)
        chosen[rows, units, at[:, 0], at[:, 1]] = 1
    return chosen, positions


def check_unit(tap: Tap, n_units: int, unit: int) -> None:
    """Refuse a unit that a layer does not have.

    Raises
    ------
    LayerError
        It names the units that there are.
    """
    if not 0 <= unit < n_units:
        raise LayerError(
            f"{tap.name} has {n_units} units, 0 to {n_units - 1}; found {unit}"
        )


def _integrate(
    network: Network, tap: Tap, image: torch.Tensor, aim: Aim, k: int
) -> Projection:
    """Return the integral of the gradient from the mean image, times the difference."""
    with Tapper(network, [tap], grad=True) as tapper:
        there = _go_back(tapper, image, _part(aim, slice(k, k + 1)), "gradient")
        aim = replace(_part(aim, slice(k, k + 1)), positions=there.positions)
        start = _go_back(tapper, torch.zeros_like(image), aim, "gradient")
        change = float(there.activations[0] - start.activations[0])
        n_steps = _FIRST_STEPS
        while True:
            signal = _path_mean(tapper, image, aim, n_steps) * image
            error = abs(float(signal.sum()) - change) / max(abs(change), 1e-12)
            if error <= _COMPLETE or n_steps >= _MOST_STEPS:
                break
            n_steps *= 2
    return replace(
        there, signal=signal.cpu().numpy(), completeness=error, n_steps=n_steps
    )


def _path_mean(
    tapper: Tapper, image: torch.Tensor, aim: Aim, n_steps: int
) -> torch.Tensor:
    """Return the mean gradient at the midpoints of so many steps."""
    shares = (torch.arange(n_steps, device=image.device) + 0.5) / n_steps
    total = torch.zeros_like(image)
    for rows in _slices(n_steps):
        batch = shares[rows, None, None, None] * image
        here = Aim([*aim.units] * len(batch), [*(aim.positions or ())] * len(batch))
        back = _go_back(tapper, batch, replace(here, whole=aim.whole), "gradient")
        total += torch.from_numpy(back.signal).to(image.device).sum(0, keepdim=True)
    return total / n_steps


def _class_map(
    network: Network,
    tap: Tap,
    images: torch.Tensor,
    units: Sequence[int],
    method: str,
) -> tuple[np.ndarray, np.ndarray]:
    (root,) = resolve_layers(network, [ROOT])
    came_back: list[torch.Tensor] = []

    def watch(seen: Tap, activation: torch.Tensor) -> torch.Tensor:
        # Of the tensor before any later module writes over it.
        if seen is tap:
            activation.register_hook(came_back.append)
        return activation

    pixels = images.detach().clone().requires_grad_(True)
    with torch.enable_grad(), Tapper(network, [tap, root], watch, grad=True) as tapper:
        found = tapper(pixels)
        scores = found[root.name].flatten(1)
        check_unit(root, scores.shape[1], max(units))
        chosen = scores[torch.arange(len(images)), torch.as_tensor(units)]
        chosen.sum().backward()
    if not came_back:
        raise LayerError(f"{tap.name} does not lead to the class scores")
    maps = as_maps(found[tap.name].detach(), tap)
    signal = as_maps(came_back[-1], tap)
    if maps[0, 0].numel() == 1:
        raise LayerError(
            f"{tap.name} has no maps, which `method={method}` needs: give `layers` one "
            f"that has; cnnfeat layers {network.name} lists their shapes"
        )
    if method == "grad-cam":
        spoken = (signal.mean((2, 3), keepdim=True) * maps).sum(1)
    else:
        spoken = (signal.clamp(min=0) * maps).sum(1)
    return spoken.clamp(min=0).cpu().numpy(), chosen.detach().cpu().numpy()


def _all(aim: Aim) -> range:
    return range(len(aim.units))


def _slices(n: int) -> list[slice]:
    return [slice(k, k + _AT_ONCE) for k in range(0, n, _AT_ONCE)]


def _part(aim: Aim, rows: slice) -> Aim:
    positions = None if aim.positions is None else aim.positions[rows]
    return replace(aim, units=aim.units[rows], positions=positions)


def _joined(parts: Sequence[Projection]) -> Projection:
    errors = [part.completeness for part in parts if part.completeness is not None]
    return Projection(
        signal=np.concatenate([part.signal for part in parts]),
        activations=np.concatenate([part.activations for part in parts]),
        positions=tuple(one for part in parts for one in part.positions),
        completeness=max(errors) if errors else None,
        n_steps=max(part.n_steps for part in parts),
    )
