"""Features in the file against a reference computed without cnnfeat."""

import gzip
import io
import json
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


@pytest.mark.parametrize(
    ("model", "layers", "pool", "stored"),
    [
        ("squeezenet1_1", (), "auto", ((512,), "avg")),
        ("squeezenet1_1", (), "none", ((512, 13, 13), "none")),
        ("squeezenet1_1", ("features.12",), "auto", ((512, 13, 13), "none")),
        ("resnet18", (), "auto", ((512, 1, 1), "none")),
        ("alexnet", (), "auto", ((4096,), "none")),
    ],
)
def test_the_default_layer_is_averaged_where_it_is_not_pooled(
    model, layers, pool, stored
):
    from cnnfeat.extraction import Extractor
    from cnnfeat.networks import NetworkRequest

    request = NetworkRequest(model, "random", device="cpu")
    with Extractor(request, layers, pool=pool) as extractor:
        (spec,) = extractor.specs
    assert (spec.shape, spec.pool) == stored


def test_squeezenet_is_the_only_known_network_whose_default_is_averaged():
    from cnnfeat.layers import known_layers
    from cnnfeat.layers._known import TABLE

    averaged = set()
    table = json.loads(gzip.decompress(TABLE.read_bytes()))
    for name in table["networks"]:
        (default,) = [row for row in known_layers(name) if row.is_default]
        if len(default.shape) == 3 and default.shape[1:] != (1, 1):
            averaged.add(name)
    assert averaged == {"squeezenet1_0", "squeezenet1_1"}


def test_a_head_on_the_averaged_default_predicts_and_evaluates(colour_dir, tmp_path):
    from click.testing import CliRunner

    from cnnfeat.cli.main import cli

    def run(*words):
        result = CliRunner().invoke(cli, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        return result

    features, head = tmp_path / "f.h5", tmp_path / "h.h5"
    network = ("--model", "squeezenet1_1", "--weights", "random", "--device", "cpu")
    run("extract", colour_dir, "-o", features, *network, "--workers", 0, "-q")
    run("train-svm", features, "-o", head, "--C", 1, "--train-per-class", 4)
    asked = ("--device", "cpu", "--workers", 0, "-q", "--json")
    predicted = json.loads(run("predict", head, colour_dir, *asked).stdout)
    csv_path = tmp_path / "p.csv"
    run("evaluate", head, features, "--rows", "all", "--predictions", csv_path)
    labels = [line.split(",")[2] for line in csv_path.read_text().splitlines()[1:]]
    assert labels == [one["labels"][0] for one in predicted["predictions"]]
    told = json.loads(run("info", features, "--json").stdout)
    assert [(one["shape"], one["pool"]) for one in told["layers"]] == [([512], "avg")]
