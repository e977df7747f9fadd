"""Running networks without data and without arithmetic: what a pass would compute and keep."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, conv_backward_flop, conv_flop_count

from v2l.models.fused_norm import as_on_gpus

WITHOUT_DATA = FakeTensorMode(allow_non_fake_inputs=True)


class PassCost(NamedTuple):
    """FLOPs of a pass, and bytes that it keeps for its backward pass beside parameters."""

    flops: float
    kept_bytes: float


class LinearCost(NamedTuple):
    """What grows with the images of a pass, and what every pass costs (the projection of a whole codebook)."""

    per_image: PassCost
    per_pass: PassCost

    def flops(self, images: float) -> float:
        """FLOPs of one pass over `images`."""
        return self.per_pass.flops + images * self.per_image.flops


def pass_cost(run: Callable[[], Any], *networks: nn.Module) -> PassCost:
    """The cost of `run`, whose tensors have shapes and types alone; the `networks` are real and stay as they are."""
    kept: dict[int, Tensor] = {}
    parts = [part for network in networks for part in (*network.parameters(), *network.buffers())]
    owned = {WITHOUT_DATA.from_tensor(part).untyped_storage()._cdata for part in parts}

    def keep(tensor: Tensor) -> Tensor:
        if isinstance(tensor, FakeTensor) and tensor.untyped_storage()._cdata not in owned:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    counter = flop_counter()
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with WITHOUT_DATA, as_on_gpus(), counter, hooks:
        run()
    return PassCost(counter.get_total_flops(), sum(tensor.untyped_storage().nbytes() for tensor in kept.values()))


def flop_counter() -> FlopCounterMode:
    """PyTorch's counter of a sum alone, which is right about the gradients of grouped convolutions."""
    corrected = {torch.ops.aten.convolution_backward: _convolution_backward}
    counter = FlopCounterMode(display=False, custom_mapping=corrected)
    counter.mod_tracker = cast(Any, _OneSum())
    return counter


class _OneSum(nullcontext):
    """In place of the counter's record of modules: it takes time, and no gradient of a module's leaf input."""

    parents = ("Global",)


def meta_flops(run: Callable[[], Any]) -> float:
    """FLOPs of `run`, a forward pass of networks on device `meta`."""
    with torch.no_grad(), flop_counter() as counter:
        run()
    return counter.get_total_flops()


def _convolution_backward(*shapes: Any, out_shape: Any, **settings: Any) -> int:
    """As PyTorch's counter has it, which takes the gradient of a grouped convolution for that of a full one."""
    gradient, inputs, weight, *_, transposed, _, groups, wanted = shapes
    if groups == 1:
        return conv_backward_flop(*shapes, out_val=out_shape, **settings)
    return conv_flop_count(inputs, weight, gradient, transposed) * sum(wanted[:2])


def linear_cost(run: Callable[[int], Any], *networks: nn.Module, few: int = 2, more: int = 4) -> LinearCost:
    """The cost of `run(images)` as a line through two sizes of a batch."""
    first, second = (pass_cost(partial(run, size), *networks) for size in (few, more))
    slopes = [(high - low) / (more - few) for low, high in zip(first, second, strict=True)]
    constants = [low - few * slope for low, slope in zip(first, slopes, strict=True)]
    return LinearCost(PassCost(*slopes), PassCost(*constants))


def proportional_cost(run: Callable[[int], Any], *networks: nn.Module, images: int = 4) -> LinearCost:
    """The cost of `run(images)` where all of it grows with the images."""
    found = pass_cost(lambda: run(images), *networks)
    return LinearCost(PassCost(*(value / images for value in found)), PassCost(0, 0))
