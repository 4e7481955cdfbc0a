"""Signals to a run that trains: what is kept, what is told, and how it goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from faults import wait_until
from tiny import make_tiny_network

from cnnfeat.cli.main import cli
from cnnfeat.errors import OutputError
from cnnfeat.finetune import FinetuneOptions, finetune_network
from cnnfeat.networks._weights import read_state_dict
from cnnfeat.outputs import locked_output

CHILD = Path(__file__).with_name("finetune_in_child.py")
TINY = (
    *("--model", "squeezenet1_1", "--device", "cpu", "--workers", "0"),
    *("--epochs", "6", "--batch-size", "4", "--lr", "0.05", "--dropout", "0.2"),
    *("--train-per-class", "5", "--no-frozen", "--quiet", "--patience", "0"),
)
STEPS_PER_EPOCH = 4  # 15 images in batches of 4


class Run:
    """One run in a process of its own."""

    def __init__(self, images, output, *arguments, stalls_at=0, n_processes=0):
        self.output = output
        self.part, self.lock = (Path(f"{output}.{end}") for end in ("part", "lock"))
        self.steps = output.with_name(f"{output.name}.steps")
        self.steps.unlink(missing_ok=True)
        launcher = [
            *("-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(n_processes)),
        ]
        command = [
            *(sys.executable, *(launcher if n_processes else []), CHILD, self.steps),
            *(stalls_at, images, "-o", output, *TINY, *arguments),
        ]
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(
                    map(str, (CHILD.parent, CHILD.parents[1]))
                ),
                "OMP_NUM_THREADS": "1",
                "CUDA_VISIBLE_DEVICES": "",
            },
        )

    def pids(self):
        """The process of each step so far."""
        text = self.steps.read_text() if self.steps.exists() else ""
        return [int(line) for line in text.splitlines()]

    def wait_for_steps(self, n):
        wait_until(lambda: len(self.pids()) >= n or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.communicate()

    def end(self):
        """Wait for the end; return the status, what was printed and what was told."""
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, out, err


def trained(images, output, *arguments):
    """Weights of a run in this process that ends by itself."""
    with pytest.MonkeyPatch.context() as patch:
        name = "cnnfeat.finetune._material.load_network"
        patch.setattr(name, lambda *_, **__: make_tiny_network())
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in the children: sums to the bit
        command = ["finetune", images, "-o", output, *TINY, *arguments]
        result = CliRunner().invoke(cli, [str(part) for part in command])
        torch.set_num_threads(n_threads)
    assert result.exit_code == 0, result.output
    return read_state_dict(output)[0]


def assert_identical(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def whole(colour_dir, tmp_path_factory):
    """Weights of a run that nobody stopped."""
    return trained(colour_dir, tmp_path_factory.mktemp("whole") / "w.safetensors")


@pytest.mark.parametrize(
    ("number", "n_steps"),
    [(signal.SIGINT, 1), (signal.SIGTERM, 7), (signal.SIGHUP, 12)],
)
def test_a_signal_keeps_every_step_and_resume_goes_on(
    colour_dir, tmp_path, whole, number, n_steps
):
    run = Run(colour_dir, tmp_path / "w.safetensors")
    run.wait_for_steps(n_steps)
    run.process.send_signal(number)
    status, out, err = run.end()
    assert (status, out) == (128 + number, "")
    (line,) = err.splitlines()
    assert line.startswith("cnnfeat: interrupted: ") and "--resume goes on" in line
    assert run.part.exists() and not run.output.exists() and not run.lock.exists()
    at = torch.load(run.part, weights_only=True)["state"]["at"]
    assert at["epoch"] * STEPS_PER_EPOCH + at["step"] == len(run.pids()) >= n_steps
    assert_identical(trained(colour_dir, run.output, "--resume"), whole)
    assert not run.part.exists() and not run.lock.exists()


def test_a_second_signal_leaves_at_once_and_the_last_checkpoint_holds(
    colour_dir, tmp_path, whole
):
    run = Run(colour_dir, tmp_path / "w.safetensors", stalls_at=8)
    run.wait_for_steps(8)
    run.process.send_signal(signal.SIGINT)
    time.sleep(1.0)  # else both would count as one
    assert run.process.poll() is None
    run.process.send_signal(signal.SIGINT)
    status, out, err = run.end()
    assert (status, out) == (130, "") and err.strip() == "cnnfeat: interrupted"
    assert run.part.exists() and not run.output.exists()
    assert_identical(trained(colour_dir, run.output, "--resume"), whole)


@pytest.mark.slow
def test_a_signal_to_one_of_several_processes_ends_all(colour_dir, tmp_path):
    expected = together(colour_dir, tmp_path / "whole.safetensors")
    run = Run(colour_dir, tmp_path / "w.safetensors", n_processes=2)
    run.wait_for_steps(10)
    os.kill(run.pids()[-1], signal.SIGTERM)
    status, out, err = run.end()
    told = [line for line in err.splitlines() if line.startswith("cnnfeat:")]
    assert status != 0 and out == ""
    assert len(told) == 1 and "interrupted: " in told[0]
    assert run.part.exists() and not run.output.exists()
    assert_identical(together(colour_dir, run.output, "--resume"), expected)


def together(images, output, *arguments):
    """Weights of two processes that end by themselves."""
    status, _, err = Run(images, output, *arguments, n_processes=2).end()
    assert status == 0, err
    return read_state_dict(output)[0]


def test_two_runs_on_one_output_the_second_is_told(colour_dir, tmp_path):
    output = tmp_path / "w.safetensors"
    options = FinetuneOptions(device="cpu", workers=0, overwrite=True)
    busy = pytest.raises(OutputError, match="another process is writing w")
    with locked_output(output), busy:
        finetune_network(str(colour_dir), str(output), options)
    assert list(tmp_path.iterdir()) == []
