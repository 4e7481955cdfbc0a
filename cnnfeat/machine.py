"""What this machine lets the process use: cores, devices, memory.

No torch at import: decoding processes and `--help` do without it.
"""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cnnfeat.errors import DeviceError

if TYPE_CHECKING:
    import torch

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_THREAD_COUNTS = ("OMP_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS")


def usable_cores() -> int:
    """Return the cores this process may use, at least 1.

    The scheduler's mask, and the quota of the process's cgroup (v1 and v2), and of
    those above it, rounded up.
    """
    return max(1, min([_scheduled_cores(), *_quotas()]))


def _scheduled_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quiet_threads() -> None:
    """Let threads wait without spinning, and be no more than a quota allows.

    Where another process is busy, OpenMP's threads spin while they wait for the one
    that does not run, and a forward pass takes many times as long. OpenMP, the linear
    algebra and the compiler read this from the environment when they are loaded, so it
    is set before torch is imported; child processes inherit it. What the user has set
    stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    n_cores = usable_cores()
    if n_cores < _scheduled_cores():  # of the quota nobody else knows
        for name in _THREAD_COUNTS:
            os.environ.setdefault(name, str(n_cores))


def most_workers() -> int:
    """Return how many decoding processes may be asked for: 1,024, or 4 for each core.

    More would only use up the machine's processes and memory.
    """
    return max(1024, 4 * usable_cores())


def _quotas() -> Iterator[int]:
    """Yield the cores that each cgroup with a quota allows, rounded up."""
    for folder in _cgroup_folders():
        try:
            if (folder / "cpu.max").exists():
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota = (folder / "cpu.cfs_quota_us").read_text()
                period = (folder / "cpu.cfs_period_us").read_text()
            n_cores = math.ceil(int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):  # no quota there, or "max"
            continue
        if n_cores > 0:  # version 1 says -1 for none
            yield n_cores


def _cgroup_folders() -> Iterator[Path]:
    """Yield where the quotas of this process's cgroup, and of those above, may stand.

    Inside a container the path may be the host's, of which only the root is there.
    """
    try:
        lines = _OWN_CGROUPS.read_text().splitlines()
    except (OSError, ValueError):
        lines = ["0::/"]
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = _CGROUPS / controllers
        own = mount / path.lstrip("/")
        yield from (f for f in (own, *own.parents) if f.is_relative_to(mount))


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out, of the machine or of a GPU, in any library."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # torch's CPU allocator has no class for it; and torch is not imported to ask.
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
        or "out of memory" in str(error)
    )


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
        raise DeviceError(f"device {device!r} is not there: {found}; use `device=cpu`")
    return torch.device(f"cuda:{match[1] or 0}")
