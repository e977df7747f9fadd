"""TF32 where no GPU is: products and convolutions whose factors are rounded as a GPU's tensor cores round them."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
# Positions of the factors among each operator's arguments.
PRODUCTS = {
    aten.linear.default: (0, 1),
    aten.matmul.default: (0, 1),
    aten.mm.default: (0, 1),
    aten.bmm.default: (0, 1),
    aten.addmm.default: (1, 2),
    aten.baddbmm.default: (1, 2),
    aten._scaled_dot_product_flash_attention_for_cpu.default: (0, 1, 2),
}
CONVOLUTIONS = {aten.convolution.default: (0, 1), aten.convolution_backward.default: (0, 1, 2)}
DROPPED_BITS = 13  # of the 23 of a float32's fraction: TF32 keeps 10


class RoundedProducts(TorchDispatchMode):
    """While it is active, float32 factors on the CPU are rounded wherever `v2l.precision` would allow TF32 on a GPU.

    Sums are kept in float32, as tensor cores keep them. So the same scopes decide as on a GPU; what differs is the
    order of sums, and that attention's inner product is rounded at its inputs alone.
    """

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        places: tuple[int, ...] = ()
        if torch.backends.cuda.matmul.allow_tf32:
            places = PRODUCTS.get(operator, ())
        if torch.backends.cudnn.allow_tf32:
            places = CONVOLUTIONS.get(operator, places)
        factors = [rounded(value) if place in places else value for place, value in enumerate(args)]
        return operator(*factors, **(kwargs or {}))


def rounded(tensor: Tensor) -> Tensor:
    """Float32 values to the nearest of 10 bits of fraction, ties to even; others as they are."""
    if tensor.dtype != torch.float32:
        return tensor
    bits = tensor.detach().clone(memory_format=torch.preserve_format).view(torch.int32)
    bits += (1 << DROPPED_BITS - 1) - 1 + (bits >> DROPPED_BITS & 1)
    bits &= -1 << DROPPED_BITS
    return bits.view(torch.float32)
