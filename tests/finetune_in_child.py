"""`cnnfeat finetune` with a miniature network, as a process of its own that can stall.

    python tests/finetune_in_child.py STEPS STALLS_AT ARGUMENT...

STEPS is a file that gets a line with the process's id before each step; the step
STALLS_AT, counted from 1, takes a minute (0: none).
"""

import os
import sys
import time
from pathlib import Path

import torch
from tiny import make_tiny_network

from cnnfeat.cli.main import main
from cnnfeat.finetune import _material as material
from cnnfeat.training import Trainer

if __name__ == "__main__":
    steps_path, stalls_at = Path(sys.argv[1]), int(sys.argv[2])
    sys.argv = ["cnnfeat", "finetune", *sys.argv[3:]]
    torch.set_num_threads(1)
    material.load_network = lambda *_, **__: make_tiny_network()
    step, n_steps = Trainer._step, 0

    def noted_step(self, *arguments):
        global n_steps
        n_steps += 1
        with steps_path.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(60 if n_steps == stalls_at else 0.02)
        return step(self, *arguments)

    Trainer._step = noted_step
    main()
