"""Losses of steps that nobody has read yet: reading waits for the device, so many steps are read at once."""

from collections.abc import Iterator

import torch
from torch import Tensor

Losses = dict[str, Tensor | float]


class UnreadLosses:
    """The losses of the steps since the last `read`; those of the device are scalars of float32."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Losses]] = []

    def add(self, step: int, losses: Losses) -> None:
        """Take in the losses of `step`, and wait for nothing."""
        self._waiting.append((step, losses))

    def read(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Each step with its losses as numbers, in order; the device is waited for once."""
        waiting, self._waiting = self._waiting, []
        scalars = [value for _, losses in waiting for value in losses.values() if isinstance(value, Tensor)]
        values = iter(torch.stack(scalars).tolist() if scalars else ())
        for step, losses in waiting:
            yield step, {name: next(values) if isinstance(value, Tensor) else value for name, value in losses.items()}
