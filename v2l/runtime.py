"""Device, threads and random numbers: the same for every stage."""

from __future__ import annotations  # torch takes two seconds to import, and many a job needs random numbers alone

import os
import sys
import zlib
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from v2l.gpu_support import require_code

if TYPE_CHECKING:
    import torch


def device() -> torch.device:
    """The GPU if there is one, else the CPU. Raises UserError for a GPU that the installed torch has no code for."""
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    _check_card()
    return torch.device("cuda")


@cache
def _check_card() -> None:
    import torch

    if torch.version.cuda:
        require_code(torch.cuda.get_arch_list(), torch.cuda.get_device_name(), torch.cuda.get_device_capability())


def compute_in_one_thread() -> None:
    """Let every operation on the CPU, in this process and those it starts, run in one thread.

    How many share an operation decides in which order sums are added up, and so their last bits: results would depend
    on the number of cores. More cores are for more jobs, shards and ranks at once.
    """
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    if torch := sys.modules.get("torch"):  # which has read them already
        torch.set_num_threads(1)


def rng(seed: int, *keys: str | int) -> np.random.Generator:
    """Random numbers that depend on `seed` and `keys` alone (an image id, a purpose), never on order or host."""
    return np.random.default_rng([seed, *(zlib.crc32(str(key).encode()) for key in keys)])
