"""GroupNorm's kernels in Triton's interpreter, compiled for cards that are not here, and what networks do with them."""

import logging
import os
import subprocess
import sys
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from v2l.configuration.tokenizer_training import Network
from v2l.models import fused_norm, norm_kernels, norm_operations
from v2l.models.blocks import CrossAttention, Downsample, ResidualBlock, SelfAttention, Upsample
from v2l.models.decoder import ConvolutionalDecoder
from v2l.models.encoder import ConvolutionalEncoder
from v2l.models.fused_norm import ActivatedGroupNorm

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETED, reason="run by test_kernels_in_the_interpreter")
compiled = pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
LAST = torch.channels_last


@compiled
def test_kernels_in_the_interpreter():
    """Triton decides when it is imported whether it interprets, so these run in a process of their own."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-o", "addopts=", "-p", "no:cacheprovider", __file__]
    found = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-4000:]
    assert " passed" in found.stdout


def tensors(shape: tuple[int, ...], mean: float = 0.0, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Input, weight, bias and gradient of the output."""
    generator = torch.Generator().manual_seed(0)
    x_BCHW = (torch.randn(shape, generator=generator) + mean).to(dtype).to(memory_format=LAST)
    weight_C, bias_C = torch.randn(2, shape[1], generator=generator).unbind()
    return [x_BCHW, weight_C.clone(), bias_C.clone(), torch.randn(shape, generator=generator).to(dtype)]


def gradients(output: torch.Tensor, inputs: list[torch.Tensor], gradient: torch.Tensor) -> list[torch.Tensor]:
    return [output, *torch.autograd.grad(output, inputs, gradient)]


def operation(*inputs) -> torch.Tensor:
    return norm_operations.group_norm(*inputs)[0]


def errors(
    shape, groups: int, swish: bool, mean: float = 0.0, dtype=torch.float32, norm=norm_operations.FusedGroupNorm.apply
) -> list[float]:
    """Of output and gradients of input, weight and bias: largest error in shares of the largest float64 value."""
    *inputs, gradient = tensors(shape, mean, dtype)
    exact = [tensor.double().requires_grad_() for tensor in inputs]
    normed = F.group_norm(exact[0], groups, *exact[1:], 1e-6)
    wanted = gradients(F.silu(normed) if swish else normed, exact, gradient.double())
    inputs = [tensor.requires_grad_() for tensor in inputs]
    found = gradients(norm(*inputs, groups, 1e-6, swish), inputs, gradient)
    assert [tensor.dtype for tensor in found] == [dtype, dtype, torch.float32, torch.float32]
    assert all(tensor.is_contiguous(memory_format=LAST) for tensor in found[:2])
    return [((a.double() - b).abs().max() / b.abs().max()).item() for a, b in zip(found, wanted, strict=True)]


@interpreted
@pytest.mark.parametrize("swish", [True, False])
@pytest.mark.parametrize(
    "shape, groups",
    # a chunk or several, the last one short; groups of 1, 2, 3 and 4 channels; one group; channels of no power of two
    [((2, 4, 5, 7), 2), ((1, 48, 8, 8), 16), ((2, 12, 9, 9), 4), ((1, 16, 4, 4), 16), ((1, 24, 20, 15), 1)],
)
def test_kernels_agree_with_float64(shape, groups, swish, monkeypatch):
    monkeypatch.setattr(norm_operations, "TILE", 512)  # several a chunk
    assert errors(shape, groups, swish) == errors(shape, groups, swish, norm=operation)
    assert max(errors(shape, groups, swish)) < 2e-6
    *rounded, weight, bias = errors(shape, groups, swish, dtype=torch.bfloat16)
    assert max(rounded) < 2**-7 and max(weight, bias) < 2e-6


@interpreted
def test_no_large_mean_cancels():
    """Float32 holds a mean of 100 to 4e-6, a mean of 10,000 to 5e-4 of the deviation."""
    assert max(errors((2, 16, 20, 20), 4, swish=True, mean=100.0)) < 2e-5
    assert max(errors((2, 16, 20, 20), 4, swish=True, mean=1e4)) < 2e-3


@interpreted
def test_the_operation_keeps_what_compilation_asks_of_it():
    *inputs, _ = tensors((2, 8, 4, 4))
    inputs = [tensor.requires_grad_() for tensor in inputs]
    torch.library.opcheck(norm_operations.group_norm, (*inputs, 4, 1e-6, True), raise_exception=True)


@interpreted
def test_a_network_in_one_graph_asks_once_whether_there_are_kernels():
    assert fused_norm.has_kernels()
    *inputs, _ = tensors((2, 8, 4, 4))

    def function(x_BCHW, weight_C, bias_C):
        assert fused_norm.has_kernels()
        return torch.ops.v2l.group_norm(x_BCHW, weight_C, bias_C, 4, 1e-6, True)[0] + 1

    found = torch.compile(function, backend="aot_eager", fullgraph=True)(*inputs)
    torch.testing.assert_close(found, function(*inputs))


@compiled
@pytest.mark.parametrize("capability", [75, 80, 90, 120])
def test_kernels_compile_for_cards_that_are_not_here(capability):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.compiler import compile as compiled_kernel

    plan = norm_operations.Division.of(torch.empty(1, 128, 128, 128, device="meta"))
    values = {"CHUNKS": plan.chunks, "C": 128, "S": 4, "SWISH": True} | plan.tile
    kernels = (
        *(norm_kernels.moments_of_chunks, norm_kernels.moments_of_groups, norm_kernels.normalise),
        *(norm_kernels.gradient_sums, norm_kernels.gradient_means, norm_kernels.input_gradient_kernel),
    )
    for kernel in kernels:
        types = {"x": "*bf16", "y": "*bf16", "gradient": "*bf16", "x_gradient": "*bf16", "eps": "fp32"}
        types |= {"length": "i32", "rows": "i32"} | {name: "constexpr" for name in values}
        signature = {name: types.get(name, "*fp32") for name in kernel.arg_names}
        constants = {(index,): values[name] for index, name in enumerate(signature) if name in values}
        aligned = {
            (index,): [["tt.divisibility", 16]] for index, kind in enumerate(signature.values()) if kind[0] == "*"
        }
        source = ASTSource(kernel, signature, constants, aligned)
        made = compiled_kernel(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 8})
        assert made.asm["cubin"]
        if "*bf16" in signature.values():
            assert ".global.v4.b32" in made.asm["ptx"], f"{kernel.__name__} reads less than 16 bytes at once"


@compiled
def test_without_kernels_the_device_says_so_once(monkeypatch, caplog):
    def refuse(*_):
        raise RuntimeError("Failed to find C compiler.\nSecond line")

    fused_norm._kernels_run.cache_clear()
    monkeypatch.setattr(norm_operations, "normalised", refuse)
    with caplog.at_level(logging.WARNING):
        assert not fused_norm.has_kernels() and not fused_norm.has_kernels()
    fused_norm._kernels_run.cache_clear()
    assert caplog.text.count("without fused kernels") == 1
    assert "C compiler" in caplog.text and "Second" not in caplog.text


@compiled
@pytest.mark.parametrize("swish", [True, False])
def test_a_cpu_computes_what_pytorch_does(swish):
    x_BCHW, weight_C, bias_C, _ = tensors((2, 12, 5, 5))
    norm = ActivatedGroupNorm(12, 8, swish)
    norm.load_state_dict({"weight": weight_C, "bias": bias_C})
    wanted = F.group_norm(x_BCHW, 4, weight_C, bias_C, 1e-6)  # 4: the largest number of groups that fits
    assert torch.equal(norm(x_BCHW), F.silu(wanted) if swish else wanted)


def networks(network: Network) -> tuple[ConvolutionalEncoder, ConvolutionalDecoder]:
    return ConvolutionalEncoder(network), ConvolutionalDecoder(network, 48)


class Copies(TorchDispatchMode):
    """Counts operations that lay a map of activations down anew."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        names = ("clone", "copy_", "_to_copy", "contiguous", "repeat")
        if function.overloadpacket.__name__ in names and args[0].ndim == 4 and args[0].shape[1] > 3:
            self.found[function.overloadpacket.__name__] += 1
        return function(*args, **(kwargs or {}))


@compiled
def test_every_block_keeps_channels_last_in_both_directions():
    torch.manual_seed(0)
    encoder, decoder = (network.to(memory_format=LAST) for network in networks(Network(image_size=32, channels=32)))
    blocks = (ResidualBlock, SelfAttention, CrossAttention, Downsample, Upsample, ActivatedGroupNorm)
    seen, lost = Counter(), []

    def watch(module, _, output_BCHW):
        def check(direction, tensor_BCHW):
            seen[type(module).__name__, direction] += 1
            if not tensor_BCHW.is_contiguous(memory_format=LAST):
                lost.append((type(module).__name__, direction, tensor_BCHW.stride()))

        check("forward", output_BCHW)
        output_BCHW.register_hook(lambda gradient_BCHW: check("backward", gradient_BCHW))

    for module in (*encoder.modules(), *decoder.modules()):
        if isinstance(module, blocks):
            module.register_forward_hook(watch)
    with Copies() as copies:
        latent_BCHW = encoder(torch.rand(2, 3, 32, 32))
        image_BCHW = decoder(latent_BCHW, torch.randn(2, 5, 48))
        image_BCHW.backward(torch.randn_like(image_BCHW))
    assert lost == []
    assert all(seen[block.__name__, direction] for block in blocks for direction in ("forward", "backward"))
    assert copies.found == {}


@compiled
@pytest.mark.parametrize("half, share", [(False, 0.7), (True, 0.44)])
def test_a_gpu_keeps_no_normalised_values_for_the_backward_pass(monkeypatch, half, share):
    """Bytes that a forward pass on a GPU would keep of the paper's network, by tensors that exist in name alone."""
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)

    def kept_bytes(fused: bool) -> int:
        monkeypatch.setattr(fused_norm, "has_kernels", lambda: fused)
        storages = {}

        def keep(tensor):
            if not isinstance(tensor, torch.nn.Parameter):
                storages[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
            return tensor

        with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
            encoder, decoder = networks(Network())
            image_BCHW = torch.empty(64, 3, 128, 128).to(memory_format=LAST)
            with saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cuda", torch.bfloat16, half):
                decoder(encoder(image_BCHW), torch.empty(64, 5, 48))
        return sum(storage.nbytes() for storage in storages.values())

    assert kept_bytes(fused=True) < share * kept_bytes(fused=False)
