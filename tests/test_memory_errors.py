"""Running out of memory is told as the setting that needs less, and nothing else is."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

from v2l.encoders.sentence_encoder import load_sentence_encoder
from v2l.errors import UserError
from v2l.io.checkpoints import newest_checkpoint, save_checkpoint
from v2l.io.pickles import read_checkpoint, read_texts
from v2l.io.state_dicts import read_state_dict
from v2l.memory_errors import is_out_of_memory, lacks_memory, out_of_memory
from v2l.models.masked_lm import FrozenMaskedLM, load_lm_tokenizer

TOO_LARGE = 2**50
REFUSALS = [
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
]


def refusing(error: Exception):
    def refuse(*_, **__):
        raise error

    return refuse


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


@pytest.mark.parametrize("error", REFUSALS)
def test_a_checkpoint_that_does_not_fit_ends_the_training_that_would_fall_back(tmp_path, monkeypatch, error):
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"step": step})
    monkeypatch.setattr("torch.load", refusing(error))
    with pytest.raises(type(error)):
        newest_checkpoint(tmp_path)


def test_a_file_lacks_memory_only_where_its_own_size_is_not_to_be_had(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"small, and it asks for petabytes")
    assert not lacks_memory(MemoryError(), path) and not lacks_memory(ValueError(), path)
    os.truncate(path, 2**43)  # sparse
    assert lacks_memory(MemoryError(), path) and not lacks_memory(ValueError(), path)


@pytest.mark.parametrize("lacking", [True, False])
def test_a_file_is_refused_for_damage_and_not_for_want_of_memory(tmp_path, monkeypatch, lacking):
    if lacking:
        monkeypatch.setattr("torch.empty", refusing(REFUSALS[1]))
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    np.save(tmp_path / "a.npy", np.array(["a"]))
    expected = MemoryError if lacking else UserError
    monkeypatch.setattr("torch.load", refusing(MemoryError()))
    monkeypatch.setattr("numpy.lib.format.read_array", refusing(MemoryError()))
    with pytest.raises(expected):
        read_checkpoint(tmp_path / "a.pt")
    with pytest.raises(expected):
        read_texts(tmp_path / "a.npy")
    monkeypatch.setattr("v2l.io.state_dicts.load_file", refusing(REFUSALS[1]))
    with pytest.raises(RuntimeError if lacking else UserError):
        read_state_dict(tmp_path / "a.safetensors", "key")


@pytest.mark.parametrize("error", REFUSALS)
def test_a_folder_of_a_model_is_not_refused_for_want_of_memory(tmp_path, monkeypatch, error):
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refusing(error))
    with pytest.raises(type(error)):
        load_sentence_encoder(tmp_path, torch.device("cpu"))
    with pytest.raises(type(error)):
        load_lm_tokenizer(tmp_path)
    monkeypatch.setattr("v2l.models.masked_lm.load_lm_tokenizer", lambda _: SimpleNamespace(mask_token_id=0))
    monkeypatch.setattr(transformers.AutoModelForMaskedLM, "from_pretrained", refusing(error))
    with pytest.raises(type(error)):
        FrozenMaskedLM.load(tmp_path)
