"""Device, precision and random numbers: the same for every stage."""

import zlib

import numpy as np
import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def device() -> torch.device:
    """The GPU if there is one, else the CPU. TF32 stays off: nearest codes are decided in full float32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def convolution_format() -> torch.memory_format:
    """How networks of convolutions and GroupNorm lie in memory: channels last on CPUs, several times faster there.

    Not on GPUs: PyTorch's GroupNorm works with channels first there and would turn every activation round twice.
    """
    return torch.channels_last if device().type == "cpu" else torch.contiguous_format


def rng(seed: int, *keys: str | int) -> np.random.Generator:
    """Random numbers that depend on `seed` and `keys` alone (an image id, a purpose), never on order or host."""
    return np.random.default_rng([seed, *(zlib.crc32(str(key).encode()) for key in keys)])
