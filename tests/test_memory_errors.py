import pytest
import torch

from v2l.errors import UserError
from v2l.memory_errors import out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to"),
        MemoryError(),
    ],
)
def test_want_of_memory_is_named_with_its_setting(error):
    with pytest.raises(UserError) as told, out_of_memory("embed_images", "embed_images.batch_size", "256 images"):
        raise error
    assert all(part in str(told.value) for part in ("256 images", "`embed_images.batch_size`", "GiB", "free"))


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), out_of_memory("embed_images", "embed_images.batch_size", "1"):
        raise RuntimeError("shapes do not fit")
