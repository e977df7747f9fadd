"""What a stage says when memory runs out: how much it needed at once, what is free, and the setting that helps."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from v2l.errors import UserError
from v2l.runtime import device

CPU_REFUSALS = ("DefaultCPUAllocator", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation on the GPU or the CPU failed."""
    refused = isinstance(error, RuntimeError) and any(words in str(error) for words in CPU_REFUSALS)
    return refused or isinstance(error, torch.OutOfMemoryError | MemoryError)


def lacks_memory(error: BaseException, path: Path) -> bool:
    """Whether `error` came for want of memory for what the file at `path` holds.

    A damaged file may ask for any size. It is to blame where as many bytes as it has can still be had.
    """
    if not is_out_of_memory(error):
        return False
    try:
        torch.empty(path.stat().st_size, dtype=torch.uint8)
    except (RuntimeError, MemoryError):
        return True
    return False


def free_memory() -> tuple[int, int]:
    """Bytes of this stage's device that are free now, and all it has; the CPU's are the machine's."""
    if device().type == "cuda":
        return torch.cuda.mem_get_info()
    page = os.sysconf("SC_PAGE_SIZE")
    return os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page


@contextmanager
def out_of_memory(what: str, setting: str, items: str) -> Iterator[None]:
    """Turns running out of memory into a UserError.

    `what` was computed (`training of v2l`), `items` at once (`32 images`); `setting` is the key that makes them fewer.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        free, total = (f"{size / 2**30:.1f} GiB" for size in free_memory())
        raise UserError(
            f"{what}: no memory left for {items} at once, with {free} of {total} free",
            f"as many as the {'GPU' if device().type == 'cuda' else 'CPU'} has memory for",
            f"lower `{setting}`",
        ) from error
