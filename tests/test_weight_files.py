"""Files of weights as users bring them: read for their tensors alone, or refused in a line that says what they are."""

import gzip
import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from v2l.errors import UserError
from v2l.io.checkpoints import newest_checkpoint, save_checkpoint
from v2l.io.file_kinds import kind_of
from v2l.io.pickles import read_checkpoint, read_tensor
from v2l.io.state_dicts import misfits, read_state_dict
from v2l.models.weights_file import read_weights_file

STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2, dtype=torch.float16)}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1710671599\n"


class Payload:
    """A pickle that would run a command when it is loaded."""

    def __reduce__(self):
        return os.system, ("touch EXECUTED",)


def saved(value: object, **how) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **how)
    return stream.getvalue()


def packed(name: str, content: bytes, kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=stream, mode="w") as archive:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def arrays() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=np.zeros(2))
    return stream.getvalue()


NO_WEIGHTS = {
    "pointer": (POINTER, "Git LFS pointer.*`git lfs pull`"),
    "annex": (b"/annex/objects/SHA256E-s10--ab.pt\n", "`git annex get`"),
    "empty": (b"", "is empty"),
    "page": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
    "page2": (b"\xef\xbb\xbf<HTML>", "web page"),
    "answer": (b'{"error": "Entry not found"}', "JSON text"),
    "denied": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML text"),
    "words": (b"Invalid username or password.", "a text, which begins 'Invalid username"),
    "gzip": (gzip.compress(saved(STATE)), "gzip"),
    "tar": (packed("weights.pt", saved(STATE), "tar"), "a tar file"),
    "zip": (packed("weights.pt", saved(STATE), "zip"), "zip file without PyTorch weights"),
    "npz": (arrays(), "numpy archive"),
    "keras": (b"\x89HDF\r\n\x1a\n" + b"\0" * 90, "HDF5"),
    "zeros": (bytes(4096), "zeros alone"),
    "cut": (saved(STATE)[:400], "cut off or damaged"),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("name", NO_WEIGHTS)
def test_what_is_no_file_of_weights_is_called_by_its_name(tmp_path, name, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(NO_WEIGHTS[name][0])
    for read in (lambda path: read_state_dict(path, "key `w`"), read_checkpoint, read_tensor, read_weights_file):
        with pytest.raises(UserError, match=NO_WEIGHTS[name][1]) as caught:
            read(path)
        assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        saved(STATE),
        saved(STATE, _use_new_zipfile_serialization=False),
        saved({"state_dict": STATE, "epoch": 3, "optimizer": {"state": {}, "param_groups": []}}),
        saved({"model": {f"module.{key}": tensor for key, tensor in STATE.items()}}),
    ],
)
def test_tensors_are_read_from_every_way_of_saving_them(tmp_path, content):
    path = tmp_path / "weights.bin"
    path.write_bytes(content)
    assert kind_of(path) is None
    found = read_state_dict(path, "key")
    assert found.keys() == STATE.keys() and all(torch.equal(found[key], tensor) for key, tensor in STATE.items())


def test_safetensors_are_known_by_their_content(tmp_path):
    save_file(STATE, tmp_path / "weights.bin")
    assert read_state_dict(tmp_path / "weights.bin", "key").keys() == STATE.keys()
    content = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-5])
    with pytest.raises(UserError, match=r"cut\.safetensors is refused: its safetensors data are cut off or damaged"):
        read_state_dict(tmp_path / "cut.safetensors", "key")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"state_dict": STATE, "ema": STATE}, "2 sets of weights .state_dict, ema."),
        ({"epoch": 3}, "no weights; its entries: epoch"),
        ({"a": STATE["layer.bias"] / 0}, "not finite.* a"),
        ([1], "it holds a list, not a dict"),
        ({"x": Payload()}, "names (posix|os).system, which is not run"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_holds_no_single_network_is_refused(tmp_path, monkeypatch, value, words, zipped):
    monkeypatch.chdir(tmp_path)
    Path("weights.pt").write_bytes(saved(value, _use_new_zipfile_serialization=zipped))
    with pytest.raises(UserError, match=words) as caught:
        read_state_dict(Path("weights.pt"), "key")
    assert not Path("EXECUTED").exists() and "weights_only" not in str(caught.value)


class Half(torch.nn.Module):
    """A module with a nested one, a buffer, and two names for one storage."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).half()
        self.turned = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3).T)
        self.register_buffer("side", torch.tensor(7))

    def forward(self, x):
        return self.inner(x.half()) @ self.turned.half().T


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("traced", [True, False])
def test_a_program_gives_its_tensors_and_is_not_run(tmp_path, traced):
    network = Half().eval()
    program = torch.jit.trace(network, torch.zeros(1, 3)) if traced else torch.jit.script(network)
    program.save(str(tmp_path / "program.pt"))
    found = read_state_dict(tmp_path / "program.pt", "key")
    expected = network.state_dict()
    assert misfits(found, expected) == ""
    assert all(torch.equal(found[key], tensor) and found[key].dtype == tensor.dtype for key, tensor in expected.items())


@pytest.mark.parametrize("member", ["weights/constants.pkl", "weights/x/constants.pkl", "weights/code/a.py"])
def test_a_member_of_programs_does_not_switch_safe_reading_off(tmp_path, monkeypatch, member):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": STATE, "x": Payload()}, "weights.pt")
    with zipfile.ZipFile("weights.pt", "a") as archive:
        archive.writestr(member, b"")
        archive.writestr("weights/constants.pkl", b"") if "code" in member else None
    with pytest.raises(UserError, match="weights.pt is refused"):
        read_state_dict(Path("weights.pt"), "key")
    assert not Path("EXECUTED").exists()


def test_deep_nesting_is_named(tmp_path):
    path = tmp_path / "deep.pt"
    path.write_bytes(b"\x80\x02" + b"]" * 5 + pickle.dumps([]) + b"a" * 5)
    with pytest.raises(UserError):
        read_state_dict(path, "key")
    length = 200_000
    header = b'{"__metadata__":{"v2l":"' + b"[" * length + b'"}}'
    path = tmp_path / "deep.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(UserError, match="cannot be read"):
        read_weights_file(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["new", "old", "safetensors"]), st.integers(0, 3000), st.binary(min_size=1, max_size=8))
def test_no_damage_gives_a_traceback(tmp_path, how, place, noise):
    path = tmp_path / "weights.pt"
    if how == "safetensors":
        save_file(STATE, path)
    else:
        path.write_bytes(saved(STATE, _use_new_zipfile_serialization=how == "new"))
    content = bytearray(path.read_bytes())
    place %= len(content)
    content[place : place + len(noise)] = noise
    path.write_bytes(content)
    try:
        read_state_dict(path, "key")
    except UserError as error:
        assert "\n" not in str(error) and "weights_only" not in str(error)


@pytest.mark.parametrize("content", [b"", b"\n", saved(STATE)[:300], saved(Payload())])
def test_a_broken_checkpoint_is_passed_over_without_torchs_advice(tmp_path, caplog, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path, 1, {"step": 1})
    (tmp_path / "step-000000002.pt").write_bytes(content)
    assert newest_checkpoint(tmp_path) == {"step": 1}
    (message,) = [record.getMessage() for record in caplog.records]
    assert "step-000000002.pt is broken" in message and "weights_only" not in message and "\n" not in message
    assert not Path("EXECUTED").exists()
