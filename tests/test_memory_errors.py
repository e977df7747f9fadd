"""Running out of memory is told as the setting that needs less, and nothing else is."""

import pytest
import torch

from v2l.errors import UserError
from v2l.memory_errors import is_out_of_memory, out_of_memory

TOO_LARGE = 2**50


def test_a_refused_allocation_names_what_was_computed_and_the_setting():
    with (
        pytest.raises(UserError) as caught,
        out_of_memory("training of v2l", "train_tokenizer.micro_batch_size", "32 images"),
    ):
        torch.empty(TOO_LARGE)
    text = str(caught.value)
    assert text.startswith("training of v2l: no memory left for 32 images at once, with ") and " GiB free" in text
    assert "lower `train_tokenizer.micro_batch_size`" in text


def test_what_a_gpu_refuses_counts_and_other_errors_pass():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory")) and is_out_of_memory(MemoryError())
    with pytest.raises(RuntimeError, match="shapes"), out_of_memory("a", "b", "c"):
        raise RuntimeError("shapes differ")
