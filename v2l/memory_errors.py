"""What users are told where memory does not suffice."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from v2l.errors import UserError

GIB = 2**30
SIGNS = ("out of memory", "not enough memory", "can't allocate memory")  # of torch's errors on GPUs and CPUs


@contextmanager
def out_of_memory(what: str, setting: str, items: str) -> Iterator[None]:
    """Turn want of memory into a UserError that names `what` was done to which `items`, what is free, and `setting`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in SIGNS):
            raise
        raise UserError(
            f"{what}: not enough memory for {items} at once ({_free()})",
            f"a batch that fits; `{setting}` says how large it is",
            f"lower `{setting}`, or use a device with more memory",
        ) from None


def _free() -> str:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return f"{free / GIB:.1f} of the GPU's {total / GIB:.1f} GiB are free"
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{free / GIB:.1f} GiB of this machine are free"
