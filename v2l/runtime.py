"""Device and random numbers: the same for every stage."""

import zlib

import numpy as np
import torch


def device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def rng(seed: int, *keys: str | int) -> np.random.Generator:
    """Random numbers that depend on `seed` and `keys` alone (an image id, a purpose), never on order or host."""
    return np.random.default_rng([seed, *(zlib.crc32(str(key).encode()) for key in keys)])
