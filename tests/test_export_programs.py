"""Whole classifiers as programs, run by onnxruntime and torch beside `predict`."""

import json
import os

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from tiny import make_tiny_network, wrap
from torch import nn

from cnnfeat import extraction, heads, layers, scoring
from cnnfeat.cli.main import cli
from cnnfeat.errors import NetworkError, ProvenanceError
from cnnfeat.export import _programs, export_file
from cnnfeat.store import load_head, save_head

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's exporters warn of torch


def run(*arguments, status=0):
    result = CliRunner().invoke(cli, [str(one) for one in arguments])
    assert result.exit_code == status, result.output
    return result


def session_of(path):
    runtime = pytest.importorskip("onnxruntime", reason="extra onnx")
    return runtime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, colour_dir):
    """Heads on the miniature network, which is loaded wherever one is asked for."""
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        name = "cnnfeat.networks._request.load_network"
        patch.setattr(name, lambda *_, **__: make_tiny_network())
        patch.setattr("cnnfeat.networks._request._is_published", lambda told: True)
        line = ("--engine", "eager", "--workers", 0, "--layer")
        run("extract", colour_dir, "-o", folder / "f.h5", *line, "flatten", "-q")
        many = ("features.1,flatten", "--crops", "ten", "--pool", "avg")
        run("extract", colour_dir, "-o", folder / "ten.h5", *line, *many, "-q")
        run("train-softmax", folder / "f.h5", "-o", folder / "softmax.h5", "--C", 1)
        more = ("--pca", 6, "--scale", "standard", "--signed-sqrt", "--C", 1)
        run("train-svm", folder / "f.h5", "-o", folder / "svm.h5", *more)
        both = ("--layer", "features.1+flatten", "--C", 1)
        run("train-softmax", folder / "ten.h5", "-o", folder / "ten_head.h5", *both)
        yield folder


def pixels_of(folder, crops="center"):
    """Return the images as programs take them, in the order of `predict`."""
    preprocessing = make_tiny_network().weights.preprocessing
    paths = sorted(folder.rglob("*.png"))
    pixels = [preprocessing.apply(Image.open(path), crops) for path in paths]
    stacked = np.stack(pixels)
    return stacked if crops == "ten" else stacked[:, 0]


def predicted(head, images, n_classes=3):
    line = ("--top", n_classes, "--engine", "eager", "--workers", 0)
    told = json.loads(run("predict", head, images, *line, "--json", "-q").stdout)
    return told["predictions"]


@pytest.mark.parametrize("head", ["softmax", "svm"])
def test_an_onnx_classifier_agrees_with_predict_at_any_batch(
    tiny, colour_dir, tmp_path, head
):
    out = tmp_path / "m.onnx"
    run("export", tiny / f"{head}.h5", "-o", out)
    session = session_of(out)
    told = session.get_modelmeta().custom_metadata_map
    classes = json.loads(told["classes"])
    assert classes == ["blue", "green", "red"] and told["model"] == "tiny"
    (gives,) = session.get_outputs()
    assert gives.name == ("probabilities" if head == "softmax" else "scores")
    pixels = pixels_of(colour_dir)
    by_batch = [
        np.concatenate(
            [
                session.run(None, {"pixels": pixels[k : k + n]})[0]
                for k in range(0, len(pixels), n)
            ]
        )
        for n in (1, 5, len(pixels))
    ]
    expected = predicted(tiny / f"{head}.h5", colour_dir)
    for found in by_batch:
        for row, one in zip(found, expected, strict=True):
            scores = dict(zip(classes, row.tolist(), strict=True))
            assert [scores[name] for name in one["labels"]] == pytest.approx(
                one["scores"], abs=1e-4
            )


def test_a_head_on_ten_crops_and_two_layers_takes_ten_crops(tiny, colour_dir, tmp_path):
    out = tmp_path / "m.pt2"
    report = export_file(str(tiny / "ten_head.h5"), str(out))
    assert report.pixels == ["batch", 10, 32, 32, 3]
    pixels = torch.from_numpy(pixels_of(colour_dir, "ten"))
    found = torch.export.load(out).module()(pixels).numpy()
    expected = predicted(tiny / "ten_head.h5", colour_dir, 1)
    best = [("blue", "green", "red")[k] for k in found.argmax(1)]
    assert best == [one["labels"][0] for one in expected]
    assert found.max(1) == pytest.approx(
        [one["scores"][0] for one in expected], abs=1e-4
    )


def test_a_pt2_classifier_agrees_with_predict(tiny, colour_dir, tmp_path):
    out = tmp_path / "m.pt2"
    run("export", tiny / "svm.h5", "-o", out)
    told = {"cnnfeat.json": ""}
    module = torch.export.load(out, extra_files=told).module()
    classes = json.loads(json.loads(told["cnnfeat.json"])["classes"])
    pixels = torch.from_numpy(pixels_of(colour_dir))
    for n in (1, 24):
        found = module(pixels[:n]).numpy()
        for row, one in zip(
            found, predicted(tiny / "svm.h5", colour_dir)[:n], strict=True
        ):
            best = classes[int(row.argmax())]
            assert best == one["labels"][0]
            assert row.max() == pytest.approx(one["scores"][0], abs=1e-4)


def test_weights_become_a_program_of_their_classes(colour_dir, tmp_path, monkeypatch):
    name = "cnnfeat.scoring._classifier.networks.load_network"
    monkeypatch.setattr(name, lambda *_, **__: make_tiny_network())
    out = tmp_path / "w.onnx"
    run("export", tmp_path / "w.pth", "-o", out, "--model", "tiny")
    found = session_of(out).run(None, {"pixels": pixels_of(colour_dir)})[0]
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    module, normalize = make_tiny_network().module, lambda x: (x / 255 - 0.5) / 0.5
    pixels = torch.from_numpy(pixels_of(colour_dir)).movedim(-1, 1).float()
    expected = module(normalize(pixels)).softmax(1).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("scale", heads.SCALES)
@pytest.mark.parametrize(("sqrt", "pca"), [(False, None), (True, 3), (True, None)])
def test_a_head_as_a_module_scores_as_the_head(scale, sqrt, pca):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 7)).astype(np.float32)
    transform = heads.FeatureTransform(
        scale, signed_sqrt=sqrt, n_components=pca, part_widths=(3, 4)
    ).fit(X)
    width = pca or 7
    head = heads.Head(
        kind="svm",
        coef=rng.normal(size=(4, width)).astype(np.float32),
        intercept=rng.normal(size=4).astype(np.float32),
        class_names=tuple("abcd"),
        scaler=transform.to_arrays(),
    )
    given = torch.from_numpy(X.copy())
    found = heads.HeadModule(head)(given).numpy()
    np.testing.assert_allclose(found, head.scores(X), atol=1e-5)
    np.testing.assert_array_equal(given.numpy(), X)


def test_a_program_that_computes_otherwise_is_not_written(tiny, tmp_path, monkeypatch):
    wrong = heads.HeadModule.forward
    monkeypatch.setattr(
        heads.HeadModule, "forward", lambda self, X: wrong(self, X) * 0.99
    )
    with pytest.raises(NetworkError, match=r"differs by 0\.0\d+, more than 0\.0001"):
        export_file(str(tiny / "softmax.h5"), str(tmp_path / "m.pt2"))
    assert os.listdir(tmp_path) == []


class Strange(nn.Module):
    """A network of one operation."""

    def __init__(self, operation):
        super().__init__()
        self.flatten, self.operation = nn.Flatten(), operation

    def forward(self, images):
        return self.operation(self.flatten(images)[:, :5])


def recorded(operation):
    network = wrap(Strange(operation), n_classes=5, name="strange")
    extractor = extraction.Extractor(network, [layers.ROOT], engine="eager")
    with extractor:
        return extraction.record_program(extractor, nn.Identity())


def test_an_operation_that_onnx_has_not_is_named():
    pytest.importorskip("onnxscript", reason="extra onnx")
    program = recorded(torch.special.bessel_j0)
    with pytest.raises(NetworkError, match=r"ONNX has no operation .*bessel_j0"):
        _programs._onnx_bytes(program, "scores", {})


def test_a_network_that_looks_at_its_values_cannot_be_recorded():
    with pytest.raises(NetworkError, match="'strange' cannot be recorded"):
        recorded(lambda rows: rows * (2 if float(rows.sum()) > 0 else 3))


def test_features_in_less_than_fp32_are_refused(tiny, tmp_path):
    head = load_head(tiny / "softmax.h5")
    head.provenance["precision"] = "bf16"
    save_head(tmp_path / "half.h5", head)
    with pytest.raises(ProvenanceError, match="computed in bf16"):
        export_file(str(tmp_path / "half.h5"), str(tmp_path / "m.onnx"))


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.images
@pytest.mark.parametrize(
    "network", ["squeezenet1_1", "efficientnet_lite0", "timm/vit_tiny_patch16_224"]
)
def test_real_networks_agree_with_predict_on_200_images(
    network, caltech101_dir, squeezenet_weights, tmp_path
):
    images = tmp_path / "images"
    for name in ("ant", "beaver", "crab", "dalmatian", "okapi"):
        (images / name).mkdir(parents=True)
        for path in sorted((caltech101_dir / name).glob("*.jpg"))[:40]:
            (images / name / path.name).symlink_to(path)
    weights = {"squeezenet1_1": squeezenet_weights, "efficientnet_lite0": "default"}
    asked = ("--model", network, "--weights", weights.get(network, "random"))
    run("extract", images, "-o", tmp_path / "f.h5", *asked, "--engine", "eager", "-q")
    head, out = tmp_path / "h.h5", tmp_path / "m.onnx"
    run("train-softmax", tmp_path / "f.h5", "-o", head, "--C", 10)
    run("export", head, "-o", out)
    told = predicted(head, images, 5)
    session = session_of(out)
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    asked = scoring.ScoringOptions(device="cpu", engine="eager")
    classifier = scoring.read_classifier(str(head), asked)
    preprocessing = classifier.extractor.preprocessing
    assert len(told) >= 200 - 10
    for one in told:
        with Image.open(images / one["path"]) as image:
            pixels = preprocessing.apply(image.convert("RGB"))
        (row,) = session.run(None, {"pixels": pixels})[0]
        scores = dict(zip(classes, row.tolist(), strict=True))
        assert [scores[name] for name in one["labels"]] == pytest.approx(
            one["scores"], abs=1e-4
        )
