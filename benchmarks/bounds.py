"""What the machine can do at most: decoding, computing and writing, each alone.

Prints one JSON object: {"images_per_second": …}. Run by `extract.py`.
"""

import argparse
import json
import os
import time
from collections import deque
from functools import partial
from pathlib import Path

import numpy as np

from cnnfeat.channel import EndOfChannel, read_ahead
from cnnfeat.extraction._engines import EagerEngine, EngineError
from cnnfeat.extraction._graphs import CompileEngine, OpenVINOEngine
from cnnfeat.extraction._tap_module import TapModule, stored_shape
from cnnfeat.images import default_workers, list_images, load_batches
from cnnfeat.layers import resolve_layers
from cnnfeat.networks import load_network


def decode_rate(images, network, n_images):
    """Images a second by as many processes as there are cores, after they started."""
    image_list = list_images(images)
    load = partial(
        load_batches,
        image_list,
        network.weights.preprocessing,
        batch_size=32,
        workers=default_workers(),
    )
    n_done, started = 0, None
    with read_ahead(lambda is_wanted: load(is_wanted=is_wanted), 2) as batches:
        while n_done < n_images:
            try:
                batch = batches.get()
            except EndOfChannel:
                break
            if started is None:  # the first batch waited for the processes to start
                started = time.perf_counter()
            else:
                n_done += len(batch.ok)
        return n_done / (time.perf_counter() - started)


def forward_rates(network, taps, pool, batch_sizes, seconds):
    """Images a second on synthetic batches, by engine and batch size.

    torch.compile, which takes a minute to start, is tried where there is no OpenVINO.
    """
    module = TapModule(network, taps, pool=pool)
    threads = default_workers()
    engines = {
        "eager": lambda size: EagerEngine(module),
        "openvino": lambda size: OpenVINOEngine(module, size, threads),
        "compile": lambda size: CompileEngine(module, size),
    }
    rates = {}
    for name, build in engines.items():
        if name == "compile" and any("openvino" in key for key in rates):
            continue
        for size in batch_sizes:
            images = module.example(size).cpu().numpy()
            try:
                rate = forward_rate(build(size), images, seconds)
            except EngineError as error:
                print(error, flush=True)
                break
            rates[f"{name} {size}"] = rate
    return rates


def forward_rate(engine, images, seconds):
    engine(images)
    in_flight, n_done, started = deque(), 0, time.perf_counter()
    while time.perf_counter() - started < seconds or in_flight:
        if time.perf_counter() - started < seconds:
            in_flight.append(engine.start(images))
            if len(in_flight) < engine.depth:
                continue
        engine.finish(in_flight.popleft())
        n_done += len(images)
    return n_done / (time.perf_counter() - started)


def disk_rate(folder, row_bytes, n_rows):
    """Rows a second into a plain file, synced at the end."""
    path = Path(folder) / "disk-alone"
    block = np.random.default_rng(0).bytes(row_bytes * 32)
    started = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(max(1, n_rows // 32)):
            file.write(block)
        os.fsync(file.fileno())
    rate = max(1, n_rows // 32) * 32 / (time.perf_counter() - started)
    path.unlink()
    return rate


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("images")
    parser.add_argument("folder")
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--layer")
    parser.add_argument("--pool", default="none")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", type=int, action="append")
    parser.add_argument("--forward-only", action="store_true")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--n-images", type=int, default=2000)
    chosen = parser.parse_args()
    network = load_network(chosen.model, weights=chosen.weights, device=chosen.device)
    taps = resolve_layers(network, [chosen.layer] if chosen.layer else [])
    sizes = chosen.batch_size or (
        (64, 256) if network.device.type == "cuda" else (8, 32)
    )
    forward = forward_rates(network, taps, chosen.pool, sizes, chosen.seconds)
    if chosen.forward_only:
        print(json.dumps({"forward": forward}))
        return
    decode = decode_rate(chosen.images, network, chosen.n_images)
    row_bytes = 4 * int(np.prod(stored_shape(taps[0], chosen.pool, "center")))
    disk = disk_rate(chosen.folder, row_bytes, chosen.n_images)
    print(json.dumps({"forward": forward, "decode": decode, "disk": disk}))


if __name__ == "__main__":
    main()
