"""Whether the tensors of a file are those of a network: every key at its shape, as finite numbers, and no other."""

from collections.abc import Collection, Mapping
from typing import TypeGuard

import torch
from torch import Tensor, nn

from v2l.errors import UserError

Shape = tuple[int | None, ...]  # None: any size


def fitting(
    state: Mapping[str, object], shapes: Mapping[str, Shape], path: object, remedy: str, integers: Collection[str] = ()
) -> dict[str, Tensor]:
    """The tensors of the file `path` in float32, those of `integers` as they are, if they are those of `shapes`.

    Else raises UserError that lists all that are not, with `remedy`.
    """
    problems, fitted = [], {}
    for key in sorted(shapes.keys() | state.keys()):
        expected, found = shapes.get(key), state.get(key)
        if found is None or expected is None or not _fits(found, expected, key in integers):
            kind = "missing" if found is None else "surplus" if expected is None else "wrong"
            problems.append(f"{kind}: {key}: expected {shape_text(expected)}, found {found_text(found)}")
        elif isinstance(found, Tensor):
            fitted[key] = found.detach() if key in integers else found.detach().float()
    if problems:
        listing = "\n  ".join(problems)
        raise UserError(
            f"{path} is not a checkpoint of this network; nothing was loaded:\n  {listing}\n",
            "every key of the network at its shape, and no other",
            remedy,
        )
    require_finite(fitted, path)
    return fitted


def require_finite(state: Mapping[str, Tensor], path: object) -> None:
    """Raise UserError that names the tensors of the file `path` which hold an infinity or what is not a number."""
    if broken := sorted(key for key, tensor in state.items() if not tensor.isfinite().all()):
        raise UserError(
            f"{path} has values that are not finite: {', '.join(broken)}",
            "the weights of a finished training",
            "get the file again",
        )


def shapes_of(network: nn.Module) -> dict[str, Shape]:
    """The shape of every tensor of a network's state."""
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


def shape_text(shape: Shape | None) -> str:
    """A shape as messages show it."""
    return "nothing" if shape is None else f"({', '.join('any' if size is None else str(size) for size in shape)})"


def found_text(value: object) -> str:
    """What a file has in place of a tensor, as messages show it."""
    if value is None or _is_plain(value):
        return shape_text(None if value is None else value.shape)
    if isinstance(value, Tensor):
        return f"{shape_text(value.shape)} of {str(value.dtype).removeprefix('torch.')}, {value.layout}"
    return "no tensor"


def _fits(tensor: object, shape: Shape, is_integer: bool) -> bool:
    if not _is_plain(tensor, is_integer) or tensor.ndim != len(shape):
        return False
    return all(size in (None, found) for size, found in zip(shape, tensor.shape, strict=True))


def _is_plain(value: object, is_integer: bool = False) -> TypeGuard[Tensor]:
    """Whether `value` is a dense tensor on the CPU, of floating-point numbers or of 64-bit integers."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided or value.device.type != "cpu":
        return False
    return value.dtype is torch.int64 if is_integer else value.is_floating_point()
