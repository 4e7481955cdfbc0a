"""Features in the file against a reference computed without cnnfeat."""

import io
import pickle

import h5py
import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.models.feature_extraction import create_feature_extractor

from cnnfeat.errors import WeightsError
from cnnfeat.extract import ExtractOptions, extract_features


def _reference(model, weights_path, layers, image_dir):
    """Return {layer: (n, ...)} by torchvision alone, in the order of sorted paths."""
    network = torchvision.models.get_model(model, weights=None).eval()
    network.load_state_dict(torch.load(weights_path, weights_only=True))
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    transform = torchvision.models.get_model_weights(model).DEFAULT.transforms()
    paths = sorted(image_dir.rglob("*.png"))
    images = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    extractor = create_feature_extractor(network, list(layers))
    with torch.no_grad():
        return {name: out.numpy() for name, out in extractor(images).items()}


@pytest.fixture(params=["squeezenet1_1", "alexnet"])
def model(request):
    return request.param


LAYERS = {
    "squeezenet1_1": ("features.0", "features.1", "features.3.squeeze", "features.12"),
    "alexnet": (
        "features.0",
        "features.1",
        "features.12",
        "classifier.1",
        "classifier.2",
    ),
}


@pytest.mark.parametrize(("workers", "batch_size"), [(0, 12), (2, 5), (1, 1)])
def test_tapped_values_equal_torchvisions(
    model, workers, batch_size, image_dir, tmp_path
):
    weights = tmp_path / "weights.pth"
    torch.manual_seed(3)
    torch.save(torchvision.models.get_model(model, weights=None).state_dict(), weights)
    options = ExtractOptions(
        model=model,
        weights=str(weights),
        layers=LAYERS[model],
        device="cpu",
        workers=workers,
        batch_size=batch_size,
    )
    output = str(tmp_path / "f.h5")
    extract_features(str(image_dir), output, options)
    reference = _reference(model, weights, LAYERS[model], image_dir)
    with h5py.File(output) as file:
        for name, expected in reference.items():
            found = file[f"features/{name}"][:]
            # Relative to the layer's largest value: sums of products cancel to zero.
            difference = np.abs(found - expected).max() / np.abs(expected).max()
            assert difference < 1e-5, name


def test_before_the_non_linearity_is_before_it(image_dir, tmp_path):
    options = ExtractOptions(
        model="alexnet",
        weights="random",
        layers=("conv1:pre", "conv1", "fc6:pre", "fc6"),
        device="cpu",
    )
    output = str(tmp_path / "f.h5")
    extract_features(str(image_dir), output, options)
    with h5py.File(output) as file:
        for name in ("conv1", "fc6"):
            pre, post = file[f"features/{name}:pre"], file[f"features/{name}"]
            assert pre[:].min() < 0
            np.testing.assert_array_equal(np.maximum(pre[:], 0), post[:])
            assert pre.attrs["before_nonlinearity"]
            assert not post.attrs["before_nonlinearity"]


def test_code_in_a_pickle_is_never_run(image_dir, tmp_path):
    class Malice:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    buffer = io.BytesIO()
    torch.save({"classifier.1.weight": Malice()}, buffer)
    weights = tmp_path / "malice.pth"
    for data in (buffer.getvalue(), pickle.dumps(Malice())):
        weights.write_bytes(data)
        options = ExtractOptions(model="squeezenet1_1", weights=str(weights))
        with pytest.raises(WeightsError, match=r"malice\.pth"):
            extract_features(str(image_dir), str(tmp_path / "f.h5"), options)
    assert not (tmp_path / "ran").exists()
