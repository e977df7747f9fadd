"""Batches that fit into memory: a size of the stage's own choice is halved where it does not, the user's is named."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from v2l.memory_errors import free_memory, is_out_of_memory, out_of_memory

GIB = 2**30


class FittingBatches:
    """Rows computed from items, as many at once as fit: at first all, after a failure half of those that failed."""

    def __init__(self, what: str, items: str, setting: str, chosen: int | None):
        """`what` is done to `items`; `chosen` is the user's value of key `setting`, None if it is the stage's."""
        self._what, self._items, self._setting, self._chosen = what, items, setting, chosen
        self._most: int | None = None

    def __call__(self, compute: Callable[[Any], Tensor], items: Any) -> Tensor:
        """`compute(items)` of a sequence, in parts where memory asks for it; UserError where no smaller one is left."""
        parts, start = [], 0
        while start < len(items):
            part = items[start : start + (self._most or len(items))]
            try:
                parts.append(compute(part))
                start += len(part)
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self._chosen is not None or len(part) == 1:
                    with out_of_memory(self._what, self._setting, f"{len(part)} {self._items}"):
                        raise
            # Here the error, which holds what was computed, is gone.
            self._most = len(part) // 2
            free, total = (size / GIB for size in free_memory())
            message = "%s: no memory for %d %s at once, with %.1f of %.1f GiB free; going on with %d"
            logging.warning(message, self._what, len(part), self._items, free, total, self._most)
        return parts[0] if len(parts) == 1 else torch.cat(parts)
