"""Pickles that run a command, in every place where weights are read: refused, not run, and no advice to run them."""

import gzip
import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from v2l.assets.conversions import read_arrays
from v2l.configuration.model_entries import LLM
from v2l.encoders.clip_weights import load_weights as load_clip
from v2l.encoders.conse import load_classifier
from v2l.encoders.sentence_encoder import load_sentence_encoder
from v2l.errors import UserError
from v2l.io.checkpoints import newest_checkpoint
from v2l.io.pickles import read_checkpoint, read_tensor, read_texts
from v2l.io.state_dicts import read_state_dict
from v2l.llm.language_model import load_llm
from v2l.metrics.frechet import load_feature_network
from v2l.models.lpips_network import load_lpips
from v2l.models.masked_lm import FrozenMaskedLM
from v2l.models.weights_file import read_weights_file

CPU = torch.device("cpu")
ADVICE = ("weights_only", "arbitrary code", "trust", "allow_pickle", "add_safe_globals", "allowlist")


class Payload:
    """Makes the file `EXECUTED` when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch EXECUTED",)


class Evaluated:
    """Does the same by way of a builtin."""

    def __reduce__(self):
        return eval, ("open('EXECUTED', 'w')",)


def saved(value: object, zipped: bool = True) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def array_of(value: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([value], dtype=object), allow_pickle=True)
    return stream.getvalue()


def program_with(value: object) -> bytes:
    """What a TorchScript archive looks like, with a pickle of another origin in it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("data.pkl", "constants.pkl"):
            archive.writestr(f"weights/{name}", pickle.dumps(value, protocol=2))
        archive.writestr("weights/code/__torch__.py", "")
        archive.writestr("weights/version", "3")
    return stream.getvalue()


CONTENTS: dict[str, Callable[[object], bytes]] = {
    "zip": lambda payload: saved({"weight": payload}),
    "old format": lambda payload: saved({"weight": payload}, zipped=False),
    "plain pickle": lambda payload: pickle.dumps({"weight": payload}),
    "TorchScript": program_with,
    "numpy": array_of,
    "gzip": lambda payload: gzip.compress(pickle.dumps(payload)),
}


def in_folder(name: str, load: Callable[[Path], object]) -> Callable[[Path, Path], object]:
    """A load of the tiny experiment's model folder `name`, whose weights are the hostile file."""

    def loaded(path: Path, tiny: Path) -> object:
        folder = path.parent / "model"
        shutil.copytree(tiny / name, folder)
        (folder / "model.safetensors").unlink()
        shutil.copy(path, folder / "pytorch_model.bin")
        return load(folder)

    return loaded


def with_adapter(path: Path, tiny: Path) -> object:
    folder = path.parent / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]}')
    shutil.copy(path, folder / "adapter_model.bin")
    return load_llm("x", LLM(path=str(tiny / "llama")), CPU, adapter=folder)


READERS: dict[str, Callable[[Path, Path], object]] = {
    "state dict": lambda path, _: read_state_dict(path, "key"),
    "checkpoint": lambda path, _: read_checkpoint(path),
    "tensor": lambda path, _: read_tensor(path),
    "texts": lambda path, _: read_texts(path),
    "arrays": lambda path, _: read_arrays(path),
    "tokenizer": lambda path, _: read_weights_file(path),
    "CLIP": lambda path, _: load_clip(torch.nn.Linear(2, 2), "ViT-L-14", path),
    "ConSE": lambda path, _: load_classifier(str(path), CPU),
    "LPIPS": lambda path, _: load_lpips("alex", path),
    "Inception": lambda path, _: load_feature_network("inception-v3-fid", path, CPU),
    "EfficientNet": lambda path, _: load_feature_network("efficientnet-lite0", path, CPU),
    "language model": in_folder("llama", lambda path: load_llm("x", LLM(path=str(path)), CPU)),
    "masked language model": in_folder("roberta", FrozenMaskedLM.load),
    "sentence encoder": in_folder("roberta", lambda path: load_sentence_encoder(path, CPU)),
    "adapter": with_adapter,
}


@pytest.mark.parametrize("payload", [Payload, Evaluated])
@pytest.mark.parametrize("form", CONTENTS)
@pytest.mark.parametrize("reader", READERS)
def test_no_reader_runs_a_pickle_or_advises_to(
    tmp_path, tiny_folder, monkeypatch, capfd, caplog, reader, form, payload
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pt"
    path.write_bytes(CONTENTS[form](payload()))
    with pytest.raises(UserError) as caught:
        READERS[reader](path, tiny_folder)
    said = f"{caught.value}\n{caplog.text}\n{''.join(capfd.readouterr())}".replace(str(tmp_path), "")
    assert "\n" not in str(caught.value) and not [words for words in ADVICE if words in said]
    assert not (tmp_path / "EXECUTED").exists()


@pytest.mark.parametrize("form", CONTENTS)
def test_no_checkpoint_of_a_training_does(tmp_path, monkeypatch, caplog, form):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "step-000000001.pt").write_bytes(CONTENTS[form](Payload()))
    assert newest_checkpoint(tmp_path) is None
    assert "is broken" in caplog.text and not [words for words in ADVICE if words in caplog.text]
    assert not (tmp_path / "EXECUTED").exists()


def test_the_payloads_run_where_nothing_is_checked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for payload in (Payload(), Evaluated()):
        pickle.loads(pickle.dumps(payload))
        (tmp_path / "EXECUTED").unlink()


def test_the_inception_file_reaches_torch_fidelity_as_a_copy_of_its_tensors(tiny_folder, monkeypatch):
    """torch-fidelity unpickles its file in full: it must never see the user's."""
    given = []
    monkeypatch.setattr(
        "v2l.metrics.frechet.FeatureExtractorInceptionV3",
        lambda *_, feature_extractor_weights_path: given.append(feature_extractor_weights_path) or torch.nn.Identity(),
    )
    load_feature_network("inception-v3-fid", tiny_folder / "inception.pth", CPU)
    (copy,) = given
    state = torch.load(copy, weights_only=True)
    assert state.keys() == read_state_dict(tiny_folder / "inception.pth", "key").keys()


def test_weights_that_grow_when_unpacked_are_refused(tmp_path):
    """PyTorch stores tensors as they are: one that is compressed can be a thousand times its size."""
    with (
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
        zipfile.ZipFile(io.BytesIO(saved({"weight": torch.zeros(1 << 20)}))) as plain,
    ):
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    for read in (read_checkpoint, read_tensor, lambda path: read_state_dict(path, "key")):
        with pytest.raises(UserError, match="bomb.pt is refused: its tensors are compressed"):
            read(tmp_path / "bomb.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_tensor_has_no_more_values_than_are_stored(tmp_path, zipped):
    path = tmp_path / "wide.pt"
    path.write_bytes(saved({"layers": [{"weight": torch.zeros(1).expand(1 << 40)}]}, zipped))
    with pytest.raises(UserError, match="a tensor has 1,099,511,627,776 values, of which fewer are stored"):
        read_checkpoint(path)
    path.write_bytes(saved({"whole": torch.arange(6.0).reshape(2, 3).T, "row": torch.arange(3)[None]}, zipped))
    assert read_checkpoint(path)["whole"].shape == (3, 2)
