"""What this machine lets the process use: cores and devices.

No torch at import: decoding processes and `--help` do without it.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from cnnfeat.errors import DeviceError

if TYPE_CHECKING:
    import torch

_CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Return the cores this process may use, at least 1.

    The scheduler's mask, and the quota of a container (cgroup v2) rounded up.
    """
    if hasattr(os, "sched_getaffinity"):
        n_cores = len(os.sched_getaffinity(0))
    else:
        n_cores = os.cpu_count() or 1
    return max(1, min(n_cores, _cgroup_cores(n_cores)))


def most_workers() -> int:
    """Return how many decoding processes may be asked for: 1,024, or 4 for each core.

    More would only use up the machine's processes and memory.
    """
    return max(1024, 4 * usable_cores())


def _cgroup_cores(n_cores: int) -> int:
    """Return the cores that a container is allowed; all of them without a quota."""
    try:
        quota, period = _CGROUP_CPU_MAX.read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # no such file, or "max"
        return n_cores


def resolve_device(device: str) -> torch.device:
    """Return the torch device that `auto`, `cpu`, `cuda` or `cuda:N` stands for.

    `auto` is the first CUDA device where there is one, else the CPU.

    Raises
    ------
    DeviceError
        If the name is none of these, or no such CUDA device is available.
    """
    import torch  # a second and more, which `--help` and workers must not pay

    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return torch.device("cuda:0" if n_cuda else "cpu")
    if device == "cpu":
        return torch.device("cpu")
    match = re.fullmatch(r"cuda(?::(\d+))?", device)
    if match is None:
        raise DeviceError(
            f"unknown device {device!r}: expected auto, cpu, cuda or cuda:N"
        )
    if int(match[1] or 0) >= n_cuda:
        found = f"{n_cuda} CUDA device(s) found" if n_cuda else "no CUDA device found"
        raise DeviceError(f"device {device!r} is not there: {found}; use --device cpu")
    return torch.device(f"cuda:{match[1] or 0}")
